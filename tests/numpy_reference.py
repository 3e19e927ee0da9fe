"""The recurrent cells in plain NumPy, written from the equations and meant to be read.

One sample at a time, one gate at a time, every matrix explicit; no fused products, no Keras. The
hypernetworks are written in their first form: the hyper cell yields embeddings z, these generate
the matrices W(z) and the vector b(z) of the step (eq. 5 of Ha, Dai & Le, arXiv 1609.09106, or
eq. 7: W(z) has the rows d_i(z) W_i), and then an ordinary cell takes its step with them. That
this equals the elementwise form of eq. 8 and 12 is for the tests to find out.

Weights are a dict of arrays by the names and in the layouts of the package:

    kernel (G, in, units), recurrent_kernel (G, units, units), bias (B, units)
    hyper_kernel (G, in, hyper_units), hyper_state_kernel (G, units, hyper_units),
    hyper_recurrent_kernel (G, hyper_units, hyper_units), hyper_bias (B, hyper_units)
    embedding_kernel (hyper_units, 3 G Z), embedding_bias (2 G Z): by path x, h, b, gate, coordinate
    scale_kernel (3 G, Z, units): d of the x path by gate, d of the h path, shifts b
    gate_gamma, gate_beta (B, units), cell_gamma, cell_beta (units), and these with `hyper_`

G gates: 4 for the LSTM (i, f, c, o), 3 for the GRU (z, r, h), 1 for the simple RNN. B = G, but 4
for the GRU: z, r, input part and recurrent part of the candidate. With full generation `kernel`
and `recurrent_kernel` are (G Z, ...), block g Z + k for coordinate k of gate g, and `scale_kernel`
(G, Z, units) holds the shifts only. Without `bias` there is none; without `gate_gamma` there is no
layer norm.

All functions accept complex numbers, so that tests can differentiate by the complex step.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


@dataclass(frozen=True)
class Settings:
    """What a cell knows besides its weights."""

    weight_generation: str = "scaling"
    layer_norm_epsilon: float = 1e-3
    forget_bias: float = 1.0
    hyper_forget_bias: float = 1.0
    activation: Callable = np.tanh
    recurrent_activation: Callable = sigmoid


# Parts shared by the cells


def layer_norm(x, gamma, beta, epsilon):
    mean = np.sum(x) / len(x)
    variance = np.sum((x - mean) * (x - mean)) / len(x)
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta


def norm_gate(weights, prefix, row, x, settings):
    if f"{prefix}gate_gamma" not in weights:
        return x
    gamma, beta = weights[f"{prefix}gate_gamma"][row], weights[f"{prefix}gate_beta"][row]
    return layer_norm(x, gamma, beta, settings.layer_norm_epsilon)


def norm_cell(weights, prefix, c, settings):
    if f"{prefix}cell_gamma" not in weights:
        return c
    gamma, beta = weights[f"{prefix}cell_gamma"], weights[f"{prefix}cell_beta"]
    return layer_norm(c, gamma, beta, settings.layer_norm_epsilon)


def biases(weights, prefix, rows):
    """The static biases (b_0), zero where the cell has none."""
    if f"{prefix}bias" in weights:
        return [weights[f"{prefix}bias"][row] for row in range(rows)]
    return [np.zeros(weights[f"{prefix}kernel"].shape[2])] * rows


def plain_matrices(weights):
    """W_x and W_h of every gate, as matrices that act on column vectors."""
    W_x = [block.T for block in weights["kernel"]]
    W_h = [block.T for block in weights["recurrent_kernel"]]
    return W_x, W_h


def hyper_matrices(weights):
    """The same for the hyper cell, whose input is the main input on top of the main h (eq. 6)."""
    W_x = [
        np.concatenate([block_x.T, block_h.T], axis=1)
        for block_x, block_h in zip(
            weights["hyper_kernel"], weights["hyper_state_kernel"], strict=True
        )
    ]
    W_h = [block.T for block in weights["hyper_recurrent_kernel"]]
    return W_x, W_h


# The three ordinary cells, given their matrices


def simple_rnn_update(x, h, W_x, W_h, b, weights, prefix, settings):
    """Eq. 4."""
    s = W_x[0] @ x + W_h[0] @ h + b[0]
    return settings.activation(norm_gate(weights, prefix, 0, s, settings))


def lstm_update(x, h, c, W_x, W_h, b, weights, prefix, settings, mask=None):
    """Eq. 9, with layer norm eq. 10; the mask is DropOut of eq. 13."""
    phi, sigma = settings.activation, settings.recurrent_activation
    i, f, g, o = (
        norm_gate(weights, prefix, y, W_x[y] @ x + W_h[y] @ h + b[y], settings) for y in range(4)
    )
    candidate = phi(g) if mask is None else phi(g) * mask
    forget_bias = getattr(settings, f"{prefix}forget_bias")
    c = sigma(f + forget_bias) * c + sigma(i) * candidate
    h = sigma(o) * phi(norm_cell(weights, prefix, c, settings))
    return h, c


def gru_update(x, h, W_x, W_h, b, weights, prefix, settings, mask=None):
    """The GRU with the reset gate applied after the recurrent product, as in Keras."""
    phi, sigma = settings.activation, settings.recurrent_activation
    z = sigma(norm_gate(weights, prefix, 0, W_x[0] @ x + W_h[0] @ h + b[0], settings))
    r = sigma(norm_gate(weights, prefix, 1, W_x[1] @ x + W_h[1] @ h + b[1], settings))
    x_part = norm_gate(weights, prefix, 2, W_x[2] @ x + b[2], settings)
    h_part = norm_gate(weights, prefix, 3, W_h[2] @ h + b[3], settings)
    candidate = phi(x_part + r * h_part)
    if mask is not None:
        candidate = candidate * mask
    return z * h + (1.0 - z) * candidate


# What the hypernetwork generates


@dataclass
class Generated:
    """The generated weights of one sample and one step, each a list over the gates."""

    z_x: list
    z_h: list
    z_b: list
    d_x: list  # empty with full generation
    d_h: list
    b: list  # the dynamic part W_bz z_b; b_0 is the static bias
    W_x: list
    W_h: list


def embed(hyper_h, weights, path, gate, gates, size):
    """Eq. 11, with the hyper cell's output of this very step; path b has no bias."""
    first = (path * gates + gate) * size
    z = weights["embedding_kernel"][:, first : first + size].T @ hyper_h
    if path < 2:
        z = z + weights["embedding_bias"][first : first + size]
    return z


