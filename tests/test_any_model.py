"""HyperNetwork on models that it does not know: those of keras.applications and of KerasHub."""

import math
import warnings

import keras
import numpy as np
import pytest
from keras import applications, layers
from keras.models import load_model

from keras_hypernets import HyperNetwork

FULL = {"generation": "full"}
LOW_RANK = {"generation": "low_rank", "rank": 2, "base": "frozen"}
SCALING = {"generation": "scaling"}
CHUNKS = {"chunk_size": 1000, "base": None}
CONDITIONS = np.array([[0.2, -1.0], [1.5, 0.3], [-0.7, 0.8]], "float32")
BATCH = len(CONDITIONS)

# A model of each family, the least size of its images, and weights to generate: of its last block,
# or where that has more than 100,000 in each kernel, of its last layers and a smaller kernel.
FAMILIES = {
    "convnext": ("ConvNeXtTiny", 32, "stage_3_block_2_(depthwise_conv|layernorm|layer_scale)/"),
    "densenet": ("DenseNet121", 32, "conv5_block16_(1_bn|2_conv)/"),
    "efficientnet": ("EfficientNetB0", 32, "block7a_(dwconv|bn|se_reduce)/"),
    "efficientnet_v2": ("EfficientNetV2B0", 32, "block6h_(dwconv2|bn|se_reduce)/"),
    "inception_resnet_v2": ("InceptionResNetV2", 75, "block35_10_conv/|^predictions/"),
    "inception_v3": ("InceptionV3", 75, "^predictions/"),
    "mobilenet": ("MobileNet", 32, "conv_(dw|pw)_13(_bn)?/", {"alpha": 0.25}),
    "mobilenet_v2": (
        "MobileNetV2",
        32,
        "block_16_(depthwise|depthwise_BN|project)/",
        {"alpha": 0.35},
    ),
    "mobilenet_v3": (
        "MobileNetV3Small",
        32,
        "expanded_conv_10_(depthwise|depthwise_bn|squeeze_excite_conv)/",
    ),
    "nasnet": ("NASNetMobile", 32, "normal_A_block_12/.*left2_12/"),
    "resnet": ("ResNet50", 32, "conv3_block4_1_conv/kernel|conv5_block3_3_bn/"),
    "resnet_v2": ("ResNet50V2", 32, "conv3_block4_1_conv/|post_bn/"),
    "vgg": ("VGG16", 32, "^predictions/"),
    "xception": ("Xception", 71, "block14_sepconv2(_bn)?/(depthwise|gamma|beta)|^predictions/"),
}
# Those that take few seconds.
QUICK = ("mobilenet",)


def families(*names):
    slow = pytest.mark.slow
    return [pytest.param(name, marks=() if name in QUICK else slow) for name in names]


def make(name):
    """Returns a model and a pattern for the weights to generate."""
    kind, size, chosen, *options = FAMILIES[name]
    options = options[0] if options else {}
    shape = (size, size, 3)
    model = getattr(applications, kind)(
        weights=None, input_shape=shape, classes=10, classifier_activation=None, **options
    )
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            # One step gives the statistics with which features neither vanish nor explode.
            layer.momentum = 0.0
        elif layer.name.endswith("layer_scale"):
            layer.set_weights([np.ones(weight.shape) for weight in layer.get_weights()])
    return model, f"({chosen})(?!.*moving_)"


def images_for(model):
    images = np.random.default_rng(0).uniform(0, 255, (BATCH, *model.input_shape[1:]))
    return images.astype("float32")


def tokens_for(backbone):
    rng = np.random.default_rng(0)
    values = {
        "token_ids": rng.integers(1, 30, (BATCH, 6)),
        "segment_ids": np.zeros((BATCH, 6)),
        "padding_mask": np.arange(6) < [[6], [5], [4]],
    }
    return {name: values[name].astype("int32") for name in backbone.input}


