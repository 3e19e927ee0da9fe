"""The time loop of a `GatedCell` in TensorFlow, with its gradient.

A step of a cell is one product for each source, all kernels of the source side by side, and
everything else, the tail, which begins by adding up the columns:

    x_t ─────> q_x = x_t W_x ─────┐
                                  ├──> tail ──> y_t, state_t
    h_{t-1} ─> q_h = h_{t-1} W_h ─┘     ^
                             state_{t-1}┘

Automatic differentiation through a loop of such steps adds a gradient to every kernel at every
step, which costs more than the products themselves. What one would do by hand is cheaper:

    forward     all q_x in one product; then, for t = 1 ... T, the rest of the step, of which only
                state_{t-1} and the q are kept
    backward    for t = T ... 1, the gradient of the tail, whose inside is computed anew, gives all
                dq_t and dstate_{t-1}; through the product dh_{t-1} += dq_h W_h^T;
                after each block of steps its share of dW_s = sum over t of s^T dq_s is added in one
                product

The tail's gradient is automatic differentiation's. XLA compiles the tail and its gradient, many
small operations, to one each. Masking is part of the tail: a masked step keeps the states and
repeats the output, which rides along as one more state. With `checkpoint_every` a block is that
long, only the states between blocks are kept, and the way back runs each block forward again first.
"""

import tensorflow as tf
from keras import ops

from keras_hypernets.dynamic.recurrence.products import (
    apart,
    by_source,
    pre_activations,
    side_by_side,
)

nest = tf.nest
OUTPUT = "output of the step before"  # no name of a state, which is a Python name
ROWS = 1024  # of a block, steps times batch: enough for a good product


def recur(cell, x, state, mask=None, seed=None, sequences=True, checkpoint_every=None):
    """Runs a cell over sequences.

    Args:
        cell: a built `GatedCell`.
        x: `(time, batch, features)`.
        state: dictionary of the initial states, `(batch, size)`.
        mask: `(time, batch, 1)` booleans, `True` where a step counts, or `None`.
        seed: two integers from which the dropout masks of all steps follow, or `None`: no dropout.
        sequences: whether the outputs of all steps are wanted, or that of the last only.
        checkpoint_every: number of steps between two kept states, or `None`: every step is kept.

    Returns:
        The outputs `(time, batch, units)`, without `sequences` the last `(batch, units)`, and the
        dictionary of last states. Gradients reach x, the initial states and all weights of the
        cell; they cannot be differentiated again.
    """
    rides = mask is not None or not sequences
    if rides:
        state = {**state, OUTPUT: tf.zeros((tf.shape(x)[1], cell.output_size), x.dtype)}
    if seed is not None:
        # Seeds of calls differ by 1, as do those of steps: hashed, they do not meet.
        seed = tf.random.stateless_uniform([2], seed, None, None, tf.int32)
    kernels, small = nest.map_structure(ops.convert_to_tensor, (by_source(cell), cell.small))
    tails = _compile(_tail_of(cell, seed, rides, sequences))
    arguments = x, state, kernels, small
    of_step = {"y": tf.TensorSpec((x.shape[1], cell.output_size), x.dtype)} if sequences else {}

    @tf.custom_gradient
    def run(*tensors):
        x, state, kernels, small = nest.pack_sequence_as(arguments, tensors)
        wide = {s: side_by_side(maps) for s, maps in kernels.items()}
        loop = _TimeLoop(*tails, x, state, wide, small, mask, of_step)
        last, outputs, gradients = loop.run(checkpoint_every)

        def gradient(*upstream):
            dx, dstate, dwide, dsmall = gradients(*nest.pack_sequence_as((last, outputs), upstream))
            dkernels = {s: apart(dwide[s], maps) for s, maps in kernels.items()}
            found = dx, dstate, dkernels, dsmall
            found = nest.map_structure(lambda d, v: tf.cast(d, v.dtype), found, arguments)
            return _differentiable_once(*nest.flatten(found))

        return nest.flatten((last, outputs)), gradient

    last, outputs = nest.pack_sequence_as((state, of_step), run(*nest.flatten(arguments)))
    if sequences:
        outputs["y"].set_shape((*x.shape[:2], cell.output_size))
    output = outputs.get("y", last.get(OUTPUT))
    last.pop(OUTPUT, None)
    return output, last


