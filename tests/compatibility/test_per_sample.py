"""A model with weights of each sample's own does what it does with each sample's weights alone."""

import contextlib
import threading

import keras
import numpy as np
import pytest
from backends import BACKEND, only
from keras import layers, ops

from keras_hypernets.network.forms import LowRank, Scaled, Whole
from keras_hypernets.network.leaves import output_axes, owners, stand_in
from keras_hypernets.network.per_sample import weights_per_sample

ROWS = 3


@pytest.fixture(autouse=True)
def double():
    """JAX has float64 only if asked."""
    if BACKEND != "jax":
        yield
        return
    import jax

    with jax.enable_x64(True):
        yield


class Weights:
    """Random weights for each sample, in forms."""

    def __init__(self, target, form, names=None, dtype="float64"):
        self.target, self.dtype = target, dtype
        self.rng = np.random.default_rng(0)
        for variable in target.trainable_variables:
            variable.assign(self.normal(variable.shape))
        self.owner = {id(v): layer for layer, own in owners(target) for v in own}
        self.generated = [
            v for v in target.trainable_variables if names is None or v.path.endswith(names)
        ]
        assert self.generated
        chosen = {id(v) for v in self.generated}
        self.kept = [v for v in target.variables if id(v) not in chosen]
        self.makers, self.tensors = [], []
        for variable in self.generated:
            maker, *tensors = self.form(variable, form)
            self.makers.append((maker, len(tensors)))
            self.tensors.extend(ops.convert_to_tensor(t, dtype) for t in tensors)

    def normal(self, shape):
        return (1 + self.rng.standard_normal(tuple(shape))) / 2

    def form(self, variable, form):
        shape = tuple(variable.shape)
        if form == "low rank" and len(shape) > 1:
            a = self.normal((ROWS, int(np.prod(shape[:-1])), 2))
            b = self.normal((ROWS, 2, shape[-1]))
            return lambda *tensors: LowRank(*tensors, shape), self.normal(shape), a, b
        if form == "factors" and len(shape) > 1:
            a = self.normal((ROWS, int(np.prod(shape[:-1])), 2))
            b = self.normal((ROWS, 2, shape[-1]))
            return lambda *tensors: LowRank(None, *tensors, shape), a, b
        if form.startswith("scaled"):
            axes = output_axes(self.owner[id(variable)], variable)
            everywhere = form == "scaled everywhere"
            scale = [n if everywhere or axis in axes else 1 for axis, n in enumerate(shape)]
            return Scaled, self.normal(shape), self.normal((ROWS, *scale))
        return Whole, self.normal((ROWS, *shape))

    def forms(self, tensors):
        tensors, forms = list(tensors), []
        for maker, count in self.makers:
            forms.append(maker(*tensors[:count]))
            del tensors[:count]
        return forms

    def at_once(self, x, tensors, kept, **options):
        mapping = [(v, stand_in(self.owner[id(v)], v)) for v in self.generated]
        mapping.extend(zip(self.kept, kept, strict=True))
        pairs = zip(self.generated, self.forms(tensors), strict=True)
        with keras.StatelessScope(mapping), weights_per_sample(self.target, pairs):
            return self.target(x, **options)

    def one_by_one(self, x, tensors, kept, **options):
        outputs = []
        values = [form.value() for form in self.forms(tensors)]
        for row in range(ROWS):
            mapping = [(v, value[row]) for v, value in zip(self.generated, values, strict=True)]
            mapping.extend(zip(self.kept, kept, strict=True))
            own = {k: o[row : row + 1] if hasattr(o, "shape") else o for k, o in options.items()}
            sample = keras.tree.map_structure(lambda t: t[row : row + 1], x)  # noqa: B023
            with keras.StatelessScope(mapping):
                outputs.append(self.target(sample, **own))
        return keras.tree.map_structure(lambda *parts: ops.concatenate(parts), *outputs)


