"""The time loop of a `GatedCell` in TensorFlow, with its gradient.

A step of a cell is a sum of products p_t and everything else, the tail:

      x_t ─────> W_px x_t ────┐
                              + ──> p_t ──> tail ──> y_t, state_t
    h_{t-1} ──> W_ph h_{t-1} ─┘               ^
                                state_{t-1} ──┘

Automatic differentiation through a loop of such steps adds a gradient to every kernel W at every
step, which costs more than the products themselves. What one would do by hand is cheaper:

    forward     all W_px x_t in one product; then, for t = 1 ... T, the rest of the step, of which
                only state_{t-1} and p_t are kept
    backward    for t = T ... 1, the gradient of the tail, whose inside is computed anew, gives dp_t
                and dstate_{t-1}; through the product dh_{t-1} += W_ph^T dp_t;
                at the end each kernel's gradient in one product: dW_ps = sum over t of s_t dp_t^T

The tail's gradient is automatic differentiation's. XLA compiles the tail and its gradient, many
small operations, to one each. Masking is part of the tail: a masked step keeps the states and
repeats the output, which rides along as one more state.
"""

import tensorflow as tf
from keras import ops

nest = tf.nest
OUTPUT = "output of the step before"  # no name of a state, which is a Python name


def recur(cell, x, state, mask=None, seed=None):
    """Runs a cell over sequences.

    Args:
        cell: a built `GatedCell`.
        x: `(time, batch, features)`.
        state: dictionary of the initial states, `(batch, size)`.
        mask: `(time, batch, 1)` booleans, `True` where a step counts, or `None`.
        seed: two integers from which the dropout masks of all steps follow, or `None`: no dropout.

    Returns:
        The outputs `(time, batch, units)` and the dictionary of last states. Gradients reach x, the
        initial states and all weights of the cell; they cannot be differentiated again.
    """
    if mask is not None:
        state = {**state, OUTPUT: tf.zeros((tf.shape(x)[1], cell.output_size), x.dtype)}
    if seed is not None:
        # Seeds of calls differ by 1, as do those of steps: hashed, they do not meet.
        seed = tf.random.stateless_uniform([2], seed, None, None, tf.int32)
    tail, tail_gradient = _compile(_tail_of(cell, seed))
    kernels = {p: dict(maps) for p, maps in cell.linear.items()}
    kernels, small = nest.map_structure(ops.convert_to_tensor, (kernels, cell.small))
    arguments = x, state, kernels, small

    @tf.custom_gradient
    def run(*tensors):
        x, state, kernels, small = nest.pack_sequence_as(arguments, tensors)
        of_x = {p: _of_inputs(x, maps["x"]) for p, maps in kernels.items() if "x" in maps}
        outputs, last, kept = _forward(tail, of_x, kernels, state, small, mask, cell.output_size)

        def gradient(*upstream):
            doutputs, dlast = nest.pack_sequence_as((outputs, last), upstream)
            dp, dstate, dsmall = _backward(
                tail_gradient, of_x, kernels, small, mask, kept, doutputs, dlast
            )
            sources = {"x": x, **{name: states.stack() for name, states in kept["state"].items()}}
            dkernels = {
                p: {s: _kernel_gradient(sources[s], dp[p], W) for s, W in maps.items()}
                for p, maps in kernels.items()
            }
            dx = tf.add_n([dp[p] @ _transposed(kernels[p]["x"]) for p in of_x])
            return _differentiable_once(*nest.flatten((dx, dstate, dkernels, dsmall)))

        return nest.flatten((outputs, last)), gradient

    outputs, *last = run(*nest.flatten(arguments))
    outputs.set_shape((*x.shape[:2], cell.output_size))
    last = nest.pack_sequence_as(state, last)
    last.pop(OUTPUT, None)
    return outputs, last


def _forward(tail, of_x, kernels, state, small, mask, output_size):
    """Returns all outputs, the last state, and what the backward loop needs, as TensorArrays."""
    some = next(iter(of_x.values()))
    recurrent = _recurrent(kernels)

    def step(t, state):
        pre = {p: products[t] for p, products in of_x.items()}
        for p, maps in recurrent.items():
            products = [state[s] @ W for s, W in maps.items()]
            pre[p] = tf.add_n([pre[p], *products] if p in pre else products)
        output, new = tail(pre, state, small, t, None if mask is None else mask[t])
        return new, (output, {"state": state, "pre": {p: pre[p] for p in recurrent}})

    batch, dtype = some.shape[2], some.dtype
    kept = {
        "state": {name: tf.TensorSpec(s.shape, s.dtype) for name, s in state.items()},
        "pre": {
            p: tf.TensorSpec((gates, batch, units), dtype)
            for p, (gates, units) in _sizes(recurrent).items()
        },
    }
    specs = tf.TensorSpec((batch, output_size), dtype), kept
    last, (outputs, kept) = _loop(tf.range(tf.shape(some)[0]), step, state, specs)
    return outputs.stack(), last, kept