def fit_one_step(hyper, inputs, **options):
    """Returns a model that was trained for a step, in which all generated weights changed."""
    symbolic = keras.tree.map_structure(lambda x: keras.Input(x.shape[1:], dtype=x.dtype), inputs)
    condition = keras.Input((2,))
    model = keras.Model([symbolic, condition], hyper(symbolic, condition))
    first = np.repeat(CONDITIONS[:1], BATCH, axis=0)
    before = numpy(hyper.generated_weights(CONDITIONS[:1]))
    assert 0 < sum(map(np.size, before.values())) <= 100_000
    model.compile("adam", "mse", **options)
    targets = keras.tree.map_structure(np.ones_like, numpy(model([inputs, first])))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Gradients do not exist")
        history = model.fit([inputs, first], targets, verbose=0)
    assert math.isfinite(history.history["loss"][0])
    for path, value in numpy(hyper.generated_weights(CONDITIONS[:1])).items():
        assert np.isfinite(value).all(), path
        assert (value != before[path]).any(), path
    return model


def check_loaded_and_plain(model, inputs, folder):
    """What is loaded again gives the same, and the plain models of two conditions too."""
    model.save(folder / "model.keras")
    loaded = load_model(folder / "model.keras")
    hyper = loaded.layers[-1]
    outputs = []
    for condition in CONDITIONS[:1], CONDITIONS[1:2]:
        rows = np.repeat(condition, BATCH, axis=0)
        outputs.append(numpy(model([inputs, rows])))
        assert_close(loaded([inputs, rows]), outputs[-1])
        assert_close(hyper.plain_layer(condition)(inputs), outputs[-1])
    assert_different(*outputs)


def check_per_sample(target, pattern, inputs, deviation=0.1, **options):
    """Each sample is as from the plain model of its condition.

    That runs on the whole batch too: on a sample alone deep models round differently. Statistics of
    three samples amplify it: in EfficientNet to 5e-5, while conditions differ by more than 0.2.
    """
    hyper = HyperNetwork(target, pattern, hidden_units=(8,), per_sample=True, **options)
    hyper(inputs, CONDITIONS)
    spread(hyper, deviation)
    outputs = numpy(hyper(inputs, CONDITIONS))
    plain = [numpy(hyper.plain_layer(CONDITIONS[n : n + 1])(inputs)) for n in range(BATCH)]
    assert_different(*plain[:2])
    for n in range(BATCH):
        assert_close(sample(n, outputs), sample(n, plain[n]), 1e-4)


def spread(hyper, deviation=0.1):
    """Changes the writer such that outputs differ between conditions by more than by rounding."""
    rng = np.random.default_rng(1)
    for weight in hyper.writer.weights:
        weight.assign(weight + deviation * rng.standard_normal(weight.shape))


def sample(n, tensors):
    return keras.tree.map_structure(lambda x: x[n : n + 1], tensors)


def numpy(tensors):
    return keras.tree.map_structure(keras.ops.convert_to_numpy, tensors)


