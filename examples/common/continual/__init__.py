"""Learning tasks one after the other: tasks, training and figures."""
