"""The time loop of JAX does what Keras' loop does: values and gradients, in double precision."""

import keras
import numpy as np
import pytest
from backends import BACKEND
from random_weights import randomize
from rows import FULL, SMALL
from test_recurrent_life import MASK

from keras_hypernets import (
    GatedRNN,
    HyperGRUCell,
    HyperLSTMCell,
    HyperSimpleRNNCell,
    LayerNormLSTMCell,
)

if BACKEND != "jax":
    pytest.skip("the loop of another backend", allow_module_level=True)
import jax
import jax.numpy as jnp

# Keras' own tanh is in single precision on JAX.
DOUBLE = {"dtype": "float64", "activation": jnp.tanh}


class PeepholeCell(LayerNormLSTMCell):
    """Its tail reads weights as attributes, one of them a sublayer's."""

    def build(self, input_shape):
        super().build(input_shape)
        self.peephole = self.add_gate_weight("peephole", (4, self.units), "bias")
        self.dense = keras.layers.Dense(self.units, use_bias=False, dtype=self.dtype_policy)
        self.dense.build((None, self.units))

    def tail(self, pre, state, weights, dropout_masks):
        gates = pre["gates"] + self.peephole[:, None] * self.dense(state["c"])
        return super().tail({"gates": gates}, state, weights, dropout_masks)


EVERY = {"return_sequences": True, "return_state": True}
WAYS = {
    "HyperLSTM": (HyperLSTMCell, SMALL, EVERY),
    "HyperLSTM, full, masked, backwards, zeros": (
        HyperLSTMCell,
        FULL,
        {"mask": MASK, "go_backwards": True, "zero_output_for_mask": True, **EVERY},
    ),
    "HyperGRU, last step, masked": (HyperGRUCell, SMALL, {"mask": MASK, "return_state": True}),
    "HyperSimpleRNN, last step": (HyperSimpleRNNCell, SMALL, {"return_state": True}),
    "weights as attributes": (PeepholeCell, {}, EVERY),
    "LSTM, blocks of steps, masked": (
        LayerNormLSTMCell,
        {"use_bias": False},
        {"mask": MASK, "checkpoint_every": 2, **EVERY},
    ),
}


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def values_and_gradients(layer, mask, *arguments):
    """Of a function of all outputs and states, for x, initial states and weights."""
    others = [variable.value for variable in layer.non_trainable_variables]

    def loss(x, states, values):
        outputs, _ = layer.stateless_call(
            values, others, x, initial_state=states, mask=mask, training=True
        )
        return sum(jnp.sum(jnp.sin((n + 1) * y)) for n, y in enumerate(outputs)), outputs

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
    return run(*arguments)


@pytest.mark.parametrize("way", WAYS)
def test_values_and_gradients(way, double):
    cell, cell_options, options = WAYS[way]
    options = dict(options)
    mask = options.pop("mask", None)
    ours = GatedRNN(cell(6, **cell_options, **DOUBLE), dtype="float64", **options)
    options.pop("checkpoint_every", None)
    by_keras = keras.layers.RNN(cell(6, **cell_options, **DOUBLE), dtype="float64", **options)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 5, 4))
    for layer in (ours, by_keras):
        layer.build(x.shape)
        randomize(layer, seed=1, deviation=0.5)
    states = [rng.standard_normal((3, size)) for size in ours.cell.state_size]
    weights = [weight.value for weight in ours.trainable_weights]
    found, expected = (
        jax.tree.leaves(values_and_gradients(layer, mask, x, states, weights))
        for layer in (ours, by_keras)
    )
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == "float64"
        np.testing.assert_allclose(one, other, 1e-10, 1e-10)


def test_second_gradients(double):
    """They agree with finite differences of the first ones."""
    layer = GatedRNN(LayerNormLSTMCell(3, layer_norm=False, **DOUBLE), dtype="float64")
    layer.build((None, None, 2))
    randomize(layer, deviation=0.5)
    groups = layer.trainable_variables, layer.non_trainable_variables
    values = [[variable.value for variable in group] for group in groups]

    def loss(x):
        return jnp.sum(layer.stateless_call(*values, x, training=True)[0] ** 2)

    first = jax.jit(jax.grad(loss))
    x, direction = np.random.default_rng(0).standard_normal((2, 2, 3, 2))
    found = jax.grad(lambda x: jnp.sum(first(x) * direction))(x)
    moved = first(x + 1e-5 * direction) - first(x - 1e-5 * direction)
    np.testing.assert_allclose(found, moved / 2e-5, 1e-5, 1e-7)


@pytest.mark.parametrize("checkpoint_every", [None, 4])
def test_dropout_masks(checkpoint_every):
    """New ones for each step and call, one for forward and backward, kept at their rate."""
    cell = LayerNormLSTMCell(
        400, layer_norm=False, recurrent_dropout=0.25, activation="relu", use_bias=False, seed=0
    )
    layer = GatedRNN(cell, return_sequences=True, checkpoint_every=checkpoint_every)
    layer.build((None, None, 1))
    kernel = np.zeros((4, 1, 400))
    kernel[2] = 1  # the candidate is the input, the gates are open by half
    cell.kernel.assign(kernel)
    cell.recurrent_kernel.assign(np.zeros((4, 400, 400)))
    cell.forget_bias = -1e9  # nothing is kept from the step before
    weights = [weight.value for weight in layer.trainable_weights]

    def loss(x, seeds):
        outputs, seeds = layer.stateless_call(weights, seeds, x, training=True)
        return jnp.sum(outputs), (outputs, seeds)

    run = jax.jit(jax.grad(loss, has_aux=True))
    x = np.ones((8, 6, 1), "float32")
    gradient, (first, seeds) = run(x, [seed.value for seed in layer.non_trainable_variables])
    _, (second, _) = run(x, seeds)
    kept = np.asarray(first) > 0
    np.testing.assert_allclose(kept.mean(), 0.75, atol=0.02)
    for other in (np.asarray(second) > 0, np.roll(kept, 1, axis=1), np.roll(kept, 1, axis=0)):
        np.testing.assert_allclose((kept == other).mean(), 0.75**2 + 0.25**2, atol=0.02)
    # y = sigma(0) relu(sigma(0) mask x): the same mask decides over the gradient
    np.testing.assert_allclose(gradient[..., 0], first.sum(-1), 1e-4, 1e-3)
