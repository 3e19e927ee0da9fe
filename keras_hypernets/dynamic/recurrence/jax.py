"""The time loop of a `GatedCell` in JAX, with its gradient; tensorflow.py explains it."""

import functools

import jax
import jax.numpy as jnp
from keras import ops

OUTPUT = "output of the step before"  # no name of a state, which is a Python name
tree = jax.tree_util


def recur(cell, x, state, mask=None, seed=None, sequences=True, checkpoint_every=None):
    """Runs a cell over sequences: see `recur` in tensorflow.py."""
    if mask is not None or not sequences:
        # Keras' loop on JAX takes the first state for the output before the first step.
        state = {**state, OUTPUT: state[cell.state_names[0]]}
    kernels = {
        p: {s: ops.convert_to_tensor(kernel) for s, kernel in maps.items()}
        for p, maps in cell.linear.items()
    }
    small = {name: ops.convert_to_tensor(weight) for name, weight in cell.small.items()}
    key = None if seed is None else jax.random.key(jnp.asarray(seed)[0].astype("uint32"))
    if key is not None:
        key = jax.random.fold_in(key, jnp.asarray(seed)[1].astype("uint32"))
    run = functools.partial(_recur, _tail_of(cell, key, sequences), kernels, small)
    steps = x, jnp.arange(x.shape[0]), mask
    if checkpoint_every is None:
        last, outputs = run(state, steps)
    else:
        last, outputs = _checkpointed(run, state, steps, checkpoint_every)
    output = outputs if sequences else last[OUTPUT]
    last.pop(OUTPUT, None)
    return output, last


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


def _recur(tail, kernels, small, state, steps):
    """Returns the last state and the outputs of steps `(x, times, mask)`."""

    @jax.custom_vjp
    def run(*arguments):
        return forward(*arguments)[0]

    def forward(x, state, kernels, small, times, mask):
        of_x = {p: x[:, None] @ maps["x"] for p, maps in kernels.items() if "x" in maps}
        recurrent = _recurrent(kernels)

        def step(state, values):
            pre, t, keep = values
            pre = dict(pre)
            for p, maps in recurrent.items():
                pre[p] = sum((state[s] @ W for s, W in maps.items()), start=pre.get(p, 0))
            output, new = tail(pre, state, small, t, keep)
            return new, (output, state, {p: pre[p] for p in recurrent})

        last, (outputs, states, sums) = jax.lax.scan(step, state, (of_x, times, mask))
        only_of_x = {p: products for p, products in of_x.items() if p not in recurrent}
        return (last, outputs), (x, {**only_of_x, **sums}, states, kernels, small, times, mask)

    def backward(kept, upstream):
        x, pre, states, kernels, small, times, mask = kept
        dlast, doutputs = upstream
        transposed = tree.tree_map(_transposed, _recurrent(kernels))

        def step(carry, values):
            dstate, dsmall = carry
            pre, before, doutput, t, keep = values
            _, pull = jax.vjp(lambda *args: tail(*args, t, keep), pre, before, small)
            dpre, dstate, dsmall_t = pull((doutput, dstate))
            dp = {p: jnp.concatenate(list(gates), -1) for p, gates in dpre.items()}
            for p, maps in transposed.items():
                for s, W in maps.items():
                    dstate[s] += dp[p] @ W
            return (dstate, tree.tree_map(lambda a, b: a + b.astype(a.dtype), dsmall, dsmall_t)), dp

        # Sums over many steps lose digits in half precision.
        zeros = tree.tree_map(
            lambda w: jnp.zeros(w.shape, jnp.promote_types(w.dtype, "float32")), small
        )
        (dstate, dsmall), dp = jax.lax.scan(
            step, (dlast, zeros), (pre, states, doutputs, times, mask), reverse=True
        )
        dsmall = tree.tree_map(lambda total, w: total.astype(w.dtype), dsmall, small)
        sources = {"x": x, **states}
        dkernels = {
            p: {s: _kernel_gradient(sources[s], dp[p], W) for s, W in maps.items()}
            for p, maps in kernels.items()
        }
        dx = sum(dp[p] @ _transposed(maps["x"]) for p, maps in kernels.items() if "x" in maps)
        return dx, dstate, dkernels, dsmall, None, None

    run.defvjp(forward, backward)
    x, times, mask = steps
    return run(x, state, kernels, small, times, mask)


def _tail_of(cell, key, sequences):
    """Returns `tail(pre, state, small, t, keep)`: the cell's, with its dropout and masking."""

    def tail(pre, state, small, t, keep):
        noise = {} if key is None else _noise(cell, state, jax.random.fold_in(key, t))
        output, new = cell.tail(pre, state, small, noise)
        if keep is not None:
            new = {name: jnp.where(keep, new[name], state[name]) for name in new}
            output = jnp.where(keep, output, state[OUTPUT])
        if OUTPUT in state:
            new[OUTPUT] = output
        return output if sequences else None, new

    return tail


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


def _recurrent(kernels):
    """The maps from states, of the pre-activations that have any."""
    maps = {p: {s: W for s, W in of.items() if s != "x"} for p, of in kernels.items()}
    return {p: of_states for p, of_states in maps.items() if of_states}


def _transposed(kernel):
    """`(gates, in, units)` to `(gates * units, in)`."""
    return jnp.swapaxes(kernel, 1, 2).reshape(-1, kernel.shape[1])


def _kernel_gradient(source, dp, kernel):
    """The sum over all steps and rows of `source^T dp`, in the shape of the kernel."""
    gates, inputs, units = kernel.shape
    product = source.reshape(-1, inputs).T @ dp.reshape(-1, gates * units)
    return product.reshape(inputs, gates, units).swapaxes(0, 1)
