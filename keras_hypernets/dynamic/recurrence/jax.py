"""The time loop of a `GatedCell` in JAX, with its gradient; tensorflow.py explains it."""

import functools

import jax
import jax.numpy as jnp

from keras_hypernets.dynamic.recurrence.products import by_source, pre_activations, weights_of

OUTPUT = "output of the step before"  # no name of a state, which is a Python name
tree = jax.tree_util


def recur(cell, x, state, mask=None, seed=None, sequences=True, checkpoint_every=None):
    """Runs a cell over sequences: see `recur` in tensorflow.py."""
    if mask is not None or not sequences:
        # Keras' loop on JAX takes the first state for the output before the first step.
        state = {**state, OUTPUT: state[cell.state_names[0]]}
    # In half precision the gradients of blocks are to add up in float32.
    weights = tree.tree_map(lambda w: w.astype(_wide(w)), weights_of(cell))
    run = functools.partial(_run, _tail_of(cell, sequences), *weights)
    steps = x, None if seed is None else _keys(seed, x.shape[0]), mask
    if checkpoint_every is None:
        last, outputs = run(state, steps)
    else:
        last, outputs = _checkpointed(run, state, steps, checkpoint_every)
    output = outputs if sequences else last[OUTPUT]
    return output, _but(OUTPUT, last)


def _checkpointed(run, state, steps, size):
    """Runs blocks of steps one after the other; of each only its first state is kept."""
    blocks, rest = divmod(steps[0].shape[0], size)
    first = tree.tree_map(lambda v: v[: blocks * size].reshape(blocks, size, *v.shape[1:]), steps)
    state, outputs = jax.lax.scan(jax.checkpoint(run), state, first)
    outputs = tree.tree_map(lambda y: y.reshape(blocks * size, *y.shape[2:]), outputs)
    if rest:
        state, more = jax.checkpoint(run)(state, tree.tree_map(lambda v: v[-rest:], steps))
        outputs = tree.tree_map(lambda *parts: jnp.concatenate(parts), outputs, more)
    return state, outputs


def _run(tail, kernels, small, state, steps):
    """Returns the last state and the outputs of steps `(x, keys, mask)`."""

    @jax.custom_vjp
    def run(*arguments):
        return forward(*arguments)[0]

    def forward(x, state, kernels, small, keys, mask):
        kernels, small = tree.tree_map(lambda w: w.astype(x.dtype), (kernels, small))

        def step(state, values):
            of_x, key, keep = values
            products = {s: state[s] @ W for s, W in _but("x", kernels).items()}
            output, new = tail({"x": of_x, **products}, state, small, key, keep)
            return new, (output, products, _but(OUTPUT, state))

        of_x = x @ kernels["x"]
        last, (outputs, products, states) = jax.lax.scan(step, state, (of_x, keys, mask))
        kept = {"x": of_x, **products}, {"x": x, **states}
        return (last, outputs), (*kept, kernels, small, keys, mask)

    def backward(kept, upstream):
        products, sources, kernels, small, keys, mask = kept
        dlast, doutputs = upstream

        def step(carry, values):
            dstate, dsmall = carry
            of_step, state, dy, key, keep = values
            if OUTPUT in dstate:
                state = {**state, OUTPUT: jnp.zeros_like(dstate[OUTPUT])}  # its value is not used
            _, pull = jax.vjp(lambda *args: tail(*args, key, keep), of_step, state, small)
            dproducts, dstate, more = pull((dy, dstate))
            for s, W in _but("x", kernels).items():
                dstate[s] = dstate[s] + jnp.einsum("bo,io->bi", dproducts[s], W)
            return (dstate, tree.tree_map(_add, dsmall, more)), dproducts

        zeros = tree.tree_map(_zeros_like, small)
        steps = products, _but("x", sources), doutputs, keys, mask
        (dstate, dsmall), dproducts = jax.lax.scan(step, (dlast, zeros), steps, reverse=True)
        dx = jnp.einsum("tbo,io->tbi", dproducts["x"], kernels["x"])
        dkernels = {
            s: jnp.einsum("tbi,tbo->io", sources[s], dproducts[s], preferred_element_type=_wide(W))
            for s, W in kernels.items()
        }
        return dx, dstate, dkernels, dsmall, None, None

    run.defvjp(forward, backward)
    x, keys, mask = steps
    return run(x, state, kernels, small, keys, mask)


def _tail_of(cell, sequences):
    """Returns the tail: the cell's, from the products on, with its dropout and masking."""
    sources = by_source(cell)

    def tail(products, state, small, key, keep):
        pre = pre_activations(products, sources)
        noise = {} if key is None else _noise(cell, state, key)
        output, new = cell.run_tail(pre, state, small, noise)
        if keep is not None:
            new = {name: jnp.where(keep, new[name], state[name]) for name in new}
            output = jnp.where(keep, output, state[OUTPUT])
        if OUTPUT in state:
            new[OUTPUT] = output
        return output if sequences else None, new

    return tail


def _keys(seed, steps):
    """A key for the dropout masks of each step."""
    first, second = jnp.asarray(seed).astype("uint32")
    return jax.random.split(jax.random.fold_in(jax.random.key(first), second), steps)


def _noise(cell, state, key):
    """Draws the dropout masks of a step: the same ones whenever it is computed."""
    batch = state[cell.state_names[0]].shape[0]
    rates = {name: (rate, units) for name, (rate, units) in cell.noise_rates.items() if rate > 0}
    return {
        name: jax.random.bernoulli(jax.random.fold_in(key, n), 1 - rate, (batch, units)).astype(
            cell.compute_dtype
        )
        / (1 - rate)
        for n, (name, (rate, units)) in enumerate(rates.items())
    }


def _but(name, values):
    return {key: value for key, value in values.items() if key != name}


def _add(total, more):
    return total + more.astype(total.dtype)


def _zeros_like(weight):
    return jnp.zeros(weight.shape, _wide(weight))


def _wide(weight):
    """The dtype for sums over many steps, which lose digits in half precision."""
    return jnp.promote_types(weight.dtype, "float32")