def results(call, x, tensors, kept, compiled=False, **options):
    """Outputs, and gradients with respect to inputs, forms' tensors and remaining weights."""
    x, kept = keras.tree.map_structure(ops.convert_to_tensor, (x, kept))
    arguments = keras.tree.flatten((x, tensors, kept))
    floats = ["float" in keras.backend.standardize_dtype(a.dtype) for a in arguments]

    def loss(sources):
        given = iter(sources)
        flat = [next(given) if f else a for f, a in zip(floats, arguments, strict=True)]
        outputs = call(*keras.tree.pack_sequence_as((x, tensors, kept), flat), **options)
        parts = [ops.sum(ops.sin(y)) for y in keras.tree.flatten(outputs)]
        return sum(parts), outputs

    sources = [a for f, a in zip(floats, arguments, strict=True) if f]
    if BACKEND == "tensorflow":
        import tensorflow as tf

        def run(sources):
            with tf.GradientTape() as tape:
                tape.watch(sources)
                value, outputs = loss(sources)
            return tape.gradient(value, sources, unconnected_gradients="zero"), outputs

        run = tf.function(run, jit_compile=True, autograph=False) if compiled else run
        gradients, outputs = run(sources)
    elif BACKEND == "jax":
        import jax

        gradients, outputs = jax.jit(jax.grad(loss, has_aux=True))(sources)
    else:
        import torch

        sources = [source.detach().requires_grad_() for source in sources]
        value, outputs = loss(sources)
        gradients = torch.autograd.grad(value, sources, allow_unused=True, materialize_grads=True)
    return [ops.convert_to_numpy(t) for t in (*keras.tree.flatten(outputs), *gradients)]


def tolerance_of(target, form):
    """Parts of Keras are in float32: some layers on JAX and PyTorch, products on PyTorch."""
    products = form in ("low rank", "factors") or isinstance(target, layers.Dense)
    single = "Normalization" in type(target).__name__
    single = single or isinstance(target, (keras.Model, layers.Wrapper, layers.RNN))
    if BACKEND == "tensorflow" or not single and not (products and BACKEND == "torch"):
        return 1e-10
    return 1e-5


def check(target, x, form="whole", names=None, compiled=False, tolerance=None, **options):
    target.build(x.shape) if compiled else target(x, **options)
    weights = Weights(target, form, names)
    arguments = x, weights.tensors, [v.value for v in weights.kept]
    found = results(weights.at_once, *arguments, compiled=compiled, **options)
    expected = results(weights.one_by_one, *arguments, compiled=compiled, **options)
    assert not np.isnan(found[0]).any()
    assert any(np.abs(value).max() > 1e-3 for value in expected[1:])
    tolerance = tolerance or tolerance_of(target, form)
    largest = max(np.abs(value).max() for value in expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, tolerance, tolerance * largest)
    assert all("call" not in vars(layer) for layer, _ in owners(target))


