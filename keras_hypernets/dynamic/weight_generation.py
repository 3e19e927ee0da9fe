"""From the output of a small cell to the weights of the main cell at the same step."""

import math

import keras
from keras import ops

INITIAL_SCALE = 0.1  # d(z) of every unit at the start (Cooijmans et al., arXiv 1603.09025)


class WeightGeneration:
    r"""The hypernetwork's output stage; a mixin of `HyperCell`.

    With h^_t the output of the small cell at the same step, for each gate y and each path (eq. 11):

        z_x = A_x h^_t + a_x        z_h = A_h h^_t + a_h        z_b = A_b h^_t

    `weight_generation="scaling"` scales the rows of fixed kernels, which is the same as scaling
    their products (eq. 7, 8 and 12):

        y_t = d_x(z_x) * (W_x x_t) + d_h(z_h) * (W_h h_{t-1}) + b(z_b)
        d_x(z) = D_x z              d_h(z) = D_h z              b(z) = B z + b_0

    `weight_generation="full"` mixes whole kernels (eq. 5, memory grows with `embedding_dim`):

        y_t = sum_k z_x[k] W_x[k] x_t + sum_k z_h[k] W_h[k] h_{t-1} + b(z_b)

    All embeddings come from one product with `embedding_kernel`, all of d and b from one batched
    product with `scale_kernel`.
    """

    def add_generation_weights(self):
        gates, z = self.gates, self.embedding_dim
        full = self.weight_generation == "full"
        self.add_weight(
            name="embedding_kernel",
            shape=(self.hyper_units, 3 * gates * z),
            initializer=self._initial_embedding_kernel,
        )
        self.add_weight(
            name="embedding_bias",
            shape=(2 * gates * z,),
            # A mix of z kernels with these weights has the variance of one of them.
            initializer=keras.initializers.Constant(1 / math.sqrt(z) if full else 1.0),
        )
        self.add_weight(
            name="scale_kernel",
            shape=(gates if full else 3 * gates, z, self.units),
            initializer="zeros" if full else self._initial_scale_kernel,
        )

    def _initial_embedding_kernel(self, shape, dtype=None):
        # The paper's zeros give all coordinates of z_x and z_h equal gradients for ever, and its
        # deviation of 0.01 for z_b would hardly part them (ratios of singular values of 0.02).
        normal = keras.initializers.RandomNormal
        if self.hyper_initializer == "default":
            return normal(stddev=1 / math.sqrt(self.hyper_units))(shape, dtype)
        rows, of_b = shape[0], shape[1] // 3
        zeros = ops.zeros((rows, 2 * of_b), dtype)
        return ops.concatenate([zeros, normal(stddev=0.01)((rows, of_b), dtype)], axis=1)

    def _initial_scale_kernel(self, shape, dtype=None):
        shape = (self.gates, *shape[1:])
        scale = ops.full(shape, INITIAL_SCALE / self.embedding_dim, dtype)
        return ops.concatenate([scale, scale, ops.zeros(shape, dtype)])

    @property
    def generated_sizes(self):
        """The sizes of what `generate` returns, per gate."""
        modulation = self.units if self.weight_generation == "scaling" else self.embedding_dim
        return modulation, modulation, self.units

    def generate(self, hyper_h, small):
        """Generates the weights of one step.

        Args:
            hyper_h: `(batch, hyper_units)`, output of the small cell.
            small: the weights of the tail by name.

        Returns:
            What modulates the input's products, what modulates the state's products, and the shift
            b. With scaling d_x, d_h and b, each `(gates, batch, units)`; with full generation z_x
            and z_h, each `(gates, batch, embedding_dim)`, and b.
        """
        no_bias = self.gates * self.embedding_dim
        bias = ops.pad(small["embedding_bias"], [[0, no_bias]])
        z = ops.matmul(hyper_h, small["embedding_kernel"]) + bias
        z = ops.transpose(ops.reshape(z, (-1, 3 * self.gates, self.embedding_dim)), (1, 0, 2))
        if self.weight_generation == "scaling":
            return ops.split(ops.matmul(z, small["scale_kernel"]), 3)
        z_x, z_h, z_b = ops.split(z, 3)
        return z_x, z_h, ops.matmul(z_b, small["scale_kernel"])

    def modulate(self, products, weights):
        """Scales `(gates, batch, units)` products, or mixes those of `embedding_dim` kernels."""
        if self.weight_generation == "scaling":
            return weights * products
        shape = (self.gates, self.embedding_dim, -1, self.units)
        return ops.einsum("gzbu,gbz->gbu", ops.reshape(products, shape), weights)

    def modulated_sums(self, hyper_h, pre, small):
        """Returns the modulated products of x and of h and the shift b, `(gates, batch, units)`."""
        for_x, for_h, shift = self.generate(hyper_h, small)
        return self.modulate(pre["input"], for_x), self.modulate(pre["recurrent"], for_h), shift
