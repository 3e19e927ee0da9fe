"""What layers such as HyperLSTM have in common: a GatedRNN that makes its own cell."""

import keras

from keras_hypernets.dynamic.gated_rnn import GatedRNN
from keras_hypernets.validation import rate


class CellLayer(GatedRNN):
    """Base of the layers that a user writes in the place of Keras' LSTM, GRU and SimpleRNN.

    Same weights, names and order as `keras.layers.RNN(cell)`: `set_weights` with the other's
    `get_weights()` moves them. (Files of weights do not: Keras keys them by class.)

    A subclass has a `cell_class` and says in `forwarded` which of the cell's attributes are the
    layer's too.

    Args:
        *arguments: the first arguments of the cell.
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
        checkpoint_every: number of steps between two states kept for the gradient, to save memory
            of long sequences: see `GatedRNN`. Default `None`.
        activity_regularizer: regularizer of the output. Default `None`.
        name: name of the layer.
        **kwargs: all others of the cell. `dtype`, `trainable` and `seed` hold for layer and cell.
    """

    cell_class = None
    forwarded = ()

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        for name in cls.forwarded:
            setattr(cls, name, _attribute_of_cell(name))

    def __init__(
        self,
        *arguments,
        dropout=0.0,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        unroll=False,
        zero_output_for_mask=False,
        checkpoint_every=None,
        activity_regularizer=None,
        name=None,
        **kwargs,
    ):
        shared = {key: kwargs[key] for key in ("dtype", "trainable") if key in kwargs}
        super().__init__(
            self._make_cell(*arguments, name="cell", **kwargs),
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            zero_output_for_mask=zero_output_for_mask,
            checkpoint_every=checkpoint_every,
            activity_regularizer=activity_regularizer,
            name=name,
            **shared,
        )
        self.input_spec = keras.InputSpec(ndim=3)
        self.dropout = rate("dropout", dropout)

    def _make_cell(self, *arguments, **kwargs):
        try:
            return self.cell_class(*arguments, **kwargs)
        except ValueError as error:  # a user has made no cell
            names = self.cell_class.__name__, type(self).__name__
            raise ValueError(str(error).replace(*names)) from error

    def inner_loop(self, sequences, initial_state, mask, training=False):
        if training and self.dropout:
            batch, _, features = keras.ops.shape(sequences)
            sequences = sequences * keras.random.dropout(
                keras.ops.ones((batch, 1, features), sequences.dtype),
                self.dropout,
                seed=self.cell.seed_generator,
            )
        return super().inner_loop(sequences, initial_state, mask, training=training)

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


class HyperCellLayer(CellLayer):
    """Base of the layers whose cell has generated weights."""

    def __init__(self, units, hyper_units=None, embedding_dim=16, **kwargs):
        super().__init__(units, hyper_units, embedding_dim, **kwargs)

    def generated_weights(self, sequences, initial_state=None, mask=None):
        """The weights generated at every step, from first to last even with `go_backwards`.

        See `generated_weights` of the cell.
        """
        return self.cell.generated_weights(sequences, initial_state, mask)


def _attribute_of_cell(name):
    return property(lambda layer: getattr(layer.cell, name), doc=f"`{name}` of the cell.")