F, FIRST = {"activation": ops.sin}, {"data_format": "channels_first"}
EINSUMS = {
    "abc,cde->abde": ((2, 3), dict(output_shape=(None, 2, 4), bias_axes="de", **F)),
    "abcd,cde->abe": ((2, 3, 2), dict(output_shape=(None, 4), bias_axes="e")),
    "abc,dc->abd": ((2, 3), dict(output_shape=(None, 4), bias_axes="d")),
    "...x,xy->...y": ((2, 2, 3), dict(output_shape=4, bias_axes="y")),
    "...x,yx->...y": ((3,), dict(output_shape=4)),
    "ab...,bc->ac...": ((3, 2, 2), dict(output_shape=4, bias_axes="c")),
    "abc,bcd->abd": ((2, 3), dict(output_shape=(2, 4), bias_axes="bd")),
    "abc,cd->adb": ((2, 3), dict(output_shape=(4, 2), bias_axes="d")),
}
CONVOLUTIONS = {
    "Conv1D": ((5, 2), (3, 2), dict(strides=2, **F)),
    "Conv1D causal": ((5, 2), (3, 2), dict(padding="causal", dilation_rate=2)),
    "Conv1D causal, first": ((2, 5), (3, 2), dict(padding="causal", **FIRST)),
    "Conv2D": ((4, 5, 2), (3, (2, 3)), dict(**F)),
    "Conv2D same, strides": ((4, 5, 2), (3, 3), dict(padding="same", strides=2)),
    "Conv2D same, dilation": ((4, 5, 2), (3, 3), dict(padding="same", dilation_rate=(2, 1))),
    "Conv2D groups": ((4, 5, 4), (6, 2), dict(groups=2)),
    "Conv2D 1 x 1, strides 3": ((4, 5, 2), (3, 1), dict(padding="same", strides=3)),
    "Conv2D first": ((2, 4, 5), (3, (2, 3)), dict(padding="same", **FIRST, **F)),
    "Conv3D": ((3, 4, 3, 2), (2, 2), dict(strides=(1, 2, 1), padding="same")),
    "DepthwiseConv1D": ((5, 2), (3,), dict(depth_multiplier=2, padding="same", **F)),
    "DepthwiseConv2D": ((4, 5, 2), (2,), dict(strides=2, depth_multiplier=3)),
    "DepthwiseConv2D first": ((2, 4, 5), (2,), dict(dilation_rate=2, **FIRST)),
    "SeparableConv1D": ((5, 2), (3, 2), dict(depth_multiplier=2)),
    "SeparableConv2D": ((4, 5, 2), (3, 2), dict(strides=2, padding="same", **F)),
    "SeparableConv2D first": ((2, 4, 5), (6, 2), dict(dilation_rate=2, **FIRST)),
    "Conv1DTranspose": ((4, 2), (3, 3), dict(strides=2, **F)),
    "Conv1DTranspose, dilation": ((4, 2), (3, 3), dict(dilation_rate=2, padding="same")),
    "Conv1DTranspose, long strides": ((4, 2), (3, 2), dict(strides=3)),
    "Conv1DTranspose, long strides, same": ((4, 2), (3, 2), dict(strides=3, padding="same")),
    "Conv2DTranspose": ((3, 4, 2), (3, (2, 3)), dict(strides=2, padding="same")),
    "Conv2DTranspose more": ((3, 4, 2), (3, 3), dict(strides=2, output_padding=1)),
    "Conv2DTranspose same, more": (
        (3, 4, 2), (3, 4), dict(strides=2, output_padding=1, padding="same"),
    ),
    "Conv2DTranspose first": ((2, 3, 4), (3, 3), dict(strides=(1, 2), **FIRST, **F)),
    "Conv3DTranspose": ((2, 3, 2, 2), (2, 2), dict(strides=(2, 1, 2))),
}  # fmt: skip


def inputs(*shape):
    return np.random.default_rng(1).standard_normal((ROWS, *shape))


def of_each(table, *forms):
    rows = [(name, form) for name in table for form in forms]
    return pytest.mark.parametrize("name, form", rows, ids=map(", ".join, rows))


@pytest.mark.parametrize("form", ["whole", "low rank", "factors", "scaled", "scaled everywhere"])
@pytest.mark.parametrize("shape", [(3,), (2, 2, 3)], ids=str)
def test_dense(shape, form):
    check(layers.Dense(4, activation=ops.sin, dtype="float64"), inputs(*shape), form)


@of_each(EINSUMS, "whole", "low rank", "factors", "scaled")
def test_einsum_dense(name, form):
    shape, options = EINSUMS[name]
    check(layers.EinsumDense(name, dtype="float64", **options), inputs(*shape), form)


@of_each(CONVOLUTIONS, "whole", "scaled")
def test_convolution(name, form):
    shape, arguments, options = CONVOLUTIONS[name]
    kind = getattr(layers, name.split()[0].strip(","))
    # TensorFlow has some of these by XLA only.
    compiled = "first" in name and "ep" not in name or "Transpose, dilation" in name
    check(kind(*arguments, dtype="float64", **options), inputs(*shape), form, compiled=compiled)


def test_low_rank_and_scales_of_inputs_of_a_convolution():
    for form in ("low rank", "factors", "scaled everywhere"):
        check(layers.Conv2D(3, 2, dtype="float64"), inputs(3, 4, 2), form)


SUBSETS = {
    "Dense": (lambda **o: layers.Dense(4, **o), (3,), ["kernel", "bias"]),
    "EinsumDense": (
        lambda **o: layers.EinsumDense("abc,cd->abd", (None, 2), bias_axes="d", **o),
        (2, 3),
        ["kernel", "bias"],
    ),
    "Conv2D": (lambda **o: layers.Conv2D(3, 2, **o), (3, 3, 2), ["kernel", "bias"]),
    "DepthwiseConv2D": (
        lambda **o: layers.DepthwiseConv2D(2, **o),
        (3, 3, 2),
        ["kernel", "bias"],
    ),
    "SeparableConv1D": (
        lambda **o: layers.SeparableConv1D(3, 2, **o),
        (4, 2),
        ["depthwise_kernel", "pointwise_kernel", "bias"],
    ),
    "Conv1DTranspose": (
        lambda **o: layers.Conv1DTranspose(3, 2, **o),
        (4, 2),
        ["kernel", "bias"],
    ),
    "LayerNormalization": (
        lambda **o: layers.LayerNormalization(**o),
        (2, 3),
        ["gamma", "beta"],
    ),
    "GroupNormalization": (
        lambda **o: layers.GroupNormalization(2, **o),
        (2, 4),
        ["gamma", "beta"],
    ),
    "BatchNormalization": (
        lambda **o: layers.BatchNormalization(**o),
        (2, 4),
        ["gamma", "beta"],
    ),
}