def _backward(tail_gradient, of_x, kernels, small, mask, kept, doutputs, dlast):
    """Returns the gradients of all p_t, `(time, batch, gates * units)`, of state_0 and of small."""
    recurrent = _recurrent(kernels)
    transposed = nest.map_structure(_transposed, recurrent)

    def step(t, carry):
        dstate, dsmall = carry
        pre = {p: products[t] for p, products in of_x.items() if p not in recurrent}
        pre |= {p: sums.read(t) for p, sums in kept["pre"].items()}
        before = {name: states.read(t) for name, states in kept["state"].items()}
        keep = None if mask is None else mask[t]
        dpre, dstate, dsmall_t = tail_gradient(pre, before, small, t, keep, doutputs[t], dstate)
        dp = {p: tf.concat(tf.unstack(gates), -1) for p, gates in dpre.items()}
        for p, maps in transposed.items():
            for s, W in maps.items():
                dstate[s] += dp[p] @ W
        dsmall = {name: sum_ + tf.cast(dsmall_t[name], sum_.dtype) for name, sum_ in dsmall.items()}
        return (dstate, dsmall), dp

    specs = {
        p: tf.TensorSpec((doutputs.shape[1], gates * units), doutputs.dtype)
        for p, (gates, units) in _sizes(kernels).items()
    }
    # Sums over many steps lose digits in half precision.
    wide = {name: w.dtype if w.dtype.size > 2 else tf.float32 for name, w in small.items()}
    zeros = {name: tf.zeros(w.shape, wide[name]) for name, w in small.items()}
    times = tf.range(tf.shape(doutputs)[0])[::-1]
    (dstate, dsmall), dp = _loop(times, step, (dlast, zeros), specs)
    dsmall = {name: tf.cast(total, small[name].dtype) for name, total in dsmall.items()}
    return {p: gradients.stack() for p, gradients in dp.items()}, dstate, dsmall


def _loop(times, step, carry, specs):
    """Repeats `carry, values = step(t, carry)`; returns the last carry and arrays of all values."""
    count = tf.shape(times)[0]
    arrays = nest.map_structure(
        lambda spec: tf.TensorArray(spec.dtype, count, element_shape=spec.shape),
        specs,
    )

    def body(n, carry, arrays):
        t = times[n]
        carry, values = step(t, carry)
        arrays = nest.map_structure(lambda array, value: array.write(t, value), arrays, values)
        return n + 1, carry, arrays

    return tf.while_loop(
        lambda n, *_: n < count, body, (0, carry, arrays), maximum_iterations=count
    )[1:]


def _tail_of(cell, seed):
    """Returns `tail(pre, state, small, t, keep)`: the cell's, with its dropout and masking."""

    def tail(pre, state, small, t, keep):
        batch = tf.shape(state[cell.state_names[0]])[0]
        noise = {} if seed is None else _noise(cell, batch, seed, t)
        output, new = cell.tail(pre, state, small, noise)
        if keep is not None:
            new = {name: tf.where(keep, new[name], state[name]) for name in new}
            output = new[OUTPUT] = tf.where(keep, output, state[OUTPUT])
        return output, new

    return tail


def _noise(cell, batch, seed, t):
    """Draws the dropout masks of step t: the same ones whenever it is computed."""
    rates = {name: (rate, units) for name, (rate, units) in cell.noise_rates.items() if rate > 0}
    return {
        name: tf.nn.experimental.stateless_dropout(
            tf.ones((batch, units), cell.compute_dtype), rate, seed=[seed[0] + n, seed[1] + t]
        )
        for n, (name, (rate, units)) in enumerate(rates.items())
    }


def _compile(tail):
    """Returns a tail and its gradient, each compiled by XLA to one operation."""

    def gradient(pre, state, small, t, keep, doutput, dnew):
        with tf.GradientTape() as tape:
            tape.watch((pre, state, small))
            results = tail(pre, state, small, t, keep)
        return tape.gradient(results, (pre, state, small), (doutput, dnew), "zero")

    compiled = tf.function(jit_compile=True, autograph=False)
    return compiled(tail), compiled(gradient)


@tf.custom_gradient
def _differentiable_once(*gradients):
    def second(*_):
        raise NotImplementedError(
            "Gradients of a GatedRNN in training cannot be differentiated again. "
            "`keras.layers.RNN(cell)`, or a call with `training=False`, can be."
        )

    return [tf.identity(gradient) for gradient in gradients], second


def _of_inputs(x, kernel):
    """The products of all inputs with a kernel, `(time, gates, batch, units)`."""
    if kernel.shape[0] == 1:
        # TensorFlow 2.21 overruns its memory in `x[:, None] @ kernel` on CPUs with oneDNN.
        return (x @ kernel[0])[:, None]
    return x[:, None] @ kernel


def _recurrent(kernels):
    """The maps from states, of the pre-activations that have any."""
    maps = {p: {s: W for s, W in of.items() if s != "x"} for p, of in kernels.items()}
    return {p: of_states for p, of_states in maps.items() if of_states}


def _sizes(kernels):
    """Gates and units of each pre-activation, from any of its kernels `(gates, in, units)`."""
    return {p: next(iter(maps.values())).shape[::2] for p, maps in kernels.items()}


def _transposed(kernel):
    """`(gates, in, units)` to `(gates * units, in)`."""
    return tf.reshape(tf.transpose(kernel, (0, 2, 1)), (-1, kernel.shape[1]))


def _kernel_gradient(source, dp, kernel):
    """The sum over all steps and rows of `source^T dp`, in the shape of the kernel."""
    source, dp = (tf.reshape(v, (-1, v.shape[-1])) for v in (source, dp))
    gates, inputs, units = kernel.shape
    product = tf.matmul(source, dp, transpose_a=True)
    return tf.transpose(tf.reshape(product, (inputs, gates, units)), (1, 0, 2))