def generate(hyper_h, weights, gates, settings):
    scale = weights["scale_kernel"]
    size = scale.shape[1]
    out = Generated([], [], [], [], [], [], [], [])
    for gate in range(gates):
        z_x = embed(hyper_h, weights, 0, gate, gates, size)
        z_h = embed(hyper_h, weights, 1, gate, gates, size)
        z_b = embed(hyper_h, weights, 2, gate, gates, size)
        if settings.weight_generation == "scaling":
            d_x = scale[gate].T @ z_x
            d_h = scale[gates + gate].T @ z_h
            b = scale[2 * gates + gate].T @ z_b
            W_x = np.diag(d_x) @ weights["kernel"][gate].T
            W_h = np.diag(d_h) @ weights["recurrent_kernel"][gate].T
            out.d_x.append(d_x)
            out.d_h.append(d_h)
        else:
            b = scale[gate].T @ z_b
            W_x = sum(z_x[k] * weights["kernel"][gate * size + k].T for k in range(size))
            W_h = sum(z_h[k] * weights["recurrent_kernel"][gate * size + k].T for k in range(size))
        out.z_x.append(z_x)
        out.z_h.append(z_h)
        out.z_b.append(z_b)
        out.b.append(b)
        out.W_x.append(W_x)
        out.W_h.append(W_h)
    return out


# One step of every cell, for one sample: (state, generated weights or None)


def simple_rnn_step(x, state, weights, settings, mask=None, hyper_mask=None):
    W_x, W_h = plain_matrices(weights)
    h = simple_rnn_update(x, state[0], W_x, W_h, biases(weights, "", 1), weights, "", settings)
    return (h,), None


def lstm_step(x, state, weights, settings, mask=None, hyper_mask=None):
    W_x, W_h = plain_matrices(weights)
    b = biases(weights, "", 4)
    return lstm_update(x, *state, W_x, W_h, b, weights, "", settings, mask), None


def gru_step(x, state, weights, settings, mask=None, hyper_mask=None):
    W_x, W_h = plain_matrices(weights)
    b = biases(weights, "", 4)
    return (gru_update(x, *state, W_x, W_h, b, weights, "", settings, mask),), None


def hyper_simple_rnn_step(x, state, weights, settings, mask=None, hyper_mask=None):
    """Eq. 5-8."""
    h, hyper_h = state
    W_x, W_h = hyper_matrices(weights)
    b = biases(weights, "hyper_", 1)
    x_hyper = np.concatenate([x, h])
    hyper_h = simple_rnn_update(x_hyper, hyper_h, W_x, W_h, b, weights, "hyper_", settings)

    made = generate(hyper_h, weights, 1, settings)
    b = [biases(weights, "", 1)[0] + made.b[0]]
    h = simple_rnn_update(x, h, made.W_x, made.W_h, b, weights, "", settings)
    return (h, hyper_h), made


