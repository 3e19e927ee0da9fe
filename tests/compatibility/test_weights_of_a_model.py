"""HyperNetwork: the weights of a model, the same for the whole batch."""

import json
import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from backends import BACKEND, QUICK, gradients
from keras import layers, ops
from random_weights import randomize

from keras_hypernets import HyperNetwork, KernelGenerator

LOAD = """
import sys
from pathlib import Path
import keras, numpy as np
import test_weights_of_a_model as tests

for folder in Path(sys.argv[1]).iterdir():
    model = keras.models.load_model(folder / "model.keras")
    again = keras.models.model_from_json((folder / "model.json").read_text())
    if again.count_params() == model.count_params():
        again.load_weights(folder / "model.weights.h5")
    else:  # JSON parts what layers share
        again = model
    inputs = tests.FILES[folder.name]()[1]
    counts = [[len(m.trainable_weights), m.count_params()] for m in (model, again)]
    outputs = [tests.numpy(m(inputs)) for m in (model, again)]
    np.savez(folder / "found.npz", counts=counts, outputs=outputs)
"""
SMALL = {"hidden_units": (5,)}
BASES = pytest.mark.parametrize("base", ["trainable", "frozen", None])


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def condition_of(rows=1, seed=0, features=2):
    return np.tile(noise(1, features, seed=seed), (rows, 1))


def assert_close(one, other, tolerance=1e-5):
    np.testing.assert_allclose(numpy(one), numpy(other), tolerance, tolerance)


def randomized(layer, seed=0):
    """Also the statistics."""
    randomize(layer, seed)
    rng = np.random.default_rng(seed)
    for weight in layer.non_trainable_weights:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    return layer


def convolutional():
    x = images = keras.Input((5, 5, 2))
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(x)
    x = layers.GlobalAveragePooling2D()(layers.BatchNormalization(name="norm")(x))
    return randomized(keras.Model(images, layers.Dense(3, name="dense")(x), name="target"))


def dense(**options):
    return randomized(
        keras.Sequential(
            [
                keras.Input((4,)),
                layers.Dense(5, "tanh", **options),
                layers.BatchNormalization(momentum=0.8),
                layers.Dropout(0.5, seed=1),  # PyTorch counts only seeds that are given
                layers.Dense(3),
            ]
        )
    )


def task():
    return keras.Sequential(
        [keras.Input((1,), dtype="int32"), layers.Embedding(4, 3), layers.Flatten()]
    )


def task_and_setting():
    one, two = keras.Input((1,), dtype="int32", name="task"), keras.Input((2,), name="setting")
    embedding = layers.Flatten()(layers.Embedding(4, 3)(one))
    return keras.Model({"task": one, "setting": two}, layers.Concatenate()([embedding, two]))


def task_ids(rows=1):
    return np.full((rows, 1), 2, "int32")


# Options, how many weights there are and how many of them are trained. The target has 99 + 8.
NO_CONDITION = {"condition": None}
CASES = {
    # 2 * 5 + 5 hidden, 5 for each number
    "full": (SMALL, 107 + 15 + 5 * 99, 99 + 15 + 5 * 99),
    "full, embedding, no base": (
        {**SMALL, "embedding_dim": 3, "base": None},
        8 + 3 + 20 + 6 * 99,
        3 + 20 + 6 * 99,
    ),
    # 18 + 4 and 4 + 3 for the kernels, 15 for the vectors
    "low rank, frozen": (
        {**SMALL, "generation": "low_rank", "rank": 1, "alpha": 3, "base": "frozen"},
        107 + 15 + 5 * 44,
        15 + 5 * 44,
    ),
    "low rank, embedding, no base": (
        {**SMALL, "generation": "low_rank", "rank": 1, "embedding_dim": 3, "base": None},
        8 + 3 + 20 + 6 * 44,
        3 + 20 + 6 * 44,
    ),
    "scaling, cos_sin": (
        {**SMALL, "generation": "scaling", "condition_encoding": "cos_sin"},
        107 + 25 + 5 * 22,
        99 + 25 + 5 * 22,
    ),
    # 5 chunks of 20
    "chunks, frozen": (
        {**SMALL, "chunk_size": 20, "chunk_embedding_dim": 3, "base": "frozen"},
        107 + 15 + 30 + 5 * 20,
        15 + 30 + 5 * 20,
    ),
    "chunks, no base": (
        {**SMALL, "chunk_size": 20, "chunk_embedding_dim": 3, "base": None},
        8 + 15 + 30 + 5 * 20 + 12,
        15 + 30 + 5 * 20 + 12,
    ),
    "chunks without a condition": (
        {**SMALL, "chunk_size": 20, "chunk_embedding_dim": 3, "base": None, **NO_CONDITION},
        8 + 15 + 20 + 5 * 20 + 12,
        15 + 20 + 5 * 20 + 12,
    ),
    "condition as it is, frozen": (
        {"hidden_units": (), "base": "frozen"},
        107 + 2 * 99,
        2 * 99,
    ),
    "task": ({"generator": task}, 107 + 12 + 3 * 99, 99 + 12 + 3 * 99),
    "task and setting, no base": (
        {"generator": task_and_setting, "base": None},
        8 + 12 + 6 * 99,
        12 + 6 * 99,
    ),
    # projection 3 * 2 * 3 + 2 * 3, output 4 * 9 * 2, two embeddings; the others are the target's
    "tiles": (
        {"generator": lambda: KernelGenerator((3, 3, 2, 2), 3), "base": None},
        24 + 72 + 6 + 35,
        24 + 72 + 6 + 27,
    ),
}


