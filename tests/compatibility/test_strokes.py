"""The density of strokes and drawing with it, on every backend."""

import itertools

import keras
import numpy as np
import pytest
from backends import BACKEND, only
from keras import ops
from numpy_reference import stroke_nats

from keras_hypernets import models, plots
from keras_hypernets.models import sequences, strokes

MIXTURES = 3
RNG = np.random.default_rng(0)
POINTS = np.concatenate([RNG.normal(size=(4, 6, 2)), RNG.integers(0, 2, (4, 6, 1))], -1)
PARAMETERS = RNG.normal(size=(4, 6, 6 * MIXTURES + 1))
# Raw values of one Gaussian: logit, mean x and y, log sigma x and y, arctanh rho.
EXTREMES = {
    "tiny sigma": [0, 0.5, -0.5, -30, -30, 0],
    "one tiny, one huge": [0, 0.5, -0.5, -10, 10, 1],
    "huge sigma": [0, 0, 0, 50, 50, 0],
    "rho 1": [0, 0, 0, 0, 0, 20],
    "rho -1": [0, 0, 0, 1, -1, -1e4],
    "far": [0, 1e5, -1e6, -1, 2, 0.5],
    "far, narrow, rho 1": [0, 1e10, 0, -10, -10, 9],
    "logit 1e4": [1e4, 0, 0, 0, 0, 0],
    "logit -1e4": [-1e4, 1, 0, 0, 0, 0],
}


def reference(points, parameters):
    points, parameters = np.asarray(points), np.asarray(parameters)
    nats = [
        stroke_nats(point, those)
        for point, those in zip(
            points.reshape(-1, 3), parameters.reshape(-1, parameters.shape[-1]), strict=True
        )
    ]
    return np.reshape(nats, points.shape[:-1])


def gradient(points, parameters):
    """Of the sum of all losses, by the parameters."""
    points, parameters = ops.convert_to_tensor(points), ops.convert_to_tensor(parameters)

    def total(parameters):
        return ops.sum(models.stroke_loss(points, parameters))

    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(parameters)
            value = total(parameters)
        found = tape.gradient(value, parameters)
    elif BACKEND == "jax":
        import jax

        found = jax.grad(total)(parameters)
    else:
        import torch

        parameters.requires_grad_()
        (found,) = torch.autograd.grad(total(parameters), [parameters])
    return ops.convert_to_numpy(found)


def test_the_loss_is_that_of_numpy():
    found = models.stroke_loss(POINTS.astype("float32"), PARAMETERS.astype("float32"))
    assert found.shape == (4, 6)
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    expected = reference(POINTS.astype("float32"), PARAMETERS.astype("float32"))
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, 1e-5, 1e-5)


def test_double_precision(double):
    found = models.stroke_loss(POINTS, ops.convert_to_tensor(PARAMETERS, "float64"))
    assert keras.backend.standardize_dtype(found.dtype) == "float64"
    np.testing.assert_allclose(ops.convert_to_numpy(found), reference(POINTS, PARAMETERS), 1e-11)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_single(dtype):
    parameters = ops.cast(ops.convert_to_tensor(PARAMETERS, "float32"), dtype)
    found = models.stroke_loss(POINTS.astype("float32"), parameters)
    rounded = ops.convert_to_numpy(ops.cast(parameters, "float32"))
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    expected = reference(POINTS.astype("float32"), rounded)
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, 1e-5, 1e-5)


def test_the_gradient_is_that_of_numpy():
    points, parameters = POINTS[:2, :2], PARAMETERS[:2, :2]
    found = gradient(points.astype("float32"), parameters.astype("float32"))
    expected = np.zeros_like(parameters)
    for place in np.ndindex(*parameters.shape):
        change = np.zeros_like(parameters)
        change[place] = 1e-6
        above, below = (reference(points, parameters + s * change).sum() for s in (1, -1))
        expected[place] = (above - below) / 2e-6
    np.testing.assert_allclose(found, expected, 1e-4, 1e-4)


@pytest.mark.parametrize("pair", list(itertools.product(EXTREMES, repeat=2)))
def test_extremes(pair):
    """Two Gaussians, of which one or both are extreme, and a pen that is all but certain."""
    gaussians = np.transpose([EXTREMES[name] for name in pair]).ravel()
    points, parameters = [], []
    for point, pen in itertools.product(
        ([0, 0, 0], [0.5, -0.5, 1], [1e5, -1e6, 0], [-1e10, 1e10, 1]), (0, 1e4, -1e4)
    ):
        points.append(point)
        parameters.append([*gaussians, pen])
    points, parameters = np.float32(points), np.float32(parameters)
    found = ops.convert_to_numpy(models.stroke_loss(points, parameters))
    np.testing.assert_allclose(found, reference(points, parameters), 2e-5, 2e-5)
    assert np.isfinite(gradient(points, parameters)).all()


def test_padding_does_not_count():
    mask = np.arange(6) < np.array([[6], [1], [3], [0]])
    padded = np.where(mask[..., None], POINTS, 0).astype("float32")
    found = strokes.nats_per_drawing(padded, PARAMETERS.astype("float32"), mask)
    expected = (reference(POINTS, PARAMETERS) * mask).sum(-1)
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, 1e-5, 1e-5)
    found = strokes.nats_per_drawing(POINTS.astype("float32"), PARAMETERS.astype("float32"))
    expected = reference(POINTS, PARAMETERS).sum(-1)
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, 1e-5, 1e-5)