def hyper_lstm_step(x, state, weights, settings, mask=None, hyper_mask=None):
    """Eq. 10-13."""
    h, c, hyper_h, hyper_c = state
    W_x, W_h = hyper_matrices(weights)
    b = biases(weights, "hyper_", 4)
    x_hyper = np.concatenate([x, h])
    hyper_h, hyper_c = lstm_update(
        x_hyper, hyper_h, hyper_c, W_x, W_h, b, weights, "hyper_", settings, hyper_mask
    )

    made = generate(hyper_h, weights, 4, settings)
    b = [b_0 + shift for b_0, shift in zip(biases(weights, "", 4), made.b, strict=True)]
    h, c = lstm_update(x, h, c, made.W_x, made.W_h, b, weights, "", settings, mask)
    return (h, c, hyper_h, hyper_c), made


def hyper_gru_step(x, state, weights, settings, mask=None, hyper_mask=None):
    """The same construction for the GRU; the candidate's shift joins its input part."""
    h, hyper_h = state
    W_x, W_h = hyper_matrices(weights)
    b = biases(weights, "hyper_", 4)
    x_hyper = np.concatenate([x, h])
    hyper_h = gru_update(x_hyper, hyper_h, W_x, W_h, b, weights, "hyper_", settings, hyper_mask)

    made = generate(hyper_h, weights, 3, settings)
    b_z, b_r, b_x, b_h = biases(weights, "", 4)
    b = [b_z + made.b[0], b_r + made.b[1], b_x + made.b[2], b_h]
    h = gru_update(x, h, made.W_x, made.W_h, b, weights, "", settings, mask)
    return (h, hyper_h), made


# Sequences


def run(step, inputs, states, weights, settings=None, masks=None, hyper_masks=None):
    """Runs `step` over a batch of sequences.

    Args:
        step: one of the step functions above.
        inputs: `(batch, time, in)`.
        states: the initial states, each `(batch, size)`.
        weights: a dict of arrays.
        settings: a `Settings`.
        masks, hyper_masks: recurrent dropout, `(batch, time, size)`, or None.

    Returns:
        The outputs `(batch, time, units)`, the list of final states, and a dict with the
        `z_x`, `z_h`, `z_b`, `d_x`, `d_h`, `b` of every step, each `(batch, time, gates, size)`
        (empty for the ordinary cells; no d with full generation).
    """
    settings = settings or Settings()
    outputs, finals, generated = [], [], {}
    for n, sequence in enumerate(inputs):
        state = tuple(s[n] for s in states)
        outputs.append([])
        for t, x in enumerate(sequence):
            mask = None if masks is None else masks[n, t]
            hyper_mask = None if hyper_masks is None else hyper_masks[n, t]
            state, made = step(x, state, weights, settings, mask, hyper_mask)
            outputs[n].append(state[0])
            for name in ("z_x", "z_h", "z_b", "d_x", "d_h", "b"):
                if made is not None and getattr(made, name):
                    rows = generated.setdefault(name, [[] for _ in inputs])
                    rows[n].append(getattr(made, name))
        finals.append(state)
    finals = [np.array(final) for final in zip(*finals, strict=True)]
    return np.array(outputs), finals, {name: np.array(rows) for name, rows in generated.items()}


# The loss of a stroke model, one point at a time (Graves, arXiv 1308.0850, eq. 23-26)


def log_normal(x, y, mean_x, mean_y, sigma_x, sigma_y, rho):
    u, v = (x - mean_x) / sigma_x, (y - mean_y) / sigma_y
    exponent = (u * u + v * v - 2 * rho * u * v) / (2 * (1 - rho * rho))
    return -exponent - np.log(2 * np.pi * sigma_x * sigma_y * np.sqrt(1 - rho * rho))


def stroke_nats(point, parameters, log_sigma=10.0, correlation=8.0):
    """The negative log-likelihood of (dx, dy, pen), with the limits of the package."""
    x, y, pen = np.asarray(point, "float64")
    *six, pen_logit = np.asarray(parameters, "float64")
    logits, mean_x, mean_y, log_x, log_y, r = np.reshape(six, (6, -1))
    log_pi = logits - np.logaddexp.reduce(logits)
    sigma_x = np.exp(np.clip(log_x, -log_sigma, log_sigma))
    sigma_y = np.exp(np.clip(log_y, -log_sigma, log_sigma))
    rho = np.tanh(np.clip(r, -correlation, correlation))
    log_point = np.logaddexp.reduce(
        [
            log_pi[k] + log_normal(x, y, mean_x[k], mean_y[k], sigma_x[k], sigma_y[k], rho[k])
            for k in range(len(logits))
        ]
    )
    log_pen = -np.logaddexp(0, -pen_logit if pen else pen_logit)
    return -log_point - log_pen