def make(case, rows=3):
    """Returns a built HyperNetwork with random weights, inputs for it and the condition."""
    options = dict(CASES[case][0])
    generator = options["generator"] = options.pop("generator", lambda: None)()
    condition = condition_of(rows)
    if isinstance(generator, KernelGenerator) or "embedding_dim" in options:
        condition = None
    elif "task" in case:
        condition = task_ids(rows)
        if "setting" in case:
            condition = {"task": condition, "setting": condition_of(rows)}
    condition = options.pop("condition", condition)
    hyper, x = HyperNetwork(convolutional(), **options), noise(rows, 5, 5, 2)
    hyper(x, condition)
    randomize(hyper, deviation=0.5)
    return hyper, x, condition


def reference(hyper, values, condition):
    """The weights by their variables, in NumPy. `values` are those of all variables, by id."""
    writer = hyper.writer

    def of(variable):
        return values[id(variable)]

    chosen = [g.variable for g in hyper.generated]
    if isinstance(hyper.generator, KernelGenerator):
        g = hyper.generator
        a = np.einsum("tz,zih->tih", of(writer.embedding), of(g.projection_kernel))
        rows = (a + of(g.projection_bias)) @ of(g.output_kernel) + of(g.output_bias)
        tiles = rows.reshape(2, 2, 3, 3, 2).transpose(0, 2, 3, 1, 4)
        return [np.concatenate(tiles, -1)]
    if hyper.generator is not None:
        (table,) = hyper.generator.weights
        task = condition["task"] if isinstance(condition, dict) else condition
        z = of(table)[task[0]]
        if isinstance(condition, dict):
            z = np.concatenate([z, condition["setting"][:1]], -1)
    else:
        z = of(writer.embedding) if hyper.embedding_dim else condition
        z = None if z is None else z[:1].astype("float64")
        if hyper.condition_encoding:
            z = np.concatenate([np.cos(np.pi / 2 * z), np.sin(np.pi / 2 * z)], -1)
        if hyper.chunk_size:
            chunks = of(writer.chunk_embedding)
            before = [] if z is None else [np.repeat(z, len(chunks), 0)]
            z = np.concatenate([*before, chunks], -1)
        for layer in writer.hidden:
            z = np.maximum(z @ of(layer.kernel) + of(layer.bias), 0)
        if hyper.chunk_size:
            z = z * np.random.RandomState(0).choice([-1.0, 1.0], z.shape)
    if hyper.base is None:
        z = z / np.sqrt(np.mean(z**2, -1, keepdims=True) + 1e-7)
    numbers = z @ of(writer.output_kernel)
    if hyper.base is None and not hyper.chunk_size:
        numbers = numbers + of(writer.output_bias)
    numbers, position, blocks = numbers.ravel(), 0, 0

    def block(shape, unit):
        nonlocal position, blocks
        size = int(np.prod(shape))
        part = numbers[position : position + size].reshape(shape)
        if hyper.base is None and hyper.chunk_size:
            part = of(writer.offset)[blocks] + of(writer.scale)[blocks] * part
        else:
            part = unit * part
        position, blocks = position + size, blocks + 1
        return part

    found = []
    for variable in chosen:
        *rest, outputs = shape = tuple(variable.shape)
        inputs = int(np.prod(rest))
        unit = inputs**-0.5 if rest else 0.3
        if hyper.generation == "scaling":
            found.append(of(variable) * (1 + block((outputs,), 0.1)))
            continue
        if hyper.generation == "low_rank" and rest:
            a, b = block((inputs, hyper.rank), unit), block((hyper.rank, outputs), 0.1)
            weight = ((hyper.alpha or hyper.rank) / hyper.rank * a @ b).reshape(shape)
        else:
            weight = block(shape, unit)
        found.append(weight if hyper.base is None else of(variable) + weight)
    return found


