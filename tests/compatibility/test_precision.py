"""Half precision, and double."""

import keras
import numpy as np
import pytest
from backends import BACKEND, QUICK
from keras import ops
from random_weights import randomize
from rows import ROWS, row_of, rows, rows_named, slow_unless
from test_recurrent_life import WAYS, states_for

from keras_hypernets import HyperLSTM


@rows()
def test_mixed(row):
    """Weights stay in float32; outputs are in half precision, near those of float32."""
    wide, x = row.model(), row.x()
    expected = ops.convert_to_numpy(wide(x))
    for dtype in ("bfloat16", "float16"):
        narrow = row.model(dtype=f"mixed_{dtype}")
        assert {keras.backend.standardize_dtype(w.dtype) for w in narrow.weights} == {"float32"}
        narrow.set_weights(wide.get_weights())
        output = narrow(x)
        assert keras.backend.standardize_dtype(output.dtype) == dtype
        output = ops.convert_to_numpy(ops.cast(output, "float32"))
        np.testing.assert_allclose(output, expected, 0.05, 0.05)


@rows()
def test_double(row, double):
    if BACKEND == "jax" and "SimpleRNN" in row.name:
        pytest.skip("Keras' tanh is float32 on JAX, which stops its own SimpleRNN as well")
    wide, usual = row.model(dtype="float64"), row.model()
    assert {keras.backend.standardize_dtype(w.dtype) for w in wide.weights} == {"float64"}
    wide.set_weights(usual.get_weights())
    x = row.x()
    output = wide(x.astype("float64") if x.dtype == "float32" else x)
    assert keras.backend.standardize_dtype(output.dtype) == "float64"
    np.testing.assert_allclose(*map(ops.convert_to_numpy, (output, usual(x))), 1e-4, 1e-5)


@rows_named(
    "HyperLSTMCell",
    "HyperGRUCell",
    "LayerNormLSTMCell",
    "a cell of one's own",
)
def test_statistics_of_layer_norm_are_in_float32(row):
    """Squares of 1000 are infinite in float16."""
    cell = row.make(dtype="mixed_float16")
    cell.build((None, 3))
    name = next(name for name in cell.tail_weights if name.endswith("gate_gamma")).removesuffix(
        "_gamma"
    )
    gates, units = cell.tail_weights[f"{name}_gamma"].shape
    x = np.random.default_rng(0).standard_normal((gates, 2, units)) * 1000
    small = {key: ops.cast(weight, "float16") for key, weight in cell.tail_weights.items()}
    found = cell.normalize(ops.convert_to_tensor(x, "float16"), small, name)
    assert keras.backend.standardize_dtype(found.dtype) == "float16"
    expected = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, 1e-2, 1e-2)


def results_of(layer, x, states=None, training=False):
    """Of a recurrent layer, as NumPy arrays: the output, and the states if it returns them."""

    def call():
        return layer(x, initial_state=states, training=training)

    if BACKEND == "tensorflow":
        import tensorflow as tf

        call = tf.function(call)
    found = keras.tree.flatten(call())
    return [ops.convert_to_numpy(ops.cast(result, "float32")) for result in found]


QUICK_IN_HALF = {"HyperLSTM": "mixed_float16", "LayerNormLSTM": "mixed_bfloat16"}
IN_HALF = pytest.mark.parametrize(
    "row, dtype",
    [(row_of(name), dtype) for name, dtype in QUICK_IN_HALF.items()],
    ids=["HyperLSTM-float16", "LayerNormLSTM-bfloat16"],
)
EVERY_IN_HALF = pytest.mark.parametrize(
    "row, dtype",
    [
        pytest.param(
            row,
            dtype,
            id=f"{row.name}-{dtype.removeprefix('mixed_')}",
            marks=slow_unless(QUICK_IN_HALF.get(row.name) == dtype),
        )
        for row in ROWS
        if row.kind == "sequence"
        for dtype in ("mixed_float16", "mixed_bfloat16")
    ],
)
# On PyTorch it is the same loop, and a slow one.
TRAINING = [False] if BACKEND == "torch" else [False, True]
IN_TRAINING_AND_NOT = pytest.mark.parametrize("training", TRAINING)


