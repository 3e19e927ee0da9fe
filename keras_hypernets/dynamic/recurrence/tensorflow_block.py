"""The steps of a block, forward and backward, each compiled by XLA to one operation.

XLA must know the length of a block's arrays. A block runs only the first `count` steps of them, so
that code compiled for one length serves sequences of all lengths.
"""

import tensorflow as tf

from keras_hypernets.dynamic.recurrence.step import (
    OUTPUT,
    active_dropout_rates,
    add,
    masked_tail,
    without,
)

nest = tf.nest


def compiled_steps(reference, sequences):
    """Returns `forward` and `backward` for a cell.

    `forward` gets transposed kernels. XLA's products on a CPU are fastest where the axis that is
    summed over comes last in both factors; others copy the kernel at every step.

    Args:
        reference: weak reference to a `GatedCell`.
        sequences: whether to return the outputs of all steps.
    """

    def tail(products, state, weights, t, keep, seed):
        cell = reference()
        batch = tf.shape(state[cell.state_names[0]])[0]
        dropout_masks = {} if seed is None else _dropout_masks(cell, batch, seed, t)
        run = masked_tail(cell, sequences)
        return run(products, state, weights, dropout_masks, keep)

    def forward(of_x, state, kernels, weights, start, count, keep, seed, keeps_steps):
        """Returns the last state, the outputs, and if `keeps_steps` all products and states."""

        def step(n, state):
            products = {s: tf.matmul(state[s], W, transpose_b=True) for s, W in kernels.items()}
            keep_n = None if keep is None else tf.gather(keep, n)
            y, new = tail(
                {"x": tf.gather(of_x, n), **products}, state, weights, start + n, keep_n, seed
            )
            return new, (y, (products, without(OUTPUT, state)) if keeps_steps else ())

        specs = spec_of_output(of_x, reference(), sequences), ()
        if keeps_steps:
            products = {s: (of_x.shape[1], W.shape[0]) for s, W in kernels.items()}
            products = {s: tf.TensorSpec(shape, of_x.dtype) for s, shape in products.items()}
            specs = specs[0], (products, nest.map_structure(spec_of, without(OUTPUT, state)))
        last, arrays = loop(count, tf.shape(of_x)[0], step, state, specs)
        return last, *nest.map_structure(lambda array: array.stack(), arrays)

    def backward(
        products, before, doutputs, dstate, kernels, weights, dweights, start, count, keep, seed
    ):
        """Returns the gradients of the products, the previous state and the tail's weights."""

        def step(n, carry):
            dstate, dweights = carry
            of_step, state, dy = nest.map_structure(
                lambda values: tf.gather(values, n), (products, before, doutputs)
            )
            if OUTPUT in dstate:
                state[OUTPUT] = tf.zeros_like(dstate[OUTPUT])  # no gradient depends on its value
            keep_n = None if keep is None else tf.gather(keep, n)
            with tf.GradientTape() as tape:
                tape.watch((of_step, state, weights))
                results = tail(of_step, state, weights, start + n, keep_n, seed)
            dproducts, dstate, more = tape.gradient(
                results, (of_step, state, weights), (dy, dstate), "zero"
            )
            for s, W in kernels.items():
                dstate[s] = dstate[s] + tf.matmul(dproducts[s], W, transpose_b=True)
            return (dstate, nest.map_structure(add, dweights, more)), dproducts

        specs = nest.map_structure(lambda v: tf.TensorSpec(v.shape[1:], v.dtype), products)
        size = tf.shape(products["x"])[0]
        (dstate, dweights), arrays = loop(
            count, size, step, (dstate, dweights), specs, reverse=True
        )
        return nest.map_structure(lambda array: array.stack(), arrays), dstate, dweights

    compiled = tf.function(jit_compile=True, autograph=False)
    return compiled(forward), compiled(backward)


def _dropout_masks(cell, batch, seed, t):
    """Draws the dropout masks of step t, the same each time it is computed."""
    return {
        name: tf.nn.experimental.stateless_dropout(
            tf.ones((batch, units), cell.compute_dtype),
            rate,
            seed=[seed[0] + n, seed[1] + t],
            rng_alg="threefry",  # XLA's default on a CPU takes ten times as long
        )
        for n, (name, (rate, units)) in enumerate(active_dropout_rates(cell).items())
    }


def loop(count, size, step, carry, specs, reverse=False):
    """Repeats `carry, values = step(n, carry)`; returns the last carry and arrays of the values.

    The arrays have `size` elements of these specs; those beyond `count` are zero.
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
    """Returns the specs of a block of steps from those of one step."""
    return nest.map_structure(lambda s: tf.TensorSpec((None, *s.shape), s.dtype), specs)


def spec_of(tensor):
    return tf.TensorSpec(tensor.shape, tensor.dtype)


def spec_of_output(x, cell, sequences):
    return tf.TensorSpec((x.shape[-2], cell.output_size), x.dtype) if sequences else ()


def specs_of_products(x, kernels):
    return {s: tf.TensorSpec((x.shape[-2], W.shape[1]), x.dtype) for s, W in kernels.items()}
