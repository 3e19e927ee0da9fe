"""The table of everything that has to work wherever a Keras layer does: a new layer is a new row.

Written with Keras, NumPy and pytest alone, so that it runs on every backend:

    KERAS_BACKEND=jax pytest tests/compatibility
"""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import pytest
from keras import ops
from random_weights import randomize

from keras_hypernets import (
    GatedCell,
    GatedRNN,
    HyperConv2D,
    HyperDense,
    HyperGRU,
    HyperGRUCell,
    HyperLSTM,
    HyperLSTMCell,
    HyperNetwork,
    HyperSimpleRNN,
    HyperSimpleRNNCell,
    KernelGenerator,
    LayerNormLSTM,
    LayerNormLSTMCell,
)
from keras_hypernets.models.char_lm import CharacterEmbedding

SMALL = {"hyper_units": 4, "embedding_dim": 2}
FULL = {"weight_generation": "full", "layer_norm": False, **SMALL}


@keras.saving.register_keras_serializable(package="test")
class MinimalGatedCell(GatedCell):
    """The cell of docs/guides/custom_cells.md."""

    state_names = ("h",)

    def build(self, input_shape):
        self.kernel = self.add_gate_weight("kernel", (2, input_shape[-1], self.units))
        self.recurrent_kernel = self.add_gate_weight(
            "recurrent_kernel", (2, self.units, self.units), "recurrent"
        )
        if self.use_bias:
            self.add_gate_weight("bias", (2, self.units), "bias")
        self.add_layer_norm("gate", (2, self.units))

    @property
    def linear_maps(self):
        return {"gates": {"x": self.kernel, "h": self.recurrent_kernel}}

    def tail(self, pre, state, weights, dropout_masks):
        gates = self.add_bias(pre["gates"], weights, "bias")
        f, g = ops.unstack(self.normalize(gates, weights, "gate"), 2)
        f = self.recurrent_activation(f)
        g = self.activation(g) * dropout_masks.get("candidate", 1.0)
        h = f * state["h"] + (1 - f) * g
        return h, {"h": h}


@dataclass(frozen=True)
class Row:
    """One layer or cell.

    Attributes:
        name: of the row.
        kind: "cell", "sequence" (a recurrent layer) or "static".
        weights: how many numbers a model of it has, which follows from the docstrings' shapes.
        make: `make(dtype=None, **options)` makes the layer or cell.
        shape: of an input, without the batch.
        vocabulary: of integer inputs, or `None`: they are real numbers.
        connect: `connect(layer, x)`: what a model of the layer computes.
        parted: how many weights more a model has where Keras parts what layers share.
    """

    name: str
    kind: str
    weights: int
    make: Callable
    shape: tuple = (5, 3)
    vocabulary: int | None = None
    connect: Callable = lambda layer, x: layer(x)
    parted: int = 0

    def layer(self, dtype=None, **options):
        """The layer; for a cell `keras.layers.RNN` around it."""
        if self.kind == "cell":
            return keras.layers.RNN(self.make(dtype=dtype), dtype=dtype, **options)
        return self.make(dtype=dtype, **options)

    def model(self, dtype=None, **options):
        """A model of the layer with random weights."""
        x = keras.Input(self.shape, dtype="int32" if self.vocabulary else None)
        model = keras.Model(x, self.connect(self.layer(dtype, **options), x))
        randomize(model)
        return model

    def x(self, batch=2, seed=0):
        rng = np.random.default_rng(seed)
        if self.vocabulary:
            return rng.integers(self.vocabulary, size=(batch, *self.shape)).astype("int32")
        return rng.standard_normal((batch, *self.shape)).astype("float32")


def generator(shape, dtype):
    return KernelGenerator(shape, 3, hidden_units=4, dtype=dtype)


def dense_of_tiles(dtype):
    layer = keras.layers.Dense(6, dtype=dtype, name="target")
    layer.build((None, 4))
    return layer


def two_of_one_generator(layer, x):
    return HyperDense(8, layer.generator, dtype=layer.dtype_policy)(layer(x))


def dense(dtype):
    """A target of 4 * 5 + 5, 2 * 5 + 2 * 5, and 5 * 3 + 3 numbers."""
    stack = [
        keras.layers.Dense(5, "tanh", dtype=dtype),
        # With less, batches of 2 lead to gradients beyond float16.
        keras.layers.BatchNormalization(epsilon=0.1, dtype=dtype),
        keras.layers.Dense(3, dtype=dtype),
    ]
    return keras.Sequential([keras.Input((4,)), *stack], name="target")