@pytest.mark.parametrize("case", CASES)
def test_computes_what_the_target_computes_with_these_weights(case):
    """Its outputs, and by the chain rule its gradients."""
    hyper, x, condition = make(case)
    _, count, trained = CASES[case]
    assert hyper.count_params() == count
    assert sum(int(np.prod(v.shape)) for v in hyper.trainable_weights) == trained

    variables = [*hyper.variables, *(g.variable for g in hyper.generated)]
    values = {id(v): numpy(v).astype("float64") for v in variables}
    expected = reference(hyper, values, condition)
    found = hyper.generated_weights(condition)
    assert list(found) == [g.variable.path for g in hyper.generated]
    for one, other in zip(found.values(), expected, strict=True):
        assert_close(one, other)

    plain = convolutional()
    plain.set_weights(hyper.target.get_weights())
    copies = dict(zip(map(id, hyper.target.weights), plain.weights, strict=True))
    for g, weight in zip(hyper.generated, expected, strict=True):
        copies[id(g.variable)].assign(weight)
    assert_close(hyper(x, condition), plain(x))

    for_x, *of_plain = gradients(plain, x)
    found = gradients(hyper, x, condition=condition)
    assert_close(found[0], for_x, 1e-4)
    of_plain = dict(zip(map(id, plain.trainable_weights), of_plain, strict=True))
    wanted = [of_plain[id(copies[id(g.variable)])] for g in hyper.generated]
    generated = {id(g.variable) for g in hyper.generated}
    rng = np.random.default_rng(1)
    for variable, gradient in zip(hyper.trainable_weights, found[1:], strict=True):
        if id(variable) in copies and id(variable) not in generated:
            assert_close(gradient, of_plain[id(copies[id(variable)])], 1e-4)
            continue
        direction = rng.standard_normal(variable.shape)
        ends = [
            reference(hyper, {**values, id(variable): values[id(variable)] + step}, condition)
            for step in (1e-6 * direction, -1e-6 * direction)
        ]
        change = sum(np.sum(g * (a - b)) for g, a, b in zip(wanted, *ends, strict=True)) / 2e-6
        assert abs(change - np.sum(gradient * direction)) < 1e-3 * max(1, abs(change))


@pytest.mark.parametrize("case", ["full", "chunks, no base", "tiles"])
def test_fit(case):
    """The same in every mode, statistics of batch normalization included, and without warnings."""
    hyper, x, condition = make(case, rows=4)
    given = [keras.Input(x.shape[1:])]
    if condition is not None:
        given.append(keras.Input((2,)))
        x = [x, condition]
    model = keras.Model(given, hyper(*given))
    start, y = model.get_weights(), noise(4, 3)
    modes = [{"run_eagerly": True}]
    if BACKEND != "torch":  # torch.compile needs a C++ compiler
        modes.append({"jit_compile": True})
    if BACKEND == "tensorflow":
        modes.append({"jit_compile": False})
    results = []
    for mode in modes:
        model.set_weights(start)
        model.compile(keras.optimizers.SGD(0.01), "mse", **mode)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Gradients do not exist")
            losses = model.fit(x, y, 2, epochs=3, shuffle=False, verbose=0).history["loss"]
        assert losses[-1] < losses[0]
        results.append(model.get_weights())
    for before, *after in zip(start, *results, strict=True):
        assert not np.array_equal(before, after[0])
        for other in after[1:]:
            np.testing.assert_allclose(after[0], other, 1e-4, 1e-5)