class _TimeLoop:
    """Both directions of the loop; what is the same at all steps is an attribute."""

    def __init__(self, tail, tail_gradient, x, state, kernels, small, mask, outputs):
        self.tail, self.tail_gradient = tail, tail_gradient
        self.x, self.state, self.mask = x, state, mask
        self.kernels, self.small = kernels, small
        self.outputs = outputs  # specs of what a step returns
        self.transposed = nest.map_structure(tf.transpose, kernels)  # once, not at every step

    def run(self, checkpoint_every):
        """Returns the last state, the outputs and the function that gives all gradients.

        The steps of a block n are `count(n)` of at most `size`, from `n * size`.
        """
        time, batch, _ = tf.unstack(tf.shape(self.x))
        blocks = _parts(time, checkpoint_every or _parts(ROWS, batch))
        size = checkpoint_every or _parts(time, blocks)

        def count(n):
            return tf.minimum(size, time - n * size)

        if checkpoint_every is None:
            last, outputs, kept = self.forward(0, time, time, self.state)

            def recall(n):
                return kept, n * size
        else:
            self.x = tf.pad(self.x, [[0, blocks * size - time], [0, 0], [0, 0]])

            def block(n, state):
                last, outputs, _ = self.forward(n * size, count(n), size, state)
                return last, (state, outputs)

            specs = nest.map_structure(_spec, self.state), _in_blocks(self.outputs)
            last, (starts, outputs) = _loop(blocks, blocks, block, self.state, specs)
            outputs = nest.map_structure(lambda y: _joined(y)[:time], outputs)

            def recall(n):
                state = nest.map_structure(lambda s: s.read(n), starts)
                return self.forward(n * size, count(n), size, state)[-1], 0

        def gradients(dlast, doutputs):
            def block(n, carry):
                return self.backward(n * size, count(n), size, *recall(n), doutputs, *carry)

            zeros = nest.map_structure(_zeros_like, (self.kernels, self.small))
            spec = _in_blocks(_spec(self.x[0]))
            (dstate, dkernels, dsmall), dx = _loop(
                blocks, blocks, block, (dlast, *zeros), spec, reverse=True
            )
            return _joined(dx)[:time], dstate, dkernels, dsmall

        return last, outputs, gradients

    def forward(self, start, count, size, state):
        """Runs `count` steps; returns the last state, the outputs and what the way back needs.

        `size` is what there is room for: XLA takes no arrays of a length that is not fixed.
        """
        begin, shape = tf.stack([start, 0, 0]), tf.concat([[size], tf.shape(self.x)[1:]], 0)
        of_x = _product(tf.slice(self.x, begin, shape), self.kernels["x"])

        def step(n, state):
            products = {s: state[s] @ W for s, W in _but("x", self.kernels).items()}
            of_all = {"x": of_x[n], **products}
            outputs, new = self.tail(of_all, state, self.small, *self._at(start + n))
            return new, (outputs, (_but(OUTPUT, state), products))

        states = nest.map_structure(_spec, _but(OUTPUT, state))
        specs = self.outputs, (states, _but("x", self._specs()[1]))
        last, (outputs, kept) = _loop(count, size, step, state, specs)
        return last, nest.map_structure(lambda array: array.stack(), outputs), (of_x, kept)

    def backward(self, start, count, size, kept, first, doutputs, dstate, dkernels, dsmall):
        """Goes back `count` steps.

        Args:
            start, count, size: as in `forward`.
            kept: what `forward` kept of these steps, and perhaps of others.
            first: where in `kept` they start.
            doutputs: gradients of the outputs of all steps.
            dstate: gradients of the states after these steps.
            dkernels, dsmall: gradients of the weights so far.

        Returns:
            The gradients of the states before these steps and those of the weights; those of x.
        """
        of_x, kept = kept

        def step(n, carry):
            dstate, dsmall = carry
            before, products = nest.map_structure(lambda array: array.read(first + n), kept)
            if OUTPUT in dstate:
                before[OUTPUT] = tf.zeros_like(dstate[OUTPUT])  # no gradient depends on its value
            doutput = {name: values[start + n] for name, values in doutputs.items()}
            products["x"] = of_x[first + n]
            dproducts, dstate, dsmall = self.tail_gradient(
                products, before, self.small, *self._at(start + n), doutput, dstate, dsmall
            )
            sources = {"x": self.x[start + n]}
            for s, W in _but("x", self.transposed).items():
                dstate[s] += dproducts[s] @ W
                sources[s] = before[s]
            return (dstate, dsmall), (sources, dproducts)

        (dstate, dsmall), values = _loop(
            count, size, step, (dstate, dsmall), self._specs(), reverse=True
        )
        sources, dproducts = nest.map_structure(lambda array: array.stack(), values)
        more = {s: _sum_of_products(sources[s], dproducts[s]) for s in dkernels}
        dx = _product(dproducts["x"], self.transposed["x"])
        return (dstate, nest.map_structure(_add, dkernels, more), dsmall), dx

    def _specs(self):
        """Of the sources of a step and of their products."""
        batch, dtype = self.x.shape[1], self.x.dtype
        return tuple(
            {s: tf.TensorSpec((batch, W.shape[axis]), dtype) for s, W in self.kernels.items()}
            for axis in (0, 1)
        )

    def _at(self, t):
        """The step's number and its mask."""
        return t, None if self.mask is None else self.mask[t]


