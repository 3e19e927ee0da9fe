"""HyperLSTM: what a user writes instead of `keras.layers.LSTM`."""

import keras

from keras_hypernets.dynamic.hyper_lstm_cell import HyperLSTMCell
from keras_hypernets.validation import rate


def _of_cell(name):
    return property(lambda layer: getattr(layer.cell, name), doc=f"`{name}` of the cell.")


@keras.saving.register_keras_serializable(package="keras_hypernets")
class HyperLSTM(keras.layers.RNN):
    """LSTM layer whose weights a small LSTM changes at every step.

    Runs a `HyperLSTMCell`, whose docstring has the equations, over sequences. Same weights, names
    and order as `keras.layers.RNN(HyperLSTMCell(...))`: `set_weights` with the other's
    `get_weights()` moves them. (Files of weights do not: Keras keys them by class.)

    Args:
        units: positive integer, size of the output.
        hyper_units: positive integer, size of the small LSTM. Default 128.
        embedding_dim: positive integer, size of the embeddings z. Default 16.
        dropout: rate in [0, 1) of the dropout on the inputs, one mask `(batch, features)` for all
            steps of a sequence, drawn anew at each call, only in training. Default 0.
        return_sequences: whether the output has every step or only the last. Default `False`.
        return_state: whether the last states are returned after the output. Default `False`.
        go_backwards: whether the sequence is read and returned in reverse. Default `False`.
        stateful: whether the states of a batch are the initial states of the next; needs a fixed
            batch size. Default `False`.
        unroll: whether the loop is unrolled; needs a fixed number of steps. Default `False`.
        zero_output_for_mask: whether masked steps output zeros, or repeat the output of the step
            before. Default `False`.
        activity_regularizer: regularizer of the output. Default `None`.
        name: name of the layer.
        **kwargs: all others of `HyperLSTMCell`: `weight_generation`, `layer_norm`,
            `recurrent_dropout`, `hyper_initializer`, `kernel_regularizer`, ... `dtype`,
            `trainable` and `seed` hold for layer and cell. All are attributes of `.cell`, the
            first of them of the layer too.

    Call arguments:
        sequences: `(batch, time, features)`.
        initial_state: list of the four states `[h, c, hyper_h, hyper_c]`, default zeros.
        mask: `(batch, time)` booleans, `True` where a step counts. A masked step keeps all states.
        training: whether dropout is applied.

    Returns:
        `(batch, time, units)` if `return_sequences`, else `(batch, units)`; with `return_state`
        followed by the four last states.

    Raises:
        ValueError: for an argument out of its range, or states of another number or shape.

    Example:

    >>> layer = keras_hypernets.HyperLSTM(32, hyper_units=8, return_sequences=True)
    >>> tuple(layer(keras.ops.ones((2, 10, 5))).shape)
    (2, 10, 32)

    Reference:
        [Ha et al., 2016](https://arxiv.org/abs/1609.09106), appendix A.2.2.
    """

    units = _of_cell("units")
    hyper_units = _of_cell("hyper_units")
    embedding_dim = _of_cell("embedding_dim")
    weight_generation = _of_cell("weight_generation")
    layer_norm = _of_cell("layer_norm")
    layer_norm_epsilon = _of_cell("layer_norm_epsilon")
    forget_bias = _of_cell("forget_bias")
    activation = _of_cell("activation")
    recurrent_activation = _of_cell("recurrent_activation")
    use_bias = _of_cell("use_bias")
    recurrent_dropout = _of_cell("recurrent_dropout")
    hyper_recurrent_dropout = _of_cell("hyper_recurrent_dropout")
    hyper_initializer = _of_cell("hyper_initializer")

    def __init__(
        self,
        units,
        hyper_units=128,
        embedding_dim=16,
        *,
        dropout=0.0,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        unroll=False,
        zero_output_for_mask=False,
        activity_regularizer=None,
        name=None,
        **kwargs,
    ):
        shared = {key: kwargs[key] for key in ("dtype", "trainable") if key in kwargs}
        super().__init__(
            HyperLSTMCell(units, hyper_units, embedding_dim, name="hyper_lstm_cell", **kwargs),
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            zero_output_for_mask=zero_output_for_mask,
            activity_regularizer=activity_regularizer,
            name=name,
            **shared,
        )
        self.supports_masking = True  # later versions of Keras turn it off in RNN
        self.input_spec = keras.InputSpec(ndim=3)
        self.dropout = rate("dropout", dropout)

    def inner_loop(self, sequences, initial_state, mask, training=False):
        if (
            training
            and any(r > 0 for r, _ in self.cell.noise_rates.values())
            and keras.backend.backend() == "jax"
            and not self.unroll
        ):
            raise ValueError(
                "`recurrent_dropout` draws a new mask at each step, which Keras' loop can do on "
                "the JAX backend only with `unroll=True`. Received: unroll=False"
            )
        if training and self.dropout:
            batch, _, features = keras.ops.shape(sequences)
            sequences *= keras.random.dropout(
                keras.ops.ones((batch, 1, features), sequences.dtype),
                self.dropout,
                seed=self.cell.seed_generator,
            )
        return super().inner_loop(sequences, initial_state, mask, training=training)

    def generated_weights(self, sequences, initial_state=None, mask=None):
        """The weights generated at every step, from first to last even with `go_backwards`.

        See `HyperLSTMCell.generated_weights`.
        """
        return self.cell.generated_weights(sequences, initial_state, mask)

    def get_config(self):
        config = super().get_config()
        del config["cell"]
        activity_regularizer = keras.regularizers.serialize(self.activity_regularizer)
        return {
            **self.cell.get_config(),
            **config,
            "dropout": self.dropout,
            "activity_regularizer": activity_regularizer,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**config)