@BASES
def test_state_of_the_target(base):
    """Statistics move and masks change in training, and nothing does in inference."""
    hyper, x, condition = HyperNetwork(dense(), base=base, **SMALL), noise(64, 4), condition_of()
    hyper(x, condition)
    randomize(hyper)
    plain, norm = hyper.plain_layer(condition), hyper.target.layers[1]
    before = [numpy(v) for v in hyper.variables]
    hyper(x, condition)
    for variable, value in zip(hyper.variables, before, strict=True):
        np.testing.assert_array_equal(numpy(variable), value)

    plain(x, training=True)
    tensors = [
        [v.value for v in group]
        for group in (hyper.trainable_variables, hyper.non_trainable_variables)
    ]
    stateless, state = hyper.stateless_call(*tensors, x, condition, training=True)
    one = numpy(hyper(x, condition, training=True))
    assert_close(one, stateless)
    for variable, value in zip(hyper.non_trainable_variables, state, strict=True):
        assert_close(variable, value)
    for name in ("moving_mean", "moving_variance"):
        assert_close(getattr(norm, name), getattr(plain.layers[1], name))
    assert not np.allclose(numpy(hyper(x, condition, training=True)), one)


@BASES
def test_frozen(base):
    target = dense()
    target.layers[-1].trainable = False
    hyper, x, condition = HyperNetwork(target, base=base, **SMALL), noise(3, 4), condition_of()
    hyper(x, condition)
    assert len(hyper.generated) == 4  # kernel, bias, gamma, beta
    assert len(hyper.trainable_weights) == 3 + {"trainable": 4, "frozen": 0, None: 1}[base]
    moving_mean = target.layers[1].moving_mean
    hyper.trainable = False
    assert not hyper.trainable_weights and not hyper.losses
    frozen = HyperNetwork(dense(), base=base, trainable=False, **SMALL)
    given = keras.Input((4,)), keras.Input((2,))
    assert not keras.Model(given, frozen(*given)).trainable_weights
    for one, mean in ((hyper, moving_mean), (frozen, frozen.target.layers[1].moving_mean)):
        before = numpy(mean)
        one(x, condition, training=True)
        np.testing.assert_array_equal(numpy(mean), before)
    hyper.trainable = True
    before = numpy(moving_mean)
    hyper(x, condition, training=True)
    assert not np.allclose(numpy(moving_mean), before)
    bases = {id(g.variable) for g in hyper.generated}
    assert any(id(v) in bases for v in hyper.trainable_weights) == (base == "trainable")


@BASES
def test_regularizers(base):
    """They apply to what is generated, for each call of the layer, and to the rest, once."""
    target = dense(kernel_regularizer=keras.regularizers.L2(0.3), activity_regularizer="l1")
    hyper = HyperNetwork(target, "kernel|gamma", base=base, **SMALL)
    again = HyperNetwork(target, "kernel", base=None, **SMALL)
    target.layers[3].bias.regularizer = keras.regularizers.L2(0.7)
    x, condition = noise(4, 4), condition_of(4)
    hyper(x, condition)
    randomize(hyper)
    hyper(x, condition)
    kernel = numpy(hyper.generated_weights(condition)[target.layers[0].kernel.path])
    activity = (
        np.mean(np.sum(np.abs(np.tanh(x @ kernel + numpy(target.layers[0].bias))), -1)) * 0.01
    )
    bias = 0.7 * np.sum(numpy(target.layers[3].bias) ** 2)
    expected = 0.3 * np.sum(kernel**2) + activity + bias
    assert_close(float(numpy(sum(hyper.losses))), expected)

    given = keras.Input((4,)), keras.Input((2,))
    for calls, output in ((1, hyper(*given)), (2, hyper(*given) + hyper(*given))):
        model = keras.Model(given, output)
        y = numpy(model([x, condition]))
        model.compile("sgd", "mse", **(QUICK if calls == 2 else {}))
        # On JAX, Keras forgets what a layer of any kind has added before its last call.
        counted = 1 if BACKEND == "jax" else calls
        found = model.evaluate([x, condition], y, verbose=0)
        assert_close(found, counted * (expected - bias) + bias)
    assert_close(again.generated[0].regularizer(np.ones(2, "float32")), 0.6)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("base", ["trainable", None])
