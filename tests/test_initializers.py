import keras
import numpy as np
import tensorflow as tf

from keras_hypernets import LayerNormLSTMCell
from keras_hypernets.initializers import GateOrthogonal, per_gate


def singular_values(kernel):
    return np.linalg.svd(keras.ops.convert_to_numpy(kernel), compute_uv=False)


class InitializersTest(tf.test.TestCase):
    def test_every_block_of_gate_orthogonal_is_orthogonal(self):
        for shape in ((4, 6, 6), (3, 4, 9), (2, 9, 4)):
            self.assertAllClose(
                singular_values(GateOrthogonal(gain=1.5)(shape)),
                1.5 + np.zeros((shape[0], min(shape[1:]))),
                1e-5,
                1e-5,
            )
        self.assertAllClose(singular_values(GateOrthogonal()((5, 3))), np.ones(3), 1e-5, 1e-5)

    def test_blocks_differ(self):
        for initializer in (GateOrthogonal(seed=3), per_gate(keras.initializers.get("normal"))):
            blocks = keras.ops.convert_to_numpy(initializer((4, 5, 5), "float32"))
            for a in range(4):
                for b in range(a):
                    self.assertGreater(np.abs(blocks[a] - blocks[b]).max(), 0.01)

    def test_seed_repeats_and_seed_generator_moves_on(self):
        self.assertAllEqual(GateOrthogonal(seed=3)((4, 5, 5)), GateOrthogonal(seed=3)((4, 5, 5)))
        self.assertNotAllClose(GateOrthogonal(seed=3)((4, 5, 5)), GateOrthogonal(seed=4)((4, 5, 5)))
        moving = GateOrthogonal(seed=keras.random.SeedGenerator(1))
        self.assertNotAllClose(moving((2, 5, 5)), moving((2, 5, 5)))

    def test_global_seed_repeats(self):
        kernels = []
        for _ in range(2):
            keras.utils.set_random_seed(5)
            cell = LayerNormLSTMCell(4)
            cell.build((None, 3))
            kernels.append(cell.get_weights())
        for a, b in zip(*kernels, strict=True):
            self.assertAllEqual(a, b)

    def test_config(self):
        initializer = GateOrthogonal(gain=2.0, seed=7)
        config = keras.initializers.serialize(initializer)
        again = keras.initializers.deserialize(config)
        self.assertIsInstance(again, GateOrthogonal)
        self.assertAllEqual(again((4, 3, 3)), initializer((4, 3, 3)))

    def test_cells_apply_what_the_user_passes_to_each_gate(self):
        """`glorot_uniform` has the deviation of one (in, units) matrix, not of a convolution's."""
        cell = LayerNormLSTMCell(200, kernel_initializer="glorot_uniform")
        cell.build((None, 100))
        deviation = keras.ops.convert_to_numpy(cell.kernel).std(axis=(1, 2))
        self.assertAllClose(deviation, np.full(4, np.sqrt(2 / 300)), 0.02, 0)
        self.assertAllClose(singular_values(cell.recurrent_kernel), np.ones((4, 200)), 1e-4, 1e-4)

    def test_functions_and_constants_are_initializers_too(self):
        cell = LayerNormLSTMCell(
            3,
            kernel_initializer=lambda shape, dtype: keras.ops.full(shape, len(shape), dtype),
            bias_initializer=keras.initializers.Constant(0.5),
        )
        cell.build((None, 2))
        self.assertAllEqual(cell.kernel, np.full((4, 2, 3), 2.0))
        self.assertAllEqual(cell.bias, np.full((4, 3), 0.5))
