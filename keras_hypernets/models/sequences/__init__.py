"""Models of sequences: a chain of recurrent layers, with an encoder before and a head after it.

A chain is a functional or Sequential model with one input and one output whose layers follow one
another. Characters (`models.char_language_model`) and strokes (`models.stroke_model`) are two
cases. A chain of your own needs

- recurrent layers of this package, `keras.layers.LSTM`, or `keras.layers.RNN` with a cell of these,
  all with `return_sequences=True`;
- before, between and after them any layers that treat all steps alike, with and without a time
  axis: Activation, Dense, Dropout, Embedding, LayerNormalization, TimeDistributed, or a layer of
  your own with the attribute `stepwise = True`;
- each layer called once, on the output of the one before, and no masks;
- for `generate`, a last layer with a method `sample(outputs, temperature, seed, position)`, which
  draws the next input `(batch, ...)` from the outputs of one step `(batch, ...)`, with keras.ops
  only. `sample` of this module and `models.strokes.MixtureDensity` show how.
"""

from keras_hypernets.models.sequences.generation import generate
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
    "generate",
    "initial_states",
    "run",
    "sample",
    "state_history",
    "state_sizes",
    "step",
    "step_model",
    "with_states",
]