def test_wrong_shapes():
    for wrong in (
        (POINTS[..., :2], PARAMETERS),
        (POINTS, PARAMETERS[..., :-1]),
        (POINTS, PARAMETERS[..., :1]),
        (POINTS[0], PARAMETERS),
        (POINTS[:2], PARAMETERS),
        (POINTS[:, :2], PARAMETERS),
    ):
        with pytest.raises(ValueError, match=r"`strokes` must be \(..., 3\) and `parameters`"):
            models.stroke_loss(*wrong)


def test_samples_follow_the_density():
    """Means, deviations, correlation and shares, also at another temperature."""
    mean, sigma, rho, pen = np.array([1.0, -2.0]), np.array([0.5, 2.0]), 0.8, 0.3
    one = [*mean, *np.log(sigma), np.arctanh(rho)]
    other = [100.0, 100.0, 0.0, 0.0, 0.0]
    logits = np.log([0.8, 0.2])
    parameters = np.float32([*logits, *np.transpose([one, other]).ravel(), np.log(pen / (1 - pen))])
    parameters = np.tile(parameters, (20_000, 1))
    head = strokes.MixtureDensity(2)
    for temperature in (1.0, 0.5):
        drawn = ops.convert_to_numpy(head.sample(parameters, temperature, 3, 4))
        near = drawn[drawn[:, 0] < 50]
        share = 0.8 ** (1 / temperature) / sum(p ** (1 / temperature) for p in (0.8, 0.2))
        lifted = pen ** (1 / temperature) / sum(p ** (1 / temperature) for p in (pen, 1 - pen))
        np.testing.assert_allclose(len(near) / len(drawn), share, atol=0.015)
        np.testing.assert_allclose(drawn[:, 2].mean(), lifted, atol=0.015)
        deviation = sigma * np.sqrt(temperature)
        np.testing.assert_allclose(near[:, :2].mean(0), mean, atol=0.05)
        np.testing.assert_allclose(near[:, :2].std(0) / deviation, 1, atol=0.03)
        np.testing.assert_allclose(np.corrcoef(near[:, :2].T)[0, 1], rho, atol=0.02)
        z = np.sort((near[:, 0] - mean[0]) / deviation[0])  # normal, by its quantiles
        found = z[(np.array([0.0228, 0.1587, 0.8413, 0.9772]) * len(z)).astype(int)]
        np.testing.assert_allclose(found, [-2, -1, 1, 2], atol=0.08)
    cold = ops.convert_to_numpy(head.sample(parameters[:2], 0.0, 3, 4))
    np.testing.assert_allclose(cold, [[*mean, 0]] * 2, rtol=1e-6)


def small(cell="hyper_lstm", **options):
    if cell.startswith("hyper"):
        options = {"hyper_units": 4, "embedding_dim": 2, **options}
    return models.stroke_model(6, cell=cell, mixtures=3, **options)


@pytest.mark.parametrize("cell", ["hyper_lstm", "lstm"])
def test_drawing_equals_stepping_by_hand(cell):
    model = small(cell, layers=2)
    prime = POINTS[0, :3].astype("float32")
    states = sequences.initial_states(model, 1)
    for point in [np.zeros(3, "float32"), *prime]:
        parameters, states = sequences.step(model, point[None], states)
    expected = []
    for position in range(5):
        point = model.layers[-1].sample(parameters, 0.7, 5, position)
        expected.append(ops.convert_to_numpy(point)[0])
        parameters, states = sequences.step(model, point, states)
    found = models.generate_strokes(model, 5, 0.7, 5, prime)
    np.testing.assert_allclose(found, expected, 1e-4, 1e-5)


def test_changes_of_weights_while_drawing():
    model = small()
    norms = plots.weight_changes(model, POINTS[0])
    assert norms.shape == (5, 4)
    generated = model.get_layer("recurrent_0").cell.generated_weights(POINTS[:1].astype("float32"))
    expected = model.get_layer("recurrent_0").cell.recurrent_kernel_changes(generated)
    np.testing.assert_allclose(norms, ops.convert_to_numpy(expected)[0], 1e-4, 1e-6)


def test_training_with_padding():
    """Padded points change nothing, whatever they hold."""
    mask = np.arange(6) < np.array([[6], [2], [4], [5]])
    weights = []
    for filling in (0.0, 7.0):
        keras.utils.set_random_seed(0)
        model = small("hyper_simple_rnn")
        model.compile(
            keras.optimizers.SGD(0.1), models.stroke_loss, weighted_metrics=[models.stroke_loss]
        )
        x = np.where(mask[..., None], POINTS, filling).astype("float32")
        previous = strokes.previous_points(x)
        history = model.fit(previous, x, sample_weight=mask.astype("float32"), verbose=0).history
        weights.append(model.get_weights())
        assert np.isfinite(history["stroke_loss"][0])
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, 1e-5, 1e-6)


@only("tensorflow", "half precision on a CPU takes minutes elsewhere")
@pytest.mark.parametrize(
    ("policy", "cell", "layers"),
    [("mixed_float16", "hyper_lstm", 1), ("mixed_bfloat16", "layer_norm_lstm", 2)],
)
def test_mixed_precision(policy, cell, layers):
    keras.config.set_dtype_policy(policy)
    try:
        model = small(cell, layers=layers)
        model.compile("sgd", models.stroke_loss)
        x = POINTS.astype("float32")
        history = model.fit(strokes.previous_points(x), x, verbose=0).history
        assert np.isfinite(history["loss"][0])
        drawn = models.generate_strokes(model, 4, seed=1)
        assert drawn.dtype == "float32" and np.isfinite(drawn).all()
    finally:
        keras.config.set_dtype_policy("float32")