def test_half_precision(dtype, base):
    """The target computes in it; statistics keep all their digits."""
    keras.config.set_dtype_policy(dtype)
    try:
        target = dense()
    finally:
        keras.config.set_dtype_policy("float32")
    target.layers[1].momentum = 1.0
    statistics = np.float32(1 + 2**-20) + np.zeros(5, "float32")
    for weight in (target.layers[1].moving_mean, target.layers[1].moving_variance):
        weight.assign(statistics)
    hyper, x, condition = HyperNetwork(target, base=base, **SMALL), noise(3, 4), condition_of()
    assert hyper.dtype_policy.name == "float32"
    for training in (False, True):
        outputs = hyper(x, condition, training=training)
        assert keras.backend.standardize_dtype(outputs.dtype) == dtype.removeprefix("mixed_")
        for weight in (target.layers[1].moving_mean, target.layers[1].moving_variance):
            np.testing.assert_array_equal(numpy(weight), statistics)
    wide = dense()
    wide.set_weights(hyper.plain_layer(condition).get_weights())
    assert_close(ops.cast(hyper(x, condition), "float32"), wide(x), 0.05)


@keras.saving.register_keras_serializable(package="test")
class Subclassed(keras.Model):
    """Layers in a list, one of them used twice."""

    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.stack = [layers.Dense(units, "tanh"), layers.LayerNormalization()]
        self.head = layers.Dense(2)

    def call(self, inputs):
        first, norm = self.stack
        return self.head(first(norm(first(inputs))))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def subclassed():
    model = Subclassed()
    model(noise(1, 4))
    return model


def nested():
    """A model that is used twice, and so is a layer."""
    x, shared = keras.Input((4,)), layers.Dense(4, "tanh")
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.LayerNormalization()])
    return keras.Model(x, [shared(inner(shared(x))), layers.Dense(2)(inner(x))])


def attention():
    layer = layers.MultiHeadAttention(2, 3)
    layer(noise(1, 3, 4), noise(1, 2, 5))
    return layer


def called(layer, *shape):
    layer(np.zeros((1, *shape), "int32" if isinstance(layer, layers.Embedding) else "float32"))
    return layer


TARGETS = {
    "subclassed": (subclassed, (4,), {}),
    "nested": (nested, (4,), {}),
    "Sequential": (dense, (4,), {}),
    "Sequential, built by a call": (
        lambda: called(keras.Sequential([layers.Dense(2), layers.Dense(3)]), 4),
        (4,),
        {},
    ),
    "MultiHeadAttention": (attention, (3, 4), {"value": noise(2, 2, 5)}),
    "LSTM": (lambda: called(layers.LSTM(3), 3, 4), (3, 4), {}),
    "Bidirectional GRU": (lambda: called(layers.Bidirectional(layers.GRU(3)), 3, 4), (3, 4), {}),
    "Embedding": (lambda: called(layers.Embedding(5, 3), 4), (4,), {}),
    "TimeDistributed": (
        lambda: called(layers.TimeDistributed(layers.Conv1D(2, 2)), 3, 4, 5),
        (3, 4, 5),
        {},
    ),
}


@pytest.mark.parametrize("name", TARGETS)
def test_targets(name):
    """Two conditions give two plain layers, and each has the outputs with that condition."""
    make_target, shape, kwargs = TARGETS[name]
    for base in ("trainable", None):
        target = make_target()
        hyper, x = HyperNetwork(target, base=base, **SMALL), noise(2, *shape)
        if name == "Embedding":
            x = np.array([[0, 1, 2, 3], [4, 4, 3, 0]])
        hyper(x, condition_of(), **kwargs)
        randomize(hyper, deviation=1.0)
        outputs = []
        for seed in range(2):
            condition = condition_of(seed=seed)
            found = keras.tree.flatten(hyper(x, condition, **kwargs))
            plain = hyper.plain_layer(condition)
            assert type(plain) is type(target) and plain.name == target.name
            assert not {id(v) for v in plain.variables} & {id(v) for v in target.variables}
            for one, other in zip(found, keras.tree.flatten(plain(x, **kwargs)), strict=True):
                assert_close(one, other)
            outputs.append(numpy(found[0]))
        assert not np.allclose(*outputs, 1e-2, 1e-2)