def assert_close(actual, expected, tolerance=1e-5):
    for a, b in zip(*map(keras.tree.flatten, (numpy(actual), numpy(expected))), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


def assert_different(one, other):
    for a, b in zip(*map(keras.tree.flatten, (one, other)), strict=True):
        assert np.abs(a - b).max() > 1e-3 * np.abs(a).max()


@pytest.mark.parametrize("name", families(*FAMILIES))
def test_family_of_keras_applications(name, tmp_path):
    keras.utils.set_random_seed(0)
    target, pattern = make(name)
    images = images_for(target)
    for generation in (FULL, LOW_RANK):
        hyper = HyperNetwork(target, pattern, hidden_units=(8,), activation="tanh", **generation)
        model = fit_one_step(hyper, images, run_eagerly=True)
    spread(hyper)
    check_loaded_and_plain(model, images, tmp_path)


@pytest.mark.parametrize("name", families(*FAMILIES))
def test_family_of_keras_applications_per_sample(name):
    keras.utils.set_random_seed(0)
    target, pattern = make(name)
    images = images_for(target)
    target(images, training=True)  # for the statistics
    for generation in (FULL, LOW_RANK):
        check_per_sample(target, pattern, images, activation="tanh", **generation)


@pytest.mark.slow
@pytest.mark.parametrize("generation", [SCALING, CHUNKS])
@pytest.mark.parametrize("name", ["convnext", "mobilenet_v2"])
def test_scaling_and_chunks(name, generation, tmp_path):
    keras.utils.set_random_seed(0)
    target, pattern = make(name)
    images = images_for(target)
    hyper = HyperNetwork(target, pattern, hidden_units=(8,), activation="tanh", **generation)
    model = fit_one_step(hyper, images, run_eagerly=True)
    spread(hyper)
    check_loaded_and_plain(model, images, tmp_path)


# Of two layers, 16 units, 30 tokens and 8 positions.
BACKBONES = {
    "BertBackbone": {"num_heads": 2, "max_sequence_length": 8},
    "GPT2Backbone": {"num_heads": 2, "max_sequence_length": 8},
    "LlamaBackbone": {"num_query_heads": 2, "num_key_value_heads": 1},
}


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.slow if n else ()) for n, kind in enumerate(BACKBONES)],
)
def test_backbone_of_keras_hub(kind, tmp_path):
    """Adapters of the queries and values of a frozen backbone."""
    hub = pytest.importorskip("keras_hub")
    keras.utils.set_random_seed(0)
    backbone = getattr(hub.models, kind)(
        vocabulary_size=30, num_layers=2, hidden_dim=16, intermediate_dim=32, **BACKBONES[kind]
    )
    backbone.trainable = False
    before = backbone.get_weights()
    tokens, pattern = tokens_for(backbone), r"(query|value)/kernel$"
    hyper = HyperNetwork(backbone, pattern, hidden_units=(8,), activation="tanh", **LOW_RANK)
    model = fit_one_step(hyper, tokens)
    assert len(hyper.generated) == 4
    assert {id(v) for v in model.trainable_weights} == {id(v) for v in hyper.writer.weights}
    for weight, value in zip(backbone.weights, before, strict=True):
        np.testing.assert_array_equal(numpy(weight), value)
    spread(hyper, 0.5)  # since its kernels are small beside its residual connections
    check_loaded_and_plain(model, tokens, tmp_path)
    check_per_sample(backbone, pattern, tokens, 0.5, activation="tanh", **LOW_RANK)


def test_symbolic_calls_do_not_run_the_target():
    """Which takes as long as building it."""
    calls = []

    class Watched(layers.Conv2D):
        def call(self, inputs):
            calls.append(inputs)
            return super().call(inputs)

    target = keras.Sequential([keras.Input((None, None, 3)), Watched(4, 3)])
    hyper = HyperNetwork(target)
    outputs = hyper(keras.Input((8, 9, 3), dtype="float32"), keras.Input((2,)))
    assert outputs.shape == (None, 6, 7, 4)
    assert not calls
    with pytest.raises(ValueError, match="`condition` must have the shape"):
        hyper(keras.Input((8, 9, 3)), keras.Input((5,)))
    assert hyper(np.ones((1, 8, 9, 3)), np.ones((1, 2))).shape == (1, 6, 7, 4)
    assert len(calls) == 1


def test_paths_that_change_when_loaded(tmp_path):
    """Weights are found again, though in NASNet, say, the paths come from scopes of names."""
    x = images = keras.Input((4,))
    with keras.name_scope("block"):
        x = layers.Dense(5, name="one")(x)
    target = keras.Model(images, layers.Dense(6, name="two")(x))
    hyper = HyperNetwork(target, "^block/one/", hidden_units=(3,))
    condition = keras.Input((2,))
    model = keras.Model([images, condition], hyper(images, condition))
    spread(hyper)
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras").layers[-1]
    assert [g.variable.path for g in hyper.generated] == ["block/one/kernel", "block/one/bias"]
    assert [g.variable.path for g in loaded.generated] == ["one/kernel", "one/bias"]
    assert loaded.target_weights == hyper.target_weights
    inputs = np.ones((2, 4), "float32"), CONDITIONS[:1]
    assert_close(loaded(*inputs), hyper(*inputs))