@pytest.mark.parametrize("kind, name", [(k, n) for k, row in SUBSETS.items() for n in row[2]])
def test_one_weight_of_several(kind, name):
    make, shape, _ = SUBSETS[kind]
    check(make(dtype="float64"), inputs(*shape), names=name)


@pytest.mark.parametrize("form", ["whole", "scaled"])
@pytest.mark.parametrize(
    "layer, shape",
    [
        (lambda **o: layers.BatchNormalization(axis=1, **o), (3, 2)),
        (lambda **o: layers.LayerNormalization(axis=(1, -1), **o), (2, 3, 4)),
        (lambda **o: layers.LayerNormalization(center=False, **o), (2, 3)),
        (lambda **o: layers.GroupNormalization(2, axis=1, **o), (4, 2)),
        (lambda **o: layers.RMSNormalization(**o), (2, 3)),
        (lambda **o: layers.PReLU(**o), (2, 3)),
        (lambda **o: layers.PReLU(shared_axes=[1], **o), (2, 3)),
    ],
    ids=["batch", "layer, two axes", "layer, no shift", "group", "RMS", "PReLU", "PReLU, shared"],
)
def test_scales_and_shifts(layer, shape, form):
    check(layer(dtype="float64"), inputs(*shape), form)


def test_statistics_of_a_batch():
    """They are those of the whole batch, and moving statistics change once."""
    layer, x = layers.BatchNormalization(epsilon=0.1, dtype="float64"), inputs(4, 2)
    layer.build(x.shape)
    weights = Weights(layer, "whole")
    pairs = list(zip(weights.generated, weights.forms(weights.tensors), strict=True))
    mapping = [(v, stand_in(layer, v)) for v in weights.generated]
    mapping.extend((v, v.value) for v in weights.kept)
    with keras.StatelessScope(mapping) as scope, weights_per_sample(layer, pairs):
        outputs = layer(x, training=True)
    mean, variance = x.mean((0, 1)), x.var((0, 1))
    gamma, beta = (ops.convert_to_numpy(tensor)[:, None] for tensor in weights.tensors)
    expected = (x - mean) / np.sqrt(variance + 0.1) * gamma + beta
    np.testing.assert_allclose(ops.convert_to_numpy(outputs), expected, 1e-4, 1e-5)
    moved = ops.convert_to_numpy(scope.get_current_value(layer.moving_mean))
    np.testing.assert_allclose(moved, 0.01 * mean, 1e-4, 1e-6)


@pytest.mark.parametrize("form", ["whole", "low rank", "factors", "scaled", "scaled everywhere"])
@pytest.mark.parametrize("shape", [(), (2,), (2, 3)], ids=str)
def test_embedding(shape, form):
    ids = np.random.default_rng(2).integers(0, 5, (ROWS, *shape), "int32")
    check(layers.Embedding(5, 4, dtype="float64"), ids, form)


def test_an_id_beyond_an_embedding_reads_no_other_sample():
    layer, ids = layers.Embedding(2, 3), np.array([[0, 1], [1, 2]], "int32")
    layer.build()
    tables = ops.ones((2, 2, 3))
    pairs = [(layer.weights[0], Whole(tables))]
    try:
        with weights_per_sample(layer, pairs):
            outputs = ops.convert_to_numpy(layer(ids))
    except Exception:  # what TensorFlow does on a CPU, and PyTorch
        return
    assert (outputs[1, 1] != 1).all()


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(dtype="float64")
        self.convolution = layers.Conv2D(4, 2, strides=2, activation=ops.sin, dtype="float64")
        self.statistics = layers.BatchNormalization(dtype="float64")
        self.parts = [layers.Dense(3, dtype="float64"), {"last": layers.Dense(2, dtype="float64")}]

    def call(self, x, training=False):
        x = self.statistics(self.convolution(x), training=training)
        return self.parts[1]["last"](self.parts[0](ops.mean(x, 1)))


