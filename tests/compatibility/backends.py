"""What each backend does in a way of its own."""

import keras
import pytest
from keras import ops

BACKEND = keras.backend.backend()
# Options of `compile`: TensorFlow takes longer to build a graph than to run a few steps.
QUICK = {"run_eagerly": BACKEND == "tensorflow"}


def only(backend, reason):
    return pytest.mark.skipif(BACKEND != backend, reason=reason)


def loss_of(outputs):
    """A number to which every output contributes, each in another way."""
    outputs = [ops.cast(y, "float32") for y in keras.tree.flatten(outputs)]
    return sum(ops.sum(ops.sin((n + 1) * y)) for n, y in enumerate(outputs))


def gradients(layer, x, states=(), **options):
    """Those of `loss_of`: for x, initial states and every trainable weight, as NumPy arrays.

    Integers have none: then there are those of the weights only.
    """
    x, *states = [ops.convert_to_tensor(value) for value in (x, *states)]
    sources = [] if "int" in keras.backend.standardize_dtype(x.dtype) else [x, *states]
    values = [weight.value for weight in layer.trainable_weights]

    def loss(call, sources):
        x_, *states_ = sources or [x]
        given = {"initial_state": states_} if states_ else {}
        return loss_of(call(x_, **given, **options))

    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(sources)
            value = loss(layer, sources)
        found = tape.gradient(value, [*sources, *values])
    elif BACKEND == "jax":
        import jax

        @jax.jit
        @jax.grad
        def of(arguments):
            sources, values = arguments

            def call(*args, **kwargs):
                others = [weight.value for weight in layer.non_trainable_variables]
                return layer.stateless_call(values, others, *args, **kwargs)[0]

            return loss(call, sources)

        found = sum(of((sources, values)), [])
    else:
        import torch

        for source in sources:
            source.requires_grad_()
        found = torch.autograd.grad(loss(layer, sources), [*sources, *values])
    return [ops.convert_to_numpy(gradient) for gradient in found]


def compiled(layer, *signature):
    """Returns a built layer as a compiled function, and a function that counts its compilations.

    On TensorFlow it can have an input signature, a shape and a dtype.
    """
    if BACKEND == "tensorflow":
        import tensorflow as tf

        signature = [tf.TensorSpec(*signature)] if signature else None
        function = tf.function(layer, input_signature=signature)
        return function, function.experimental_get_tracing_count

    import jax

    @jax.jit
    def function(values, x):
        return layer.stateless_call(*values, x)[0]

    def call(x):
        groups = layer.trainable_variables, layer.non_trainable_variables
        return function([[weight.value for weight in group] for group in groups], x)

    return call, function._cache_size
