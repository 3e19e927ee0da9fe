"""Shapes, gradients and training: step by step, compiled, and compiled by XLA."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from backends import BACKEND, compiled, gradients, loss_of, only
from keras import ops
from random_weights import randomize
from rows import ROWS, rows

DETERMINISTIC = """
import sys, keras, numpy as np, tensorflow as tf
from rows import row_of
tf.config.experimental.enable_op_determinism()
for name in sys.argv[1:]:
    row = row_of(name)
    keras.utils.set_random_seed(1)
    options = {"dropout": 0.2} if row.kind == "sequence" and name != "GatedRNN" else {}
    options |= {"recurrent_dropout": 0.2} if options and name != "HyperSimpleRNN" else {}
    model = row.model(**options)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    start = [variable.numpy() for variable in model.variables]
    found = []
    for _ in range(2):
        keras.utils.set_random_seed(2)
        for variable, value in zip(model.variables, start, strict=True):
            variable.assign(value)
        x = row.x(8)
        model.fit(x, np.ones(model(x).shape), batch_size=4, verbose=0)
        found.append([variable.numpy() for variable in model.variables])
    assert not all(np.array_equal(a, b) for a, b in zip(start, found[0], strict=True)), name
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True)), name
"""
DETERMINISTIC_QUICKLY = ("LayerNormLSTM", "HyperDense")


@rows()
def test_shapes_are_known_before_the_values(row):
    """Those that are known only then are None."""
    x = row.x()
    expected = keras.tree.flatten(row.layer()(x))
    unknown = (None, *[None] * (len(row.shape) - 1), *row.shape[-1:])
    for shape in (x.shape, unknown):
        found = keras.tree.flatten(row.layer()(keras.KerasTensor(shape, x.dtype)))
        for one, other in zip(found, expected, strict=True):
            assert len(one.shape) == len(other.shape)
            pairs = zip(one.shape, other.shape, strict=True)
            assert all(a == b or (a is None and shape is unknown) for a, b in pairs)


@rows()
def test_every_weight_learns(row):
    """It has a gradient, and a step against the gradient lowers the loss."""
    model, x = row.model(), row.x()
    found = gradients(model, x)[-len(model.trainable_weights) :]
    before = float(loss_of(model(x)))
    for weight, gradient in zip(model.trainable_weights, found, strict=True):
        assert np.mean(np.abs(gradient) > 0) > (0.5 if row.vocabulary else 0.9), weight.path
        weight.assign(ops.convert_to_numpy(weight) - 1e-3 * gradient)
    assert float(loss_of(model(x))) < before


@pytest.mark.skipif(BACKEND == "torch", reason="torch.compile needs a C++ compiler")
@rows(quick=("HyperLSTM", "LSTMCell", "HyperNetwork, tiles") if BACKEND == "tensorflow" else None)
def test_compiled_once_for_equal_shapes(row):
    model, x = row.model(), row.x()
    function, count = compiled(model)
    for data in (x, row.x(seed=1)):
        found, expected = map(ops.convert_to_numpy, (function(data), model(data)))
        np.testing.assert_allclose(found, expected, 1e-5, 1e-5)
    assert count() == 1


@only("tensorflow", "input signatures are its own")
@rows()
def test_a_signature_of_any_size(row):
    """One compilation for every number of rows, of steps and of pixels."""
    layer = row.layer()
    x = row.x(3)
    layer.build(x.shape)
    randomize(layer)
    free = [None] * (len(row.shape) - 1)
    function, count = compiled(layer, (None, *free, *row.shape[-1:]), x.dtype)
    smaller = x[(slice(2), *[slice(3)] * len(free))]
    for data in (x, smaller):
        pairs = zip(*(keras.tree.flatten(one(data)) for one in (function, layer)), strict=True)
        for found, expected in pairs:
            np.testing.assert_allclose(found, expected, 1e-5, 1e-5)
    assert count() == 1


@rows(quick=("LayerNormLSTM", "HyperNetwork, tiles"))
def test_fit_in_every_mode(row):
    """The same weights, whichever way it is run, also with a last batch that is smaller."""
    model, x = row.model(), row.x(5)
    start = model.get_weights()
    y = np.random.default_rng(1).standard_normal(model(x).shape)
    modes = [{"run_eagerly": True}]
    if BACKEND != "torch":  # torch.compile needs a C++ compiler
        modes.append({"jit_compile": True})
    if BACKEND == "tensorflow":  # elsewhere that is the first mode
        modes.append({"jit_compile": False})
    found = []
    for mode in modes:
        model.set_weights(start)
        model.compile(keras.optimizers.SGD(0.1), "mse", **mode)
        losses = model.fit(x, y, batch_size=3, epochs=2, shuffle=False, verbose=0).history["loss"]
        assert losses[-1] < losses[0]
        found.append(model.get_weights())
    for other in found[1:]:
        for one, another in zip(found[0], other, strict=True):
            np.testing.assert_allclose(one, another, 1e-5, 1e-5)


@only("tensorflow", "the other backends have no such switch")
@pytest.mark.parametrize(
    "names",
    [
        pytest.param(DETERMINISTIC_QUICKLY, id="some"),
        pytest.param(
            [row.name for row in ROWS if row.name not in DETERMINISTIC_QUICKLY],
            id="others",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_deterministic(names):
    subprocess.run(
        [sys.executable, "-c", DETERMINISTIC, *names],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
