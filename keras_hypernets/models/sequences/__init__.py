"""Runs chains of recurrent layers with explicit states."""

from keras_hypernets.models.sequences.sampling import sample
from keras_hypernets.models.sequences.state_history import state_history
from keras_hypernets.models.sequences.stepping import (
    initial_states,
    run,
    state_sizes,
    step,
    step_model,
    with_states,
)

__all__ = [
    "initial_states",
    "run",
    "sample",
    "state_history",
    "state_sizes",
    "step",
    "step_model",
    "with_states",
]