@IN_TRAINING_AND_NOT
@IN_HALF
def test_small_steps_of_c_add_up(row, dtype, training):
    """1000 steps of 0.0007: a sum in half precision would come out too small."""
    x = np.zeros((1, 1000, 3), "float32")
    found = []
    for policy in ("float32", dtype):
        layer = row.layer(dtype=policy, layer_norm=False, forget_bias=20.0, return_state=True)
        layer.build(x.shape)
        layer.set_weights([np.zeros(weight.shape) for weight in layer.weights])
        for weight in layer.weights:
            if weight.name in ("bias", "hyper_bias"):
                # a nearly closed input gate, a candidate, an open output gate
                gates = np.array([[-7.0], [0.0], [1.0], [9.0]])
                weight.assign(np.broadcast_to(gates, weight.shape))
        found.append(results_of(layer, x, training=training))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, 0.02)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_generated_weights_are_those_of_the_layer(dtype):
    """Also where c grows by steps that it would not notice in half precision."""
    layer = HyperLSTM(3, 4, 2, layer_norm=False, return_state=True, dtype=dtype)
    x = np.zeros((1, 300, 3), "float32")
    layer.build(x.shape)
    randomize(layer, deviation=0.1)
    layer.cell.hyper_bias.assign([[-6.0] * 4, [20.0] * 4, [1.0] * 4, [9.0] * 4])
    hyper_h = results_of(layer, x)[3]
    small = {
        name: layer.cell.to_compute_dtype(weight)
        for name, weight in layer.cell.tail_weights.items()
    }
    expected = layer.cell.generate(ops.cast(hyper_h, layer.compute_dtype), small)
    for one, other in zip(layer.generated_weights(x).values(), expected, strict=True):
        one, other = (
            ops.convert_to_numpy(ops.cast(v, "float32")) for v in (one[0, -1], other[:, 0])
        )
        np.testing.assert_array_equal(one, other)


@IN_TRAINING_AND_NOT
@IN_HALF
def test_errors_of_1000_steps_do_not_add_up(row, dtype, training):
    """They are at most three times the error of one step from the right states.

    With these weights, which forget: fresh ones make layer-norm cells chaotic, in float32 as well.
    """
    wide = row.layer(return_sequences=True, return_state=True)
    wide.build((None, None, 3))
    randomize(wide)
    check_1000_steps(wide, row.layer(dtype=dtype, return_sequences=True), training)


@pytest.mark.skipif(BACKEND == "torch", reason="a slow loop there")
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_errors_of_1000_steps_with_fresh_weights(dtype):
    keras.utils.set_random_seed(0)
    options = {"hyper_units": 8, "embedding_dim": 4, "layer_norm": False, "return_sequences": True}
    wide = HyperLSTM(32, return_state=True, **options)
    wide.build((None, None, 3))
    check_1000_steps(wide, HyperLSTM(32, dtype=dtype, **options), training=False)


def check_1000_steps(wide, layer, training):
    x = np.random.default_rng(0).standard_normal((32, 1000, 3)).astype("float16")
    layer.build(x.shape)
    layer.set_weights(wide.get_weights())
    _, *states = results_of(wide, x[:, :900])
    right, *_ = results_of(wide, x[:, 900:], states)
    of_many = results_of(layer, x, training=training)[0][:, 900:] - right
    of_one = results_of(layer, x[:, 900:901], states, training)[0] - right[:, :1]
    assert np.std(of_many) <= 3 * np.std(of_one)


@pytest.mark.parametrize("way", WAYS)
@EVERY_IN_HALF
def test_options_in_half_precision(row, dtype, way):
    """Masks, states, directions: as in float32, but for its digits."""
    options, x = dict(WAYS[way]), row.x(3)
    mask, with_states = options.pop("mask", None), options.pop("states", False)
    wide, layer = (
        row.layer(return_state=True, dtype=policy, **options) for policy in (None, dtype)
    )
    for one in (wide, layer):
        one.build(x.shape)
    randomize(wide)
    layer.set_weights(wide.get_weights())
    states = states_for(wide.cell, 3) if with_states else None
    for training in (False, True):
        given = {"initial_state": states, "mask": mask, "training": training}
        for y, right in zip(layer(x, **given), wide(x, **given), strict=True):
            y, right = (ops.convert_to_numpy(ops.cast(v, "float32")) for v in (y, right))
            np.testing.assert_allclose(y, right, 0.05, 0.05)


@pytest.mark.skipif(BACKEND == "torch", reason="Keras loses the states there, its LSTM's as well")
@EVERY_IN_HALF
def test_stateful_in_half_precision(row, dtype):
    x = row.x()
    whole = row.layer(dtype=dtype)
    layer = row.layer(dtype=dtype, stateful=True)
    (expected,) = results_of(whole, x)
    layer(x)
    layer.set_weights(whole.get_weights())
    for _ in range(2):
        layer.reset_state()
        layer(x[:, :2])
        output = ops.cast(layer(x[:, 2:]), "float32")
        np.testing.assert_allclose(ops.convert_to_numpy(output), expected, 0.02, 0.02)


@rows(quick=("LayerNormLSTM", "two HyperDense of one generator"))
def test_training_in_float16(row):
    """With the scaled loss that Keras chooses by itself."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = row.model(dtype="mixed_float16")
        model.compile(keras.optimizers.SGD(0.05), "mse", **QUICK)
    finally:
        keras.config.set_dtype_policy("float32")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    x = row.x()
    y = np.random.default_rng(1).standard_normal(model(x).shape)
    losses = model.fit(x, y, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert all(np.all(np.isfinite(weight)) for weight in model.get_weights())
