"""Random configurations against the equations, and random bad arguments to everything public.

`make test` takes 50 examples of each, always the same; `make test-slow` takes 500 new ones.
"""

import functools
import inspect
import json
import math
import numbers
import os
import re

import keras
import numpy as np
import numpy_reference as reference
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_weights import randomize

import keras_hypernets
from keras_hypernets import callbacks, converters, dynamic, export, initializers, models, plots
from keras_hypernets.models import char_lm, sequences, strokes

common = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}
settings.register_profile("quick", max_examples=20, derandomize=True, **common)
settings.register_profile("thorough", max_examples=500, print_blob=True, **common)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def copy_of(layer, input_shape):
    """A layer made from the configuration, as it is in a file, with the same weights."""
    config = layer.get_config()
    copy = type(layer).from_config(json.loads(json.dumps(config)))
    assert copy.get_config() == config
    copy.build(input_shape)
    copy.set_weights(layer.get_weights())
    return copy


def as_numpy(outputs):
    return [keras.ops.convert_to_numpy(one) for one in keras.tree.flatten(outputs)]


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9)


# Recurrent layers, with all options of the loop

ACTIVATIONS = {
    "tanh": np.tanh,
    "linear": lambda x: x,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "relu": lambda x: np.maximum(x, 0),
}
GATES = {"sigmoid": reference.sigmoid, "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1)}
RECURRENT = {  # step of the reference, names of the states
    "HyperLSTM": (reference.hyper_lstm_step, ("units", "units", "hyper_units", "hyper_units")),
    "HyperGRU": (reference.hyper_gru_step, ("units", "hyper_units")),
    "HyperSimpleRNN": (reference.hyper_simple_rnn_step, ("units", "hyper_units")),
    "LayerNormLSTM": (reference.lstm_step, ("units", "units")),
}


def recurrent_options(name):
    """Strategy for the arguments of a recurrent layer."""
    hyper, lstm = name.startswith("Hyper"), name.endswith("LSTM")
    rate, flag = st.floats(0, 0.9), st.booleans()
    initializer = st.sampled_from(["zeros", "ones", "random_normal"])  # cheap: values are replaced
    options = {
        "units": st.integers(1, 6),
        "layer_norm": flag,
        "layer_norm_epsilon": st.floats(1e-4, 1),
        "activation": st.sampled_from([*ACTIVATIONS]),
        "use_bias": flag,
        "kernel_initializer": initializer,
        "recurrent_initializer": initializer,
        "recurrent_regularizer": st.sampled_from([None, "l1", "l2"]),
        "bias_constraint": st.sampled_from([None, "unit_norm"]),
        "dropout": rate,
        "seed": st.none() | st.integers(-(2**31), 2**31 - 1),
        "return_sequences": flag,
        "return_state": flag,
        "go_backwards": flag,
        "unroll": flag,
        "zero_output_for_mask": flag,
        "checkpoint_every": st.none() | st.integers(1, 9),
    }
    if hyper:
        options |= {
            "hyper_units": st.integers(1, 5),
            "embedding_dim": st.integers(1, 4),
            "weight_generation": st.sampled_from(["scaling", "full"]),
            "hyper_initializer": st.sampled_from(["default", "paper"]),
            "hyper_kernel_initializer": initializer,
            "hyper_recurrent_initializer": initializer,
        }
    if lstm:
        options["forget_bias"] = st.floats(-2, 2)
        if hyper:
            options["hyper_forget_bias"] = st.floats(-2, 2)
    if name != "HyperSimpleRNN":
        options |= {"recurrent_activation": st.sampled_from([*GATES]), "recurrent_dropout": rate}
    # Keras 3.15 forgets to turn the mask around for the zeros of an unrolled loop.
    keras_is_wrong = ("unroll", "go_backwards", "zero_output_for_mask")
    return st.fixed_dictionaries(options).filter(
        lambda drawn: not all(map(drawn.get, keras_is_wrong))
    )


def settings_of_reference(options):
    return reference.Settings(
        weight_generation=options.get("weight_generation", ""),
        layer_norm_epsilon=options["layer_norm_epsilon"],
        forget_bias=options.get("forget_bias", 0.0),
        hyper_forget_bias=options.get("hyper_forget_bias", 0.0),
        activation=ACTIVATIONS[options["activation"]],
        recurrent_activation=GATES[options.get("recurrent_activation", "sigmoid")],
    )


def run_reference(step, x, mask, states, weights, options):
    """One sequence after the other: masked steps are left out, and then repeat the last output."""
    if options["go_backwards"]:
        x, mask = x[:, ::-1], mask[:, ::-1]
    outputs, finals = np.zeros((*x.shape[:2], options["units"])), [np.copy(s) for s in states]
    for n, kept in enumerate(mask):
        if kept.any():
            first = [state[n : n + 1] for state in states]
            y, last, _ = reference.run(
                step, x[n : n + 1, kept], first, weights, settings_of_reference(options)
            )
            outputs[n, kept] = y[0]
            for final, state in zip(finals, last, strict=True):
                final[n] = state[0]
        for t in range(1, len(kept)):
            if not kept[t] and not options["zero_output_for_mask"]:
                outputs[n, t] = outputs[n, t - 1]
    outputs = outputs if options["return_sequences"] else outputs[:, -1]
    return [outputs, *finals] if options["return_state"] else [outputs]


@pytest.mark.parametrize("name", RECURRENT)
@given(data=st.data())
def test_recurrent_layers(name, data):
    step, sizes = RECURRENT[name]
    options = data.draw(recurrent_options(name))
    batch, time, features = data.draw(st.tuples(*[st.integers(1, n) for n in (3, 3, 4)]))
    masked, stated = data.draw(st.booleans()), data.draw(st.booleans())
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x = rng.normal(size=(batch, time, features))
    mask = rng.random((batch, time)) < 0.6 if masked else np.ones((batch, time), bool)
    states = [stated * rng.normal(size=(batch, options[size])) for size in sizes]

    layer = getattr(keras_hypernets, name)(dtype="float64", **options)
    layer.build(x.shape)
    weights = randomize(layer, rng, 0.7)
    expected = run_reference(step, x, mask, states, weights, options)
    call = {"mask": mask} if masked else {}
    if stated:
        call["initial_state"] = [keras.ops.convert_to_tensor(state) for state in states]
    actual, of_copy = (as_numpy(one(x, **call)) for one in (layer, copy_of(layer, x.shape)))
    for a, b, e in zip(actual, of_copy, expected, strict=True):
        np.testing.assert_array_equal(a, b)
        assert_close(a, e)


# Layers with generated kernels


def reference_kernel(weights, tile_shape, embedding, kernel_shape):
    """Eq. 2 and 3: one input channel of one tile after the other."""
    *window, tile_in, tile_out = tile_shape
    rows, columns = kernel_shape[-2] // tile_in, kernel_shape[-1] // tile_out
    kernel = np.zeros(kernel_shape)
    for n, z in enumerate(embedding):
        row, column = divmod(n, columns)
        assert row < rows
        for i in range(tile_in):
            a = weights["projection_kernel"][:, i].T @ z + weights["projection_bias"][i]
            k = weights["output_kernel"].T @ a + weights["output_bias"]
            outputs = slice(column * tile_out, (column + 1) * tile_out)
            kernel[..., row * tile_in + i, outputs] = k.reshape(*window, tile_out)
    return kernel


def reference_convolution(x, kernel, strides, padding, dilation, groups):
    """Every output pixel by itself, from the pixels of its window."""
    extents = [(size - 1) * step + 1 for size, step in zip(kernel.shape, dilation, strict=False)]
    axes = []
    for size, extent, stride in zip(x.shape[1:3], extents, strides, strict=True):
        count = -(-size // stride) if padding == "same" else (size - extent) // stride + 1
        total = max((count - 1) * stride + extent - size, 0) if padding == "same" else 0
        axes.append((count, (total // 2, total - total // 2)))
    x = np.pad(x, ((0, 0), axes[0][1], axes[1][1], (0, 0)))
    inputs, outputs = kernel.shape[2], kernel.shape[3] // groups
    result = np.zeros((len(x), axes[0][0], axes[1][0], kernel.shape[3]))
    for row, column, group in np.ndindex(axes[0][0], axes[1][0], groups):
        top, left = row * strides[0], column * strides[1]
        window = x[:, top : top + extents[0] : dilation[0], left : left + extents[1] : dilation[1]][
            ..., group * inputs : (group + 1) * inputs
        ]
        part = slice(group * outputs, (group + 1) * outputs)
        result[:, row, column, part] = np.einsum("bhwi,hwio->bo", window, kernel[..., part])
    return result


@st.composite
def generators(draw, window):
    """A generator, or the arguments for one of the layer's own; and the tiles of its kernel."""
    sizes = st.integers(1, 3)
    own = draw(st.booleans())
    tile = (*window, draw(sizes), draw(sizes))
    grid = (1, 1) if own else (draw(sizes), draw(sizes))
    options = {
        "embedding_dim": draw(st.integers(1, 4)),
        "hidden_units": draw(st.none() | st.integers(1, 5)),
    }
    if not own:
        initializer = draw(st.sampled_from(["hyperfan_in", "hyperfan_out", "notebook"]))
        generator = keras_hypernets.KernelGenerator(
            tile, initializer=initializer, dtype="float64", **options
        )
        options = {"generator": generator}
    return options, tile, grid


def check_generated(layer, tile, kernel_shape, x, compute, activation, rng):
    layer.build(x.shape)
    randomize(layer, rng, 0.7)
    weights = {weight.name: keras.ops.convert_to_numpy(weight) for weight in layer.weights}
    kernel = reference_kernel(weights, tile, weights["embedding"], kernel_shape)
    assert_close(layer.kernel, kernel)
    actual = keras.ops.convert_to_numpy(layer(x))
    expected = ACTIVATIONS[activation](compute(x, kernel) + weights.get("bias", 0.0))
    assert_close(actual, expected)
    assert actual.shape == tuple(layer.compute_output_shape(x.shape))
    np.testing.assert_array_equal(copy_of(layer, x.shape)(x), actual)


@given(data=st.data())
def test_hyper_dense(data):
    options, tile, grid = data.draw(generators(()))
    inputs, units = (size * count for size, count in zip(tile, grid, strict=True))
    activation, use_bias = data.draw(st.sampled_from([*ACTIVATIONS])), data.draw(st.booleans())
    layer = keras_hypernets.HyperDense(
        units, activation=activation, use_bias=use_bias, dtype="float64", **options
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x = rng.normal(size=(*data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=2)), inputs))
    check_generated(layer, tile, (inputs, units), x, np.matmul, activation, rng)


@given(data=st.data())
def test_hyper_conv2d(data):
    pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
    window, padding = data.draw(pairs), data.draw(st.sampled_from(["same", "valid"]))
    strides, dilation = data.draw(st.tuples(pairs, st.just((1, 1))) | st.tuples(st.just(1), pairs))
    strides = (1, 1) if strides == 1 else strides
    options, tile, grid = data.draw(generators(window))
    inputs, filters = tile[-2] * grid[0], tile[-1] * grid[1]
    groups = data.draw(st.sampled_from([n for n in (1, 2, 3) if filters % n == 0]))
    extents = [(size - 1) * step + 1 for size, step in zip(window, dilation, strict=True)]
    sizes = [data.draw(st.integers(extent, extent + 4)) for extent in extents]
    activation, use_bias = data.draw(st.sampled_from([*ACTIVATIONS])), data.draw(st.booleans())
    layer = keras_hypernets.HyperConv2D(
        filters,
        window,
        strides=strides,
        padding=padding,
        dilation_rate=dilation,
        groups=groups,
        activation=activation,
        use_bias=use_bias,
        dtype="float64",
        **options,
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x = rng.normal(size=(data.draw(st.integers(1, 2)), *sizes, inputs * groups))

    def convolve(x, kernel):
        return reference_convolution(x, kernel, strides, padding, dilation, groups)

    check_generated(layer, tile, (*window, inputs, filters), x, convolve, activation, rng)


@given(data=st.data())
def test_hyper_network_of_tiles(data):
    """All kernels of a model, from one generator."""
    options, tile, _ = data.draw(generators(data.draw(st.sampled_from([(), (2, 3)]))))
    generator = options.pop("generator", None) or keras_hypernets.KernelGenerator(
        tile, dtype="float64", **options
    )
    window = tile[:-2]
    grids = data.draw(st.lists(st.tuples(*[st.integers(1, 3)] * 2), min_size=1, max_size=3))
    inputs, outputs = [], []
    for rows, columns in grids:
        inputs.append(keras.Input((*window, tile[-2] * rows), dtype="float64"))
        options = {"use_bias": False, "dtype": "float64"}
        if window:
            layer = keras.layers.Conv2D(tile[-1] * columns, window, **options)
        else:
            layer = keras.layers.Dense(tile[-1] * columns, **options)
        outputs.append(layer(inputs[-1]))
    target = keras.Model(inputs, outputs)
    hyper = keras_hypernets.HyperNetwork(target, generator=generator, base=None, dtype="float64")
    hyper.build([one.shape for one in inputs])
    randomize(hyper, data.draw(st.integers(0, 99)), 0.7)
    weights = {weight.name: keras.ops.convert_to_numpy(weight) for weight in hyper.weights}
    first = 0
    for kernel, (rows, columns) in zip(hyper.generated_weights().values(), grids, strict=True):
        embedding = weights["embedding"][first : first + rows * columns]
        assert_close(kernel, reference_kernel(weights, tile, embedding, kernel.shape))
        first += rows * columns
    assert first == len(weights["embedding"])


# Bad arguments: each argument of each callable with what it allows


def integer(least, end=2**31):
    return lambda v: (
        isinstance(v, numbers.Integral) and not isinstance(v, bool) and least <= v < end
    )


def number(allowed=lambda v: True):
    def allows(v):
        if not isinstance(v, numbers.Real) or isinstance(v, bool):
            return False
        try:
            return math.isfinite(v) and allowed(v)
        except OverflowError:
            return False

    return allows


def or_none(allows):
    return lambda v: v is None or allows(v)


def names(*known):
    return lambda v: isinstance(v, str) and v in known


def listed(allows, *lengths):
    return lambda v: isinstance(v, (list, tuple)) and len(v) in lengths and all(map(allows, v))


def nothing(v):
    return False


def anything(v):
    return True


def is_none(v):
    return v is None


def is_dictionary_for_json(v):
    try:
        json.dumps(v, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return isinstance(v, dict)


def is_text(v):
    """A text in the letters of the model that is tried."""
    return isinstance(v, str) and v != "" and set(v) <= {"a", "b"}


def is_prompt(v):
    return is_text(v) or (isinstance(v, (list, tuple)) and len(v) > 0 and all(map(is_text, v)))


def is_path(v):
    return isinstance(v, str) and v != "" and "\0" not in v


def image_shape(side):
    return lambda v: listed(anything, 3)(v) and side(v[0]) and side(v[1]) and size(v[2])


size, rate, seed = integer(1), number(lambda v: 0 <= v < 1), integer(-(2**31), 2**32)
narrow_seed = {"seed": integer(-(2**31))}
SIZES = """units hyper_units embedding_dim hidden_units checkpoint_every filters classes width
layers mixtures token_embedding_size size count batch_size length max_length piece top_k channels
bins every
""".split()
# What arguments of these names allow, unless a callable has a rule of its own.
RULES = {
    **dict.fromkeys(SIZES, size),
    **dict.fromkeys(("dropout", "recurrent_dropout", "hyper_recurrent_dropout"), rate),
    **dict.fromkeys(("forget_bias", "hyper_forget_bias", "gain"), number()),
    **dict.fromkeys(("activation", "recurrent_activation"), is_none),
    **dict.fromkeys(("path", "log_dir"), is_path),
    "layer_norm_epsilon": number(lambda v: v > 0),
    "seed": seed,
    "weight_generation": names("scaling", "full"),
    "hyper_initializer": names("default", "paper"),
    "padding": names("same", "valid", "causal"),
    "data_format": names("channels_last", "channels_first"),
    "groups": integer(1, 3),
    "vocabulary": lambda v: isinstance(v, str) and len(v) == len(set(v)) >= 2,
    "prompt": is_prompt,
    "temperature": number(lambda v: 0 <= v <= 1e30),
    "top_p": number(lambda v: 0 < v <= 1),
    "stop": is_text,
    "text": lambda v: is_text(v) and len(v) > 1,
    "layer": integer(0, 1),
}


def rules_of(callable_, own):
    """What each argument allows: of those without a rule a flag or None, if that is the default."""
    found = {}
    for name, parameter in inspect.signature(callable_).parameters.items():
        if isinstance(parameter.default, bool):
            found[name] = lambda v: isinstance(v, bool)
        else:
            rule = RULES.get(name, nothing)
            found[name] = or_none(rule) if parameter.default is None else rule
    return {name: rule for name, rule in (found | own).items() if name not in NOT_TRIED}


NOT_TRIED = "name", "kwargs", "cell_options"


def tried(callable_, working=None, **own):
    """A callable, arguments that make it work, and what each of its arguments allows."""
    return callable_.__name__, (callable_, working or {}, rules_of(callable_, own))


def convolution(rank):
    window = dict.fromkeys(
        ("kernel_size", "strides", "dilation_rate"), lambda v: size(v) or listed(size, rank)(v)
    )
    layer = getattr(keras_hypernets, f"HyperConv{rank}D")
    return tried(layer, {"filters": 2, "kernel_size": 3}, **window)


def layer_with_cell(layer):
    """All of its arguments that are also the cell's are tried with the cell, but for sizes."""
    of_cell = {*inspect.signature(layer.cell_class).parameters} - {*SIZES}
    return tried(layer, {"units": 2}, **dict.fromkeys(of_cell, anything))


no_dropout = dict.fromkeys(
    ("recurrent_dropout", "hyper_recurrent_dropout"), number(lambda v: v == 0)
)
target = keras.layers.Dense(2)
target.build((None, 2))
parameters = np.zeros((1, 1, 13), "float32")
CALLABLES = dict(
    [
        tried(keras_hypernets.GatedCell, {"units": 2}),
        tried(keras_hypernets.LayerNormLSTMCell, {"units": 2}),
        tried(keras_hypernets.HyperCell, {"units": 2}),
        tried(keras_hypernets.HyperLSTMCell, {"units": 2}),
        tried(keras_hypernets.HyperGRUCell, {"units": 2}),
        tried(keras_hypernets.HyperSimpleRNNCell, {"units": 2}, **no_dropout),
        *map(layer_with_cell, dynamic.LAYERS.values()),
        tried(keras_hypernets.GatedRNN, {"cell": keras_hypernets.LayerNormLSTMCell(2)}),
        tried(
            keras_hypernets.KernelGenerator,
            {"tile_shape": (2, 2)},
            tile_shape=listed(size, *range(2, 30)),
            initializer=names("hyperfan_in", "hyperfan_out", "notebook"),
            seed=or_none(integer(-(2**31))),
        ),
        tried(keras_hypernets.HyperDense, {"units": 2}),
        tried(
            keras_hypernets.HyperNetwork,
            {"target": target},
            target_weights=anything,
            hidden_units=listed(size, *range(30)),
            generation=names("full", "scaling"),
            chunk_size=or_none(size),
            chunk_embedding_dim=size,
            base=or_none(names("trainable", "frozen")),
        ),
        *map(convolution, (1, 2, 3)),
        tried(initializers.GateOrthogonal),
        tried(initializers.per_gate, {"initializer": np.zeros}),
        tried(char_lm.CharacterEmbedding, {"vocabulary": "ab"}),
        tried(
            models.char_language_model,
            {"vocabulary": "ab", "units": 2},
            cell=names(*dynamic.LAYERS, "lstm"),
            seed=or_none(integer(-(2**31))),
            hyper_units=or_none(size),
            layer_norm=lambda v: isinstance(v, bool),
            kernel_regularizer=is_none,
            recurrent_dropout=rate,
        ),
        tried(
            models.stroke_model,
            {"units": 2},
            cell=names(*dynamic.LAYERS, "lstm"),
            seed=or_none(integer(-(2**31))),
        ),
        tried(strokes.MixtureDensity),
        tried(strokes.check_strokes, {"name": "strokes", "strokes": [[1.0, 2.0, 0.0]]}),
        tried(strokes.previous_points, {"strokes": np.zeros((1, 1, 3))}, strokes=anything),
        *(
            tried(
                loss,
                {"strokes": np.zeros((1, 1, 3), "float32"), "parameters": parameters},
                strokes=anything,
                parameters=anything,
                mask=anything,
            )
            for loss in (strokes.stroke_loss, strokes.nats_per_drawing)
        ),
        tried(models.hyper_cnn, input_shape=image_shape(integer(4))),
        tried(
            models.hyper_resnet,
            {"depth": 10, "width": 1},
            depth=lambda v: integer(10)(v) and v % 6 == 4,
            input_shape=image_shape(or_none(integer(4))),
            shortcut=names("projection", "pad"),
            tile_size=lambda v: integer(1)(v) and 16 % v == 0,
        ),
    ]
)


@pytest.fixture(scope="module")
def callables_with_a_model(tmp_path_factory):
    """As `CALLABLES`, for what needs a character language model of the letters a and b."""
    model = models.char_language_model("ab", units=2, hyper_units=2, embedding_dim=2)
    states = [np.zeros((1, n), "float32") for n in sequences.state_sizes(model).values()]
    ids, logits = np.zeros((1, 3), "int32"), np.zeros((1, 2), "float32")
    embedding = model.get_layer("embedding")
    cell, plain = keras_hypernets.LayerNormLSTMCell(2, layer_norm=False), keras.layers.LSTM(2)
    cell.build((None, 1)), plain.build((None, None, 1))
    path = tmp_path_factory.mktemp("export") / "model"
    writing = {"model": model, "prompt": "ab", "length": 2}
    resnet = {"model": models.hyper_resnet(10, 1)}

    @functools.wraps(char_lm.stream)
    def stream(**given):
        return list(char_lm.stream(**given))

    return dict(
        [
            tried(embedding.encode, argument=anything, text=lambda v: v == "" or is_text(v)),
            tried(
                embedding.decode,
                ids=lambda v: isinstance(v, (list, tuple, str)) and all(map(integer(0, 2), v)),
            ),
            tried(sequences.state_sizes),
            tried(
                sequences.initial_states, {"model": model, "batch_size": 1}, batch_size=integer(0)
            ),
            tried(sequences.run, {"model": model, "inputs": ids, "states": states}),
            tried(sequences.step, {"model": model, "inputs": ids[:, 0], "states": states}),
            tried(sequences.with_states),
            tried(sequences.step_model),
            tried(
                sequences.sample,
                {"logits": logits, "temperature": 1.0, "seed": 0, "position": 0},
                position=integer(-(2**31)),
                **narrow_seed,
            ),
            tried(char_lm.generate, writing, **narrow_seed),
            tried(stream, writing, **narrow_seed),
            tried(
                models.generate_strokes,
                {"model": models.stroke_model(2, mixtures=1), "length": 2},
                prime=is_none,
                seed=or_none(integer(-(2**31))),
            ),
            tried(
                export.export_saved_model,
                {"model": model, "path": path},
                version=or_none(integer(1, 2**63)),
                card=or_none(is_dictionary_for_json),
            ),
            tried(export.bake, {"model": model}),
            tried(plots.plot_filters, {"model_or_kernel": np.ones((1, 1, 1, 1))}),
            tried(plots.weight_changes, {"model": model, "text": "ab"}),
            tried(plots.plot_weight_changes, {"model": model, "text": "ab"}),
            tried(plots.plot_cell_saturation, {"models": {"a": model}, "text": "ab"}),
            tried(plots.embedding_similarity, resnet),
            tried(plots.plot_embedding_similarity, resnet),
            tried(callbacks.GeneratedWeightsMonitor, {"log_dir": str(path)}, sample=anything),
            tried(sequences.state_history, {"model": model, "inputs": ids}),
            tried(converters.load_keras_lstm, {"cell": cell, "layer": plain}, layer=nothing),
            tried(
                converters.load_supercell_checkpoint,
                {"cell": cell, "checkpoint": str(path), "scope": "rnn"},
                scope=lambda v: isinstance(v, str),
            ),
        ]
    )


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 20),
    st.integers(),
    st.sampled_from([2**31, 2**32, 2**63, 2**64, 10**400, -(2**31) - 1, -(10**400)]),
    st.floats(),
    st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 1.0, 1e308]),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.complex_numbers(),
    st.builds(object),
)
values = st.one_of(
    scalars,
    st.lists(scalars, max_size=4),
    st.lists(st.integers(-1, 9), max_size=5).map(tuple),
    st.dictionaries(st.text(max_size=3), scalars, max_size=2),
)


def check_bad_value(callable_, working, allowed, value):
    for argument, allows in allowed.items():
        if not allows(value):
            with pytest.raises((ValueError, TypeError)) as caught:
                callable_(**{**working, argument: value})
            assert re.search(rf"\b{argument}\b", str(caught.value)), (argument, caught.value)


@pytest.mark.parametrize("name", CALLABLES)
@given(value=values)
def test_bad_arguments_are_named(name, value):
    check_bad_value(*CALLABLES[name], value)


@given(value=values)
def test_bad_arguments_are_named_by_what_takes_a_model(callables_with_a_model, value):
    for callable_, working, allowed in callables_with_a_model.values():
        check_bad_value(callable_, working, allowed, value)


@pytest.mark.parametrize("name", CALLABLES)
def test_good_arguments(name):
    """Or all arguments were bad."""
    callable_, working, _ = CALLABLES[name]
    callable_(**working)


def test_everything_public_is_tried(callables_with_a_model):
    kinds = {"__version__", "callbacks", "converters", "export", "initializers", "models", "plots"}
    kinds |= {"char_lm", "sequences", "strokes"}
    modules = (keras_hypernets, models, char_lm, sequences, strokes, export, plots)
    public = {name for module in modules for name in module.__all__} - kinds
    assert public <= {*CALLABLES, *callables_with_a_model}
