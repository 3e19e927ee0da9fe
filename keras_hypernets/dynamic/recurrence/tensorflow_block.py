"""The steps of a block, forward and backward, each compiled by XLA to one operation.

A block has room for as many steps as its arrays are long, a length that XLA has to know, and
`count` steps: what is compiled for one length of block serves sequences of all lengths.
"""

import tensorflow as tf

from keras_hypernets.dynamic.recurrence.products import by_source, pre_activations

nest = tf.nest
OUTPUT = "output of the step before"  # no name of a state, which is a Python name


def compiled_steps(cell, rides, sequences):
    """Returns `forward` and `backward` for a cell.

    Args:
        cell: a `GatedCell`.
        rides: whether the output of the step before is one of the states.
        sequences: whether the outputs of all steps are wanted.
    """
    tail = _tail_of(cell, rides, sequences)

    def forward(of_x, state, kernels, small, start, count, keep, seed):
        """Returns the last state, the outputs, and all products and states on the way."""

        def step(n, state):
            products = {s: state[s] @ W for s, W in kernels.items()}
            keep_n = None if keep is None else tf.gather(keep, n)
            y, new = tail(
                {"x": tf.gather(of_x, n), **products}, state, small, start + n, keep_n, seed
            )
            return new, (y, (products, but(OUTPUT, state)))

        states = nest.map_structure(spec_of, but(OUTPUT, state))
        specs = spec_of_output(of_x, cell, sequences), (specs_of_products(of_x, kernels), states)
        last, arrays = loop(count, tf.shape(of_x)[0], step, state, specs)
        return last, *nest.map_structure(lambda array: array.stack(), arrays)

    def backward(
        products, before, doutputs, dstate, kernels, small, dsmall, start, count, keep, seed
    ):
        """Returns the gradients of the products, of the state before and of the small weights."""

        def step(n, carry):
            dstate, dsmall = carry
            of_step, state, dy = nest.map_structure(
                lambda values: tf.gather(values, n), (products, before, doutputs)
            )
            if OUTPUT in dstate:
                state[OUTPUT] = tf.zeros_like(dstate[OUTPUT])  # no gradient depends on its value
            keep_n = None if keep is None else tf.gather(keep, n)
            with tf.GradientTape() as tape:
                tape.watch((of_step, state, small))
                results = tail(of_step, state, small, start + n, keep_n, seed)
            dproducts, dstate, more = tape.gradient(
                results, (of_step, state, small), (dy, dstate), "zero"
            )
            for s, W in kernels.items():
                dstate[s] = dstate[s] + tf.matmul(dproducts[s], W, transpose_b=True)
            return (dstate, nest.map_structure(add, dsmall, more)), dproducts

        specs = nest.map_structure(lambda v: tf.TensorSpec(v.shape[1:], v.dtype), products)
        size = tf.shape(products["x"])[0]
        (dstate, dsmall), arrays = loop(count, size, step, (dstate, dsmall), specs, reverse=True)
        return nest.map_structure(lambda array: array.stack(), arrays), dstate, dsmall

    compiled = tf.function(jit_compile=True, autograph=False)
    return compiled(forward), compiled(backward)


def _tail_of(cell, rides, sequences):
    """Returns the tail: the cell's, from the products on, with its dropout and masking."""
    sources = by_source(cell)

    def tail(products, state, small, t, keep, seed):
        pre = pre_activations(products, sources)
        batch = tf.shape(state[cell.state_names[0]])[0]
        noise = {} if seed is None else _noise(cell, batch, seed, t)
        output, new = cell.run_tail(pre, state, small, noise)
        if keep is not None:
            new = {name: tf.where(keep, new[name], state[name]) for name in new}
            output = tf.where(keep, output, state[OUTPUT])
        if rides:
            new[OUTPUT] = output
        return output if sequences else (), new

    return tail


def _noise(cell, batch, seed, t):
    """Draws the dropout masks of step t: the same ones whenever it is computed."""
    rates = {name: (rate, units) for name, (rate, units) in cell.noise_rates.items() if rate > 0}
    return {
        name: tf.nn.experimental.stateless_dropout(
            tf.ones((batch, units), cell.compute_dtype),
            rate,
            seed=[seed[0] + n, seed[1] + t],
            rng_alg="threefry",  # XLA's default on a CPU takes ten times as long
        )
        for n, (name, (rate, units)) in enumerate(rates.items())
    }


def loop(count, size, step, carry, specs, reverse=False):
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


def specs_of_block(specs):
    """Those of the values of a block of steps, from those of a step."""
    return nest.map_structure(lambda s: tf.TensorSpec((None, *s.shape), s.dtype), specs)


def spec_of(tensor):
    return tf.TensorSpec(tensor.shape, tensor.dtype)


def spec_of_output(x, cell, sequences):
    return tf.TensorSpec((x.shape[-2], cell.output_size), x.dtype) if sequences else ()


def specs_of_products(x, kernels):
    return {s: tf.TensorSpec((x.shape[-2], W.shape[1]), x.dtype) for s, W in kernels.items()}


def but(name, values):
    return {key: value for key, value in values.items() if key != name}


def zeros_like(weight):
    """Zeros of a weight's shape; sums over many steps lose digits in half precision."""
    return tf.zeros(weight.shape, weight.dtype if weight.dtype.size > 2 else tf.float32)


def add(total, more):
    return total + tf.cast(more, total.dtype)