def _loop(count, size, step, carry, specs, reverse=False):
    """Repeats `carry, values = step(n, carry)`; returns the last carry and arrays of the values.

    The arrays have `size` elements of these specs, the last ones zero where `count` is smaller.
    """
    arrays = nest.map_structure(
        lambda spec: tf.TensorArray(spec.dtype, size, element_shape=spec.shape), specs
    )

    def body(i, carry, arrays):
        n = count - 1 - i if reverse else i
        carry, values = step(n, carry)
        return i + 1, carry, nest.map_structure(lambda a, v: a.write(n, v), arrays, values)

    return tf.while_loop(
        lambda i, *_: i < count, body, (0, carry, arrays), maximum_iterations=size
    )[1:]


def _parts(count, size):
    """`count / size`, rounded up."""
    return (count + size - 1) // size


def _spec(tensor):
    return tf.TensorSpec(tensor.shape, tensor.dtype)


def _in_blocks(specs):
    """Of a block of steps, from those of a step."""
    return nest.map_structure(lambda s: tf.TensorSpec((None, *s.shape), s.dtype), specs)


def _but(name, values):
    return {key: value for key, value in values.items() if key != name}


def _joined(blocks):
    """An array of blocks of steps to one sequence."""
    blocks = blocks.stack()
    return tf.reshape(blocks, tf.concat([[-1], tf.shape(blocks)[2:]], 0))


def _tail_of(cell, seed, rides, sequences):
    """Returns the tail: the cell's, from the products on, with its dropout and masking."""
    sources = by_source(cell)

    def tail(products, state, small, t, keep):
        pre = pre_activations(products, sources)
        batch = tf.shape(state[cell.state_names[0]])[0]
        noise = {} if seed is None else _noise(cell, batch, seed, t)
        output, new = cell.tail(pre, state, small, noise)
        if keep is not None:
            new = {name: tf.where(keep, new[name], state[name]) for name in new}
            output = tf.where(keep, output, state[OUTPUT])
        if rides:
            new[OUTPUT] = output
        return {"y": output} if sequences else {}, new

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

    def gradient(products, state, small, t, keep, doutputs, dnew, dsmall):
        with tf.GradientTape() as tape:
            tape.watch((products, state, small))
            results = tail(products, state, small, t, keep)
        dproducts, dstate, more = tape.gradient(
            results, (products, state, small), (doutputs, dnew), "zero"
        )
        return dproducts, dstate, nest.map_structure(_add, dsmall, more)

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


def _product(x, kernel):
    """`(time, batch, in)` times `(in, out)` as one product of matrices."""
    shape = tf.concat([tf.shape(x)[:2], [-1]], 0)
    return tf.reshape(tf.reshape(x, (-1, kernel.shape[0])) @ kernel, shape)


def _sum_of_products(sources, dproducts):
    """The sum over all steps and rows of `source^T dproduct`."""
    sources, dproducts = (tf.reshape(v, (-1, v.shape[-1])) for v in (sources, dproducts))
    return tf.matmul(sources, dproducts, transpose_a=True)


def _add(total, more):
    return total + tf.cast(more, total.dtype)


def _zeros_like(weight):
    """Zeros of a weight's shape; sums over many steps lose digits in half precision."""
    return tf.zeros(weight.shape, weight.dtype if weight.dtype.size > 2 else tf.float32)