ROWS = [
    # inputs 3, units 8, hyper units 4
    Row("HyperLSTM", "sequence", 1064, lambda **o: HyperLSTM(8, **SMALL, **o)),
    Row("HyperGRU", "sequence", 816, lambda **o: HyperGRU(8, **SMALL, **o)),
    Row("HyperSimpleRNN", "sequence", 236, lambda **o: HyperSimpleRNN(8, **SMALL, **o)),
    Row("LayerNormLSTM", "sequence", 464, lambda **o: LayerNormLSTM(8, **o)),
    Row(
        "GatedRNN",
        "sequence",
        300,
        lambda dtype=None, **o: GatedRNN(LayerNormLSTMCell(6, dtype=dtype), dtype=dtype, **o),
    ),
    Row("keras.layers.LSTM", "sequence", 384, lambda **o: keras.layers.LSTM(8, **o)),  # to compare
    Row("HyperLSTMCell", "cell", 1064, lambda **o: HyperLSTMCell(8, **SMALL, **o)),
    Row("HyperLSTMCell, full", "cell", 1168, lambda **o: HyperLSTMCell(8, **FULL, **o)),
    Row("HyperGRUCell", "cell", 816, lambda **o: HyperGRUCell(8, **SMALL, **o)),
    Row("HyperGRUCell, full", "cell", 888, lambda **o: HyperGRUCell(8, **FULL, **o)),
    Row("HyperSimpleRNNCell", "cell", 236, lambda **o: HyperSimpleRNNCell(8, **SMALL, **o)),
    Row("HyperSimpleRNNCell, full", "cell", 292, lambda **o: HyperSimpleRNNCell(8, **FULL, **o)),
    Row("LayerNormLSTMCell", "cell", 464, lambda **o: LayerNormLSTMCell(8, **o)),
    Row("LSTMCell", "cell", 384, lambda **o: LayerNormLSTMCell(8, layer_norm=False, **o)),
    Row("a cell of one's own", "cell", 80, lambda **o: MinimalGatedCell(4, layer_norm=True, **o)),
    # projection 3*4*3 + 4*3, output (3+1)*9*5, z 3, bias 5
    Row(
        "HyperConv2D",
        "static",
        236,
        lambda **o: HyperConv2D(5, 3, embedding_dim=3, padding="same", **o),
        (6, 6, 4),
    ),
    # projection 3*2*3 + 2*3, output (3+1)*9*6, z 3, bias 6
    Row(
        "HyperConv2D, grouped",
        "static",
        249,
        lambda **o: HyperConv2D(6, 3, embedding_dim=3, groups=2, strides=2, **o),
        (6, 6, 4),
    ),
    # projection 3*2*4 + 2*4, output (4+1)*9*5, z 3 for each of 2x2 tiles
    Row(
        "HyperConv2D, tiles",
        "static",
        269,
        lambda dtype=None, **o: HyperConv2D(
            10, 3, generator((3, 3, 2, 5), dtype), use_bias=False, dtype=dtype, **o
        ),
        (6, 6, 4),
    ),
    # projection 3*4*3 + 4*3, output (3+1)*5, z 3, bias 5
    Row("HyperDense", "static", 76, lambda **o: HyperDense(5, embedding_dim=3, **o), (6, 4)),
    # projection 3*4*4 + 4*4, output (4+1)*4, z 3 for 1 and for 2 tiles, bias 4 and 8
    Row(
        "two HyperDense of one generator",
        "static",
        105,
        lambda dtype=None, **o: HyperDense(4, generator((4, 4), dtype), dtype=dtype, **o),
        (4,),
        connect=two_of_one_generator,
        parted=84,
    ),
    # projection 3*2*4 + 2*4, output (4+1)*3, z 3 for each of 2x2 tiles, bias 6
    Row(
        "HyperNetwork, tiles",
        "static",
        65,
        lambda dtype=None, **o: HyperNetwork(
            dense_of_tiles(dtype), generator=generator((2, 3), dtype), base=None, **o
        ),
        (4,),
    ),
    # target 63, z 2, hidden 2*3 + 3, output 3*(4+5 + 5+3 + 5 + 5 + 5 + 3)
    Row(
        "HyperNetwork",
        "static",
        63 + 2 + 9 + 3 * 35,
        lambda dtype=None, **o: HyperNetwork(
            dense(dtype),
            hidden_units=(3,),
            activation="tanh",
            embedding_dim=2,
            generation="low_rank",
            rank=1,
            **o,
        ),
        (4,),
    ),
    # statistics 10, z 4 for each of 4 chunks, hidden 4*3 + 3, output 3*16, scales and offsets 6 + 6
    Row(
        "HyperNetwork without a base",
        "static",
        10 + 16 + 15 + 48 + 12,
        lambda dtype=None, **o: HyperNetwork(
            dense(dtype),
            hidden_units=(3,),
            activation="tanh",
            chunk_size=16,
            chunk_embedding_dim=4,
            base=None,
            **o,
        ),
        (4,),
    ),
    # projection 3*2*3 + 2*3, output (3+1)*4*5
    Row("KernelGenerator", "static", 104, lambda **o: KernelGenerator((2, 2, 2, 5), 3, **o), (3,)),
    Row("CharacterEmbedding", "static", 12, lambda **o: CharacterEmbedding("abc", 4, **o), (5,), 3),
]


def rows(*kinds, quick=None, without=()):
    """Runs a test for every row, or for those of some kinds.

    Args:
        quick: names of the rows for which it is not a slow test. Default: all.
        without: names of rows for which there is nothing to test.
    """
    return pytest.mark.parametrize(
        "row",
        [
            pytest.param(row, id=row.name, marks=slow_unless(quick is None or row.name in quick))
            for row in ROWS
            if (not kinds or row.kind in kinds) and row.name not in without
        ],
    )


def slow_unless(quick):
    return () if quick else pytest.mark.slow


def for_rows(*names):
    """Says of a test without parameters for which rows it runs."""

    def mark(test):
        test.names_of_rows = names
        return test

    return mark


def row_of(name):
    return next(row for row in ROWS if row.name == name)


def rows_named(*names):
    return pytest.mark.parametrize("row", [row_of(name) for name in names], ids=names)