def nested():
    """A functional model around Sequential and functional ones, with a layer used twice."""
    options = {"dtype": "float64"}
    x = keras.Input((4, 4, 2), **options)
    inner = keras.Sequential([layers.Conv2D(3, 2, **options), layers.ReLU(**options)])
    shared = layers.Dense(3, **options)
    y = keras.Input((3, 3, 3), **options)
    deeper = keras.Model(y, layers.LayerNormalization(**options)(shared(y)))
    return keras.Model(x, shared(layers.Flatten(**options)(deeper(inner(x)))[:, :3]))


def attention(**options):
    x = keras.Input((4, 3), dtype="float64")
    y = layers.MultiHeadAttention(2, 2, dtype="float64")(x, x, use_causal_mask=True)
    return keras.Model(x, layers.LayerNormalization(dtype="float64")(x + y))


def masked():
    ids = keras.Input((4,), dtype="int32")
    x = layers.Embedding(5, 3, mask_zero=True, dtype="float64")(ids)
    y = layers.MultiHeadAttention(2, 2, dtype="float64")(x, x)
    return keras.Model(ids, layers.GlobalAveragePooling1D(dtype="float64")(y))


def grouped():
    x = keras.Input((4, 3), dtype="float64")
    return keras.Model(x, layers.GroupQueryAttention(2, 4, 2, dtype="float64")(x, x))


def distributed(inner):
    return keras.Sequential([layers.TimeDistributed(inner, dtype="float64")])


IDS = np.array([[1, 2, 0, 0], [3, 4, 1, 0], [1, 1, 1, 1]], "int32")
TARGETS = {
    "subclassed": (Subclassed, inputs(4, 6, 2)),
    "nested": (nested, inputs(4, 4, 2)),
    "attention": (attention, inputs(4, 3)),
    "attention, masked": (masked, IDS),
    "attention, grouped queries": (grouped, inputs(4, 3)),
    "dense over time": (lambda: distributed(layers.Dense(2, dtype="float64")), inputs(2, 3)),
    "convolution over time": (
        lambda: distributed(layers.Conv1D(2, 2, dtype="float64")),
        inputs(2, 3, 2),
    ),
}


@of_each(TARGETS, "whole", "low rank", "scaled")
def test_model(name, form):
    make, x = TARGETS[name]
    check(make(), x, form)


def test_masks_of_attention():
    layer = layers.MultiHeadAttention(2, 2, dtype="float64")
    x, mask = inputs(4, 3), np.random.default_rng(3).random((ROWS, 4, 4)) < 0.7
    mask[..., 0] = True

    class Attention(keras.Model):
        def __init__(self):
            super().__init__(dtype="float64")
            self.attention = layer

        def call(self, x, attention_mask=None):
            return self.attention(x, x, attention_mask=attention_mask)

    check(Attention(), x, attention_mask=ops.convert_to_tensor(mask))


class Own(layers.Layer):
    """A layer without a rule that has weights beside a layer that has one."""

    def __init__(self, **options):
        super().__init__(dtype="float64", **options)
        self.dense = layers.Dense(2, dtype="float64")

    def build(self, shape):
        self.power = self.add_weight(shape=(shape[-1],), name="power")
        self.dense.build(shape)

    def call(self, x, offset=0.0):
        return self.dense(ops.sin(x * self.power)) + offset


class Bilinear(layers.Layer):
    """A layer without a rule that takes a dictionary or a list."""

    def build(self, shapes):
        self.kernel = self.add_weight(shape=(2, 3), name="kernel")

    def call(self, inputs):
        one, two = inputs.values() if isinstance(inputs, dict) else inputs
        return ops.matmul(one, self.kernel) * two


class Squared(layers.Dense):
    """It must not get the rule of its base class."""

    def call(self, inputs, training=None):
        return super().call(inputs) ** 2


class Normalized(layers.Dense):
    @property
    def kernel(self):
        return ops.sin(super().kernel)