def test_conditions_as_lists():
    hyper, x = HyperNetwork(dense(), **SMALL), noise(1, 4)
    hyper(x, condition_of())
    randomize(hyper)
    expected = hyper(x, np.array([[0.5, 1.0]], "float32"))
    assert_close(hyper.plain_layer([[0.5, 1.0]])(x), expected)
    hyper.protect([[0.5, 1.0], [0.0, 1.0]], 1.0)


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch checks rows as it runs")
def test_rows_that_differ_in_compiled_code():
    """XLA leaves assertions out."""
    inputs = keras.Input((4,)), keras.Input((2,))
    target = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    model = keras.Model(inputs, HyperNetwork(target, **SMALL)(*inputs))
    model.compile("sgd", "mse", jit_compile=True)
    x, condition = noise(4, 4), condition_of(4)
    np.testing.assert_allclose(model.predict([x, condition], verbose=0), target(x), 1e-5, 1e-5)
    condition[2] += 1
    assert np.isnan(model.predict([x, condition], verbose=0)).all()
    history = model.fit([x, condition], noise(4, 3), verbose=0).history
    assert np.isnan(history["loss"]).all()


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow compiles a function by itself")
def test_generated_weights_of_rows_that_differ_in_compiled_code():
    import tensorflow as tf

    hyper = HyperNetwork(dense(), **SMALL)
    hyper(noise(1, 4), condition_of())
    compiled = tf.function(hyper.generated_weights, jit_compile=True)
    condition = condition_of(2)
    assert not any(np.isnan(value).any() for value in compiled(condition).values())
    condition[1] += 1
    assert all(np.isnan(value).all() for value in compiled(condition).values())


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_masks(dtype):
    """They pass through, arise within, and end, as they do with the target alone."""
    ids = np.array([[1, 2, 0, 0], [3, 0, 0, 0]])
    keras.config.set_dtype_policy(dtype)
    try:
        targets = [
            layers.Embedding(5, 4, mask_zero=True),
            layers.Dense(4),
            layers.LSTM(3, return_sequences=True),
            layers.LSTM(3),
        ]
        x, outputs = ids, []
        for layer in targets:
            x = layer(x)
            outputs.append(x)
    finally:
        keras.config.set_dtype_policy("float32")
    hypers = [HyperNetwork(layer, base="frozen") for layer in targets]
    x = start = keras.Input((4,), dtype="int32")
    condition = keras.Input((2,))
    given = []
    for hyper in hypers:
        x = hyper(x, condition)
        given.append(x)
    model = keras.Model([start, condition], given)
    found = model([ids, condition_of(2)])
    assert getattr(found[-1], "_keras_mask", None) is None
    for values in (found, model.predict([ids, condition_of(2)], verbose=0)):
        for one, other in zip(values, outputs, strict=True):
            assert_close(ops.cast(one, "float32"), ops.cast(other, "float32"))
    assert not np.allclose(numpy(found[2])[0, 1], numpy(found[2])[0, 0])


@BASES
def test_over_time(base):
    hyper = HyperNetwork(dense(), embedding_dim=2, base=base, **SMALL)
    x, steps = keras.Input((3, 4)), noise(2, 3, 4)
    model = keras.Model(x, layers.TimeDistributed(hyper)(x))
    randomize(model)
    assert model.output_shape == (None, 3, 3)
    assert_close(model(steps)[:, 1], hyper(steps[:, 1]))


@BASES
def test_a_target_of_two(base):
    target = dense()
    one, two = (HyperNetwork(target, base=base, name=name, **SMALL) for name in ("one", "two"))
    given = keras.Input((4,)), keras.Input((2,))
    model = keras.Model(given, [one(*given), two(*given)])
    x, condition = noise(3, 4), condition_of(3)
    own = one.writer.count_params()
    bases, kept = 5 * 4 + 5 + 2 * 5 + 5 * 3 + 3, 10
    assert model.count_params() == 2 * own + kept + (0 if base is None else bases)
    before, other = (numpy(y) for y in model([x, condition]))
    randomize(one.writer)
    after, same = (numpy(y) for y in model([x, condition]))
    assert not np.allclose(before, after)
    np.testing.assert_array_equal(other, same)
    model.trainable = False
    model.trainable = True
    assert sum(v is target.layers[0].kernel for v in model.trainable_weights) == (
        base == "trainable"
    )


