"""The time loop of a `GatedCell` in JAX, with its gradient; tensorflow.py explains it."""

import functools

import jax
import jax.numpy as jnp

from keras_hypernets.dynamic.recurrence.step import (
    OUTPUT,
    active_dropout_rates,
    add,
    dtype_for_sums,
    masked_tail,
    values_of,
    without,
    zeros_for_sum,
)

tree = jax.tree_util


def recur(cell, x, state, mask=None, sequences=True, seed=None, checkpoint_every=None):
    """Runs a cell over sequences: see `recur` in tensorflow.py."""
    if mask is not None or not sequences:
        # Keras' loop on JAX takes the first state for the output before the first step.
        state = {**state, OUTPUT: state[cell.state_names[0]]}
    # In half precision the gradients of blocks must add up in float32.
    weights = tree.tree_map(lambda w: w.astype(dtype_for_sums(w)), values_of(cell))
    run = functools.partial(_run, _tail_of(cell, sequences), *weights)
    steps = x, None if seed is None else _keys(seed, x.shape[0]), mask
    if checkpoint_every is None:
        last, outputs = run(state, steps)
    else:
        last, outputs = _checkpointed(run, state, steps, checkpoint_every)
    output = outputs if sequences else last[OUTPUT]
    return output, without(OUTPUT, last)


def _checkpointed(run, state, steps, size):
    """Runs blocks of steps one after the other, keeping only the first state of each."""
    blocks, rest = divmod(steps[0].shape[0], size)
    first = tree.tree_map(lambda v: v[: blocks * size].reshape(blocks, size, *v.shape[1:]), steps)
    state, outputs = jax.lax.scan(jax.checkpoint(run), state, first)
    outputs = tree.tree_map(lambda y: y.reshape(blocks * size, *y.shape[2:]), outputs)
    if rest:
        state, more = jax.checkpoint(run)(state, tree.tree_map(lambda v: v[-rest:], steps))
        outputs = tree.tree_map(lambda *parts: jnp.concatenate(parts), outputs, more)
    return state, outputs


def _run(tail, kernels, weights, state, steps):
    """Returns the last state and the outputs of steps `(x, keys, mask)`."""

    @jax.custom_vjp
    def run(*arguments):
        return forward(*arguments)[0]

    def forward(x, state, kernels, weights, keys, mask):
        kernels, weights = tree.tree_map(lambda w: w.astype(x.dtype), (kernels, weights))

        def step(state, values):
            of_x, key, keep = values
            products = {s: state[s] @ W for s, W in without("x", kernels).items()}
            output, new = tail({"x": of_x, **products}, state, weights, key, keep)
            return new, (output, products, without(OUTPUT, state))

        of_x = x @ kernels["x"]
        last, (outputs, products, states) = jax.lax.scan(step, state, (of_x, keys, mask))
        kept = {"x": of_x, **products}, {"x": x, **states}
        return (last, outputs), (*kept, kernels, weights, keys, mask)

    def backward(kept, upstream):
        products, sources, kernels, weights, keys, mask = kept
        dlast, doutputs = upstream

        def step(carry, values):
            dstate, dweights = carry
            of_step, state, dy, key, keep = values
            if OUTPUT in dstate:
                state = {**state, OUTPUT: jnp.zeros_like(dstate[OUTPUT])}  # its value is not used
            _, pull = jax.vjp(lambda *args: tail(*args, key, keep), of_step, state, weights)
            dproducts, dstate, more = pull((dy, dstate))
            for s, W in without("x", kernels).items():
                dstate[s] = dstate[s] + jnp.einsum("bo,io->bi", dproducts[s], W)
            return (dstate, tree.tree_map(add, dweights, more)), dproducts

        zeros = tree.tree_map(zeros_for_sum, weights)
        steps = products, without("x", sources), doutputs, keys, mask
        (dstate, dweights), dproducts = jax.lax.scan(step, (dlast, zeros), steps, reverse=True)
        dx = jnp.einsum("tbo,io->tbi", dproducts["x"], kernels["x"])
        dkernels = {
            s: jnp.einsum(
                "tbi,tbo->io", sources[s], dproducts[s], preferred_element_type=dtype_for_sums(W)
            )
            for s, W in kernels.items()
        }
        return dx, dstate, dkernels, dweights, None, None

    run.defvjp(forward, backward)
    x, keys, mask = steps
    return run(x, state, kernels, weights, keys, mask)


def _tail_of(cell, sequences):
    """Returns the cell's tail, from the products on, with dropout and masking."""
    masked = masked_tail(cell, sequences)

    def tail(products, state, weights, key, keep):
        dropout_masks = {} if key is None else _dropout_masks(cell, state, key)
        return masked(products, state, weights, dropout_masks, keep)

    return tail


def _keys(seed, steps):
    """Returns a key for the dropout masks of each step."""
    first, second = jnp.asarray(seed).astype("uint32")
    return jax.random.split(jax.random.fold_in(jax.random.key(first), second), steps)


def _dropout_masks(cell, state, key):
    """Draws the dropout masks of a step, the same each time it is computed."""
    batch = state[cell.state_names[0]].shape[0]
    return {
        name: jax.random.bernoulli(jax.random.fold_in(key, n), 1 - rate, (batch, units)).astype(
            cell.compute_dtype
        )
        / (1 - rate)
        for n, (name, (rate, units)) in enumerate(active_dropout_rates(cell).items())
    }
