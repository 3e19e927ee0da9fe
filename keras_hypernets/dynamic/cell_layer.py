"""CellLayer: base class of layers such as HyperLSTM, a GatedRNN that creates its own cell."""

import keras

from keras_hypernets.constructor_arguments import ClassSignature, arguments_of
from keras_hypernets.dynamic.gated_rnn import GatedRNN
from keras_hypernets.validation import rate


class CellLayer(GatedRNN):
    """Base class of the layers that replace `keras.layers.LSTM`, `GRU` and `SimpleRNN`.

    The weights have the names and the order of `keras.layers.RNN(cell)`: move them with
    `get_weights` and `set_weights`. (Weight files do not fit, since Keras keys them by class.)

    A subclass sets `cell_class`, whose arguments are the layer's first ones, and `forwarded`, the
    names of the cell's attributes that the layer has too.

    Args:
        *arguments: the arguments of the cell.
        dropout: rate in [0, 1) of the dropout on the inputs, in training only. Each call draws one
            mask `(batch, features)` for all steps. Default 0.
        return_sequences: whether to return the output of every step or the last one. Default
            `False`.
        return_state: whether to return the last states after the output. Default `False`.
        go_backwards: whether to read and return the sequence in reverse. Default `False`.
        stateful: whether the last states of a batch are the initial states of the next. Needs a
            fixed batch size. Default `False`.
        unroll: whether to unroll the loop. Needs a fixed number of steps. Default `False`.
        zero_output_for_mask: whether masked steps output zeros instead of the previous output.
            Default `False`.
        checkpoint_every: number of steps between two states kept for the gradient, to save memory
            with long sequences: see `GatedRNN`. Default `None`.
        activity_regularizer: regularizer of the output. Default `None`.
        **kwargs: the arguments of the cell by name, and those of `keras.Layer`. `dtype`,
            `trainable` and `seed` apply to layer and cell.
    """

    cell_class = None
    forwarded = ()

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        for name in cls.forwarded:
            setattr(cls, name, _attribute_of_cell(name))
        arguments = {name: p for name, p in arguments_of(cls).items() if name != "cell"}
        if cls.cell_class is not None and cls.__init__ is CellLayer.__init__:
            arguments = {**arguments_of(cls.cell_class), **arguments}
        cls.__signature__ = ClassSignature(arguments.values())

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
        **kwargs,
    ):
        taken = arguments_of(self.cell_class)
        both = ("dtype", "trainable")
        of_cell = {name: kwargs[name] for name in kwargs if name in taken or name in both}
        of_layer = {name: kwargs[name] for name in kwargs if name not in taken}
        super().__init__(
            self.cell_class(*arguments, name="cell", **of_cell),
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            zero_output_for_mask=zero_output_for_mask,
            checkpoint_every=checkpoint_every,
            activity_regularizer=activity_regularizer,
            **of_layer,
        )
        self.input_spec = keras.InputSpec(ndim=3)
        self.dropout = rate("dropout", dropout)

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
    """Base class of the layers around a `HyperCell`."""

    depends_on_input = True

    def generated_weights(self, sequences, initial_state=None, mask=None):
        """Returns the weights generated at each step, first to last even with `go_backwards`.

        See `generated_weights` of the cell.
        """
        return self.cell.generated_weights(sequences, initial_state, mask)


def _attribute_of_cell(name):
    return property(lambda layer: getattr(layer.cell, name), doc=f"`{name}` of the cell.")