WITHOUT_RULES = {
    "weights beside a layer": (lambda: Own(), inputs(2, 3)),
    "a call of its own": (lambda: Squared(2, dtype="float64"), inputs(2, 3)),
    "a kernel of its own": (lambda: Normalized(2, dtype="float64"), inputs(2, 3)),
    "a list": (lambda: Bilinear(dtype="float64"), [inputs(2), inputs(3)]),
    "a dictionary": (lambda: Bilinear(dtype="float64"), {"a": inputs(2), "b": inputs(3)}),
    "attention": (lambda: layers.AdditiveAttention(dtype="float64"), [inputs(2, 3)] * 2),
}


@pytest.mark.parametrize("name", WITHOUT_RULES)
def test_without_a_rule(name):
    make, x = WITHOUT_RULES[name]
    check(make(), x)


def test_arguments_without_a_rule():
    """The first has a row for each sample. Another is the same for all, also if it has as many."""

    class Looking(layers.Layer):
        def build(self, inputs_shape, table_shape):
            self.scale = self.add_weight(shape=inputs_shape[-1:], name="scale")

        def call(self, inputs, table):
            return inputs * self.scale + ops.sum(table)

    class Model(keras.Model):
        def __init__(self):
            super().__init__(dtype="float64")
            self.looking = Looking(dtype="float64")

        def call(self, inputs, rows=ROWS):
            return self.looking(inputs, ops.ones((rows, 2), "float64"))

    for rows in (ROWS, ROWS + 1):
        check(Model(), inputs(2), rows=rows)
    offset = ops.convert_to_tensor(inputs(1, 2))
    with pytest.raises(ValueError, match="in its first argument, `mask`.*returns 3 rows for one"):
        check(Own(), inputs(2, 3), offset=offset)


def test_masks_without_a_rule():
    """Of recurrent layers, each of which counts as one with its cell."""
    mask = ops.convert_to_tensor(np.array([[1, 0], [1, 1], [0, 1]], bool))
    layer = layers.Bidirectional(layers.LSTM(2, dtype="float64"), dtype="float64")
    check(layer, inputs(2, 2), mask=mask)


def pairs_of(layer, value=2.0, rows=ROWS):
    """Weights per sample, all with this value."""
    weights = layer.trainable_variables
    return [(v, Whole(ops.full((rows, *v.shape), value, v.dtype))) for v in weights]