@pytest.mark.parametrize("case", CASES)
def test_configs(case):
    """Of the layer, and of a model of it."""
    hyper, x, condition = make(case)
    again = HyperNetwork.from_config(json.loads(json.dumps(hyper.get_config())))
    assert json.dumps(again.get_config()) == json.dumps(hyper.get_config())
    given = [keras.Input(x.shape[1:])]
    if condition is not None:
        given.append(
            keras.tree.map_structure(lambda c: keras.Input(c.shape[1:], dtype=c.dtype), condition)
        )
        x = [x, condition]
    model = keras.Model(given, hyper(*given))
    copy = keras.models.clone_model(model)
    assert copy.count_params() == model.count_params() == CASES[case][1]
    copy.set_weights(model.get_weights())
    assert_close(copy(x), model(x))


def file_of(hyper, shape, **kwargs):
    """Returns a model of the HyperNetwork, and inputs for it."""
    given = keras.Input(shape), keras.Input((2,))
    kwargs = {name: keras.Input(value.shape[1:]) for name, value in kwargs.items()}
    model = keras.Model([*given, *kwargs.values()], hyper(*given, **kwargs))
    others = [noise(2, *x.shape[1:]) for x in model.inputs[2:]]
    return model, [noise(2, *shape), condition_of(2), *others]


def file_attention():
    return file_of(HyperNetwork(attention(), **SMALL), (3, 4), value=noise(1, 2, 5))


def file_subclassed():
    return file_of(
        HyperNetwork(subclassed(), lambda v: v.name == "kernel", base=None, **SMALL), (4,)
    )


def file_later_frozen():
    """What is not generated: a Normalization, seeds, statistics, frozen weights."""
    target = dense()
    normalization = layers.Normalization()
    normalization.adapt(3 * noise(9, 4) + 2)
    target = keras.Sequential([keras.Input((4,)), normalization, target])
    hyper = HyperNetwork(target, "kernel", base=None, **SMALL)
    found = file_of(hyper, (4,))
    target.layers[1].layers[1].trainable = False
    return found


def file_shared():
    """A target and a generator of two HyperNetworks."""
    target = dense()
    generator = keras.Sequential([keras.Input((2,)), layers.Dense(3)])
    one, two = (HyperNetwork(target, generator=generator, base="frozen") for _ in range(2))
    given = keras.Input((4,)), keras.Input((2,))
    model = keras.Model(given, one(*given) + 2 * two(*given))
    return model, [noise(2, 4), condition_of(2)]


def file_tiles():
    generator = KernelGenerator((3, 3, 2, 2), 3)
    hyper = HyperNetwork(convolutional(), generator=generator, base=None)
    given = keras.Input((5, 5, 2))
    return keras.Model(given, hyper(given)), noise(2, 5, 5, 2)


FILES = {
    name: globals()[f"file_{name}"]
    for name in ("attention", "subclassed", "later_frozen", "shared", "tiles")
}


def test_files_in_a_fresh_process(tmp_path):
    """`.keras`, and `.weights.h5` for a model from JSON."""
    expected = {}
    for name, make_model in FILES.items():
        model, inputs = make_model()
        randomize(model)
        (tmp_path / name).mkdir()
        model.save(tmp_path / name / "model.keras")
        model.save_weights(tmp_path / name / "model.weights.h5")
        (tmp_path / name / "model.json").write_text(model.to_json())
        count = [len(model.trainable_weights), model.count_params()]
        expected[name] = count, numpy(model(inputs))
    subprocess.run(
        [sys.executable, "-c", LOAD, tmp_path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
    for name, (count, output) in expected.items():
        with np.load(tmp_path / name / "found.npz") as found:
            assert found["counts"].tolist() == [count, count], name
            for one in found["outputs"]:
                assert_close(one, output)
