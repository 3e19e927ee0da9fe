"""The time loop of a `GatedCell` with its gradient, one module for each backend that has one."""
