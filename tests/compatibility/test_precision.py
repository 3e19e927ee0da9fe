"""Half precision, and double."""

import keras
import numpy as np
import pytest
from backends import BACKEND, QUICK
from keras import ops
from rows import rows, rows_named


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


@pytest.mark.skipif(BACKEND == "jax", reason="JAX has no float64 unless a flag of the process asks")
@rows()
def test_double(row):
    wide, usual = row.model(dtype="float64"), row.model()
    assert {keras.backend.standardize_dtype(w.dtype) for w in wide.weights} == {"float64"}
    wide.set_weights(usual.get_weights())
    x = row.x()
    output = wide(x.astype("float64") if x.dtype == "float32" else x)
    assert keras.backend.standardize_dtype(output.dtype) == "float64"
    np.testing.assert_allclose(*map(ops.convert_to_numpy, (output, usual(x))), 1e-4, 1e-5)


@rows("cell")
def test_statistics_of_layer_norm_are_in_float32(row):
    """Squares of 1000 are infinite in float16."""
    cell = row.make(dtype="mixed_float16")
    if not cell.layer_norm:
        pytest.skip("a cell without layer norm")
    cell.build((None, 3))
    name = next(name for name in cell.small if name.endswith("gate_gamma")).removesuffix("_gamma")
    gates, units = cell.small[f"{name}_gamma"].shape
    x = np.random.default_rng(0).standard_normal((gates, 2, units)) * 1000
    small = {key: ops.cast(weight, "float16") for key, weight in cell.small.items()}
    found = cell.normalize(ops.convert_to_tensor(x, "float16"), small, name)
    assert keras.backend.standardize_dtype(found.dtype) == "float16"
    expected = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, 1e-2, 1e-2)


@rows_named("LayerNormLSTM", "two HyperDense of one generator")
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