def test_threads_do_not_see_each_others_weights():
    layer = layers.Dense(1, use_bias=False)
    layer.build((None, 1))
    layer.set_weights([np.ones((1, 1))])
    x, meet, outputs = ops.ones((ROWS, 1)), threading.Barrier(3), {}

    def call(value):
        context = weights_per_sample(layer, pairs_of(layer, value))
        with context if value else contextlib.nullcontext():
            meet.wait()
            outputs[value] = ops.convert_to_numpy(layer(x)).max()
            meet.wait()

    threads = [threading.Thread(target=call, args=(value,)) for value in (0.0, 2.0, 3.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == {0.0: 1.0, 2.0: 2.0, 3.0: 3.0}
    assert "call" not in vars(layer)


def test_a_context_leaves_nothing_behind():
    layer, x = layers.Dense(1, use_bias=False), ops.ones((ROWS, 1))
    layer.build((None, 1))
    with pytest.raises(KeyError), weights_per_sample(layer, pairs_of(layer)):
        raise KeyError
    assert "call" not in vars(layer)
    layer.call = call = lambda inputs: inputs + 5
    with weights_per_sample(layer, pairs_of(layer)):
        assert ops.convert_to_numpy(layer(x)).max() == 2
    assert layer.call is call
    assert ops.convert_to_numpy(layer(x)).max() == 6


def test_a_context_in_another():
    """The inner one comes first, but what it does not have comes from the outer one."""
    layer, x = layers.Dense(1), ops.ones((ROWS, 1))
    layer.build((None, 1))
    kernel, bias = pairs_of(layer)
    outputs = []
    with weights_per_sample(layer, [kernel, bias]):
        with weights_per_sample(layer, pairs_of(layer, 3.0)[:1]):
            outputs.append(layer(x))
        outputs.append(layer(x))
    assert [float(y[0, 0]) for y in outputs] == [5.0, 4.0]


def test_reading_past_the_rules_gives_no_number():
    class Past(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x) + ops.sum(self.dense.kernel)

    model = Past()
    model(np.ones((ROWS, 2)))
    weights = Weights(model, "whole", dtype="float32")
    outputs = weights.at_once(np.ones((ROWS, 2)), weights.tensors, [])
    assert np.isnan(ops.convert_to_numpy(outputs)).all()


def test_errors():
    dense = layers.Dense(2)
    dense.build((None, 2))
    with pytest.raises(ValueError, match="`inputs` .* samples=2"):
        with weights_per_sample(dense, pairs_of(dense, rows=2)):
            dense(ops.ones((6, 2)))
    with pytest.raises(ValueError, match="`weights` must be of variables"):
        with weights_per_sample(layers.Dense(2), pairs_of(dense)):
            pass

    class Noise(layers.Dense):
        def __init__(self):
            super().__init__(2)
            self.seeds = keras.random.SeedGenerator(0)

        def call(self, inputs, training=None):
            return super().call(inputs) + keras.random.normal((2,), seed=self.seeds)

    noise = Noise()
    noise.build((None, 2))
    with pytest.raises(ValueError, match=f"without a rule .* layer='{noise.name}'"):
        with weights_per_sample(noise, pairs_of(noise)):
            noise(ops.ones((ROWS, 2)))
    if BACKEND == "tensorflow":
        dense.quantize("int8")
        with pytest.raises(ValueError, match="quantized .* in int8"):
            with weights_per_sample(dense, pairs_of(dense)):
                pass


def test_lora():
    layer = layers.Dense(3, dtype="float64")
    layer.build((None, 2))
    layer.enable_lora(2)
    check(layer, inputs(2), names="bias", tolerance=1e-5)  # its factors are in float32


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision(dtype):
    def model(dtype):
        x = keras.Input((4, 4, 2))
        y = layers.Conv2D(3, 2, dtype=dtype)(x)
        y = layers.Dense(4, dtype=dtype)(layers.BatchNormalization(dtype=dtype)(y))
        return keras.Model(x, layers.Conv2DTranspose(2, 2, dtype=dtype)(y))

    outputs, x = [], inputs(4, 4, 2).astype("float32")
    for layer in (model("float32"), model(dtype)):
        weights = Weights(layer, "whole", dtype="float32")
        y = weights.at_once(x, weights.tensors, [v.value for v in weights.kept])
        assert keras.backend.standardize_dtype(y.dtype) == layer.layers[-1].compute_dtype
        outputs.append(ops.convert_to_numpy(ops.cast(y, "float32")))
    np.testing.assert_allclose(*outputs, 0.05, 0.05 * np.abs(outputs[0]).max())


def convolutional():
    x = keras.Input((None, None, 2))
    y = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(x)
    y = layers.SeparableConv2D(3, 2, padding="same")(layers.DepthwiseConv2D(2)(y))
    return keras.Model(x, layers.Conv2DTranspose(2, 3, strides=2, padding="same")(y))


@only("tensorflow", "sizes unknown in a graph, and XLA in parts of it")
@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
def test_unknown_sizes(compiled):
    import tensorflow as tf

    model, x = convolutional(), inputs(5, 7, 2).astype("float32")
    weights = Weights(model, "whole", dtype="float32")
    specs = [tf.TensorSpec((None, *[None] * 2, 2)), *[tf.TensorSpec((None, *v.shape)) for v in
             weights.generated]]  # fmt: skip

    @tf.function(input_signature=specs, autograph=False)
    def run(x, *tensors):
        pairs = zip(weights.generated, weights.forms(tensors), strict=True)
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            with weights_per_sample(model, pairs, compiled):
                outputs = model(x)
            loss = tf.reduce_sum(outputs**2)
        return outputs, *tape.gradient(loss, tensors)

    found = run(x, *weights.tensors)
    assert found[0].shape == (ROWS, 4, 6, 2)
    expected = weights.one_by_one(x, weights.tensors, [])
    np.testing.assert_allclose(found[0], expected, 1e-4, 1e-4)
    compiled_parts = run.get_concrete_function().graph.as_graph_def(add_shapes=False)
    assert (b"_XlaMustCompile" in compiled_parts.SerializeToString()) == compiled
    with tf.GradientTape() as tape:
        tape.watch(weights.tensors)
        loss = tf.reduce_sum(weights.one_by_one(x, weights.tensors, []) ** 2)
    for one, other in zip(found[1:], tape.gradient(loss, weights.tensors), strict=True):
        np.testing.assert_allclose(one, other, 1e-3, 1e-3 * np.abs(other).max())
