import keras
import numpy as np
import tensorflow as tf
from keras import ops
from random_weights import randomize

from keras_hypernets import (
    GatedCell,
    GatedRNN,
    HyperLSTM,
    HyperLSTMCell,
    HyperSimpleRNNCell,
    LayerNormLSTMCell,
)


class KeepCell(GatedCell):
    """A cell that keeps x and outputs its dropout mask, to look at the masks."""

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(1, input_shape[-1], self.units), name="kernel")

    @property
    def linear_maps(self):
        return {"x": {"x": self.kernel}}

    def tail(self, pre, state, weights, dropout_masks):
        mask = dropout_masks.get("candidate", ops.ones_like(state["h"]))
        return mask, {"h": pre["x"][0]}


class PeepholeCell(LayerNormLSTMCell):
    """An LSTM whose gates see c, through a weight that the tail reads in one of two ways."""

    def __init__(self, units, by_name=True, **kwargs):
        super().__init__(units, layer_norm=False, **kwargs)
        self.by_name = by_name

    def build(self, input_shape):
        super().build(input_shape)
        self.peephole = self.add_gate_weight("peephole", (4, self.units), "bias")
        self.norm = keras.layers.LayerNormalization(dtype=self.dtype_policy)
        self.norm.build((None, self.units))

    def tail(self, pre, state, weights, dropout_masks):
        peephole = weights["peephole"] if self.by_name else self.peephole
        c = self.norm(state["c"])  # in the compute dtype, like all other layers' outputs
        gates = pre["gates"] + peephole[:, None] * c
        return super().tail({"gates": gates}, state, weights, dropout_masks)


class BrokenCell(GatedCell):
    """A cell that breaks one rule."""

    state_names = ("h", "c")

    def __init__(self, rule, **kwargs):
        super().__init__(3, **kwargs)
        self.rule = rule

    def build(self, input_shape):
        names = {"name of an argument": "units", "name of a method": "tail"}
        self.kernel = self.add_gate_weight(
            names.get(self.rule, "kernel"), (1, input_shape[-1], self.units)
        )
        if self.rule == "two weights of one name":
            self.norms = [keras.layers.LayerNormalization() for _ in range(2)]
            for norm in self.norms:
                norm.build((None, self.units))
        if self.rule == "a variable changes":
            self.add_weight(name="count", shape=())
        self.random = keras.random.SeedGenerator(0)

    @property
    def linear_maps(self):
        source = {"no input": "h", "a source that does not exist": "q"}.get(self.rule, "x")
        return {
            "sum": {"x": self.kernel, source: self.kernel}
            if source == "q"
            else {source: self.kernel}
        }

    def tail(self, pre, state, weights, dropout_masks):
        h = pre["sum"][0]
        if self.rule == "a forgotten state":
            return h, {"h": h}
        if self.rule == "a kernel":
            h = h + ops.sum(self.kernel)
        if self.rule == "a variable changes":
            self.count.assign_add(1)
        if self.rule == "random numbers":
            h = h * keras.random.dropout(ops.ones((3,)), 0.5, seed=self.random)
        return h, {"h": h, "c": h}


class GatedCellTest(tf.test.TestCase):
    def test_a_tail_reads_weights_as_attributes(self):
        """In every loop, also those of sublayers, with the same gradients."""
        x = np.random.default_rng(0).standard_normal((3, 4, 2)).astype("float32")
        for dtype, tolerance in (("float32", 1e-6), ("mixed_bfloat16", 0.02)):
            found = []
            for by_name in (True, False):
                cell = PeepholeCell(5, by_name, dtype=dtype)
                layer = GatedRNN(cell, return_sequences=True, dtype=dtype)
                layer.build(x.shape)
                randomize(layer)

                def loss_and_gradients(training, layer=layer):
                    with tf.GradientTape() as tape:
                        y = tf.cast(layer(x, training=training), "float32")
                        loss = tf.reduce_sum(tf.square(y))
                    return y, tape.gradient(loss, [w.value for w in layer.trainable_weights])

                fast = tf.function(loss_and_gradients, reduce_retracing=True)
                found += [loss_and_gradients(False), fast(True), fast(False)]
            self.assertLen(found[0][1], 6)
            for one in found[1:]:
                self.assertAllClose(one[0], found[0][0], tolerance, tolerance)
                for a, b in zip(one[1], found[0][1], strict=True):
                    self.assertAllClose(a, b, 10 * tolerance, 10 * tolerance)

    def test_broken_rules_are_named(self):
        x = np.ones((2, 3, 3), "float32")
        pure = ("a kernel", "random numbers", "a variable changes")  # where a loop differentiates
        for rule, message in (
            ("two weights of one name", "outside `linear_maps` must have different names"),
            ("name of an argument", "`name` of a weight .* BrokenCell. Received: name='units'"),
            ("name of a method", "`name` of a weight .* BrokenCell. Received: name='tail'"),
            ("no input", r"must be the input \"x\" and .* Received: sources \('h',\)"),
            ("a source that does not exist", "Received: sources .*'q'"),
            ("a forgotten state", r"new states \('h', 'c'\). Received: states \('h',\)"),
            ("a kernel", "can read only the cell's weights outside `linear_maps`: none. .*kernel'"),
            ("random numbers", "outside `linear_maps`: none. .* reads .*seed_generator_state"),
            ("a variable changes", "must not change variables.* assigns to .*count"),
        ):
            for training in [True] if rule in pure else [False, True]:
                with self.subTest(rule, training=training):
                    layer = GatedRNN(BrokenCell(rule))
                    call = tf.function(layer) if training else layer
                    with self.assertRaisesRegex(ValueError, message):
                        call(x, training=training)

    def test_without_biases_they_are_none(self):
        for cell in (LayerNormLSTMCell(4, use_bias=False), HyperLSTMCell(4, use_bias=False)):
            cell.build((None, 3))
            self.assertIsNone(cell.bias)
        self.assertIsNone(cell.hyper_bias)

    def test_small_holds_every_other_weight(self):
        cell = HyperLSTMCell(4, 3, 2)
        cell.build((None, 5))
        large = {
            name for maps in cell.linear_maps.values() for name in [k.name for k in maps.values()]
        }
        self.assertEqual(
            large | set(cell.tail_weights),
            {weight.name for weight in cell.weights},
        )
        self.assertEqual(large & set(cell.tail_weights), set())
        self.assertEqual(
            large,
            {
                "kernel",
                "recurrent_kernel",
                "hyper_kernel",
                "hyper_state_kernel",
                "hyper_recurrent_kernel",
            },
        )

    def masks(self, rate=0.25, steps=50, **options):
        layer = keras.layers.RNN(
            KeepCell(100, recurrent_dropout=rate, seed=3), return_sequences=True, **options
        )
        x = np.ones((8, steps, 2), "float32")
        layer.build(x.shape)
        return layer, x

    def test_recurrent_dropout_draws_a_new_mask_each_step(self):
        layer, x = self.masks()
        for call in (layer, tf.function(layer), tf.function(layer, jit_compile=True)):
            masks = np.array(call(x, training=True))
            self.assertAllClose(np.unique(masks), [0, 1 / 0.75])
            self.assertAllClose(masks.mean(), 1.0, atol=0.02)
            flat = masks.transpose(1, 0, 2).reshape(50, -1)
            self.assertEqual(len(np.unique(flat, axis=0)), 50)
            # Two independent masks agree in a share 0.75^2 + 0.25^2 of the places.
            agreement = np.mean(flat[1:] == flat[:-1])
            self.assertAllClose(agreement, 0.625, atol=0.02)
            self.assertNotAllClose(masks, call(x, training=True))

    def test_no_dropout_outside_training(self):
        layer, x = self.masks()
        self.assertAllEqual(layer(x, training=False), np.ones((8, 50, 100)))
        self.assertAllEqual(layer(x), np.ones((8, 50, 100)))

    def test_masks_repeat_with_the_seed(self):
        a, x = self.masks()
        b, _ = self.masks()
        self.assertAllEqual(a(x, training=True), b(x, training=True))

    def test_dropout_leaves_the_memory_alone(self):
        """Semeniuta et al.: only what is added to c is dropped, the rest of c stays."""
        cell = LayerNormLSTMCell(6, recurrent_dropout=0.5, seed=1, layer_norm=False)
        x, h, c = (tf.random.stateless_normal((4, 6), (n, 0)) for n in range(3))
        cell(x, [h, c])
        _, (_, kept) = cell(x, [h, c], training=False)
        _, (_, dropped) = cell(x, [h, c], training=True)
        gates = [x @ cell.kernel[n] + h @ cell.recurrent_kernel[n] + cell.bias[n] for n in range(4)]
        memory = tf.sigmoid(gates[1] + 1) * c
        candidate = tf.sigmoid(gates[0]) * tf.tanh(gates[2])
        self.assertAllClose(kept, memory + candidate)
        mask = np.array((dropped - memory) / candidate)
        self.assertAllClose(np.unique(np.round(mask, 3)), [0, 2])

    def test_regularizers_and_constraints_act_on_each_gate(self):
        cell = LayerNormLSTMCell(
            3,
            kernel_regularizer=keras.regularizers.OrthogonalRegularizer(0.1),
            recurrent_regularizer=keras.regularizers.L2(0.1),
            kernel_constraint=keras.constraints.UnitNorm(axis=0),
            bias_constraint="non_neg",
        )
        cell.build((None, 5))
        expected = sum(
            float(keras.regularizers.OrthogonalRegularizer(0.1)(block))
            for block in ops.unstack(cell.kernel, 4)
        )
        expected += 0.1 * float(ops.sum(ops.square(cell.recurrent_kernel)))
        self.assertAllClose(sum(map(float, cell.losses)), expected)
        constrained = cell.kernel.constraint(ops.convert_to_tensor(cell.kernel))
        self.assertAllClose(ops.norm(constrained, axis=1), np.ones((4, 3)))
        self.assertAllEqual(cell.bias.constraint(ops.full((4, 3), -1.0)), np.zeros((4, 3)))

    def test_training_twice_with_one_seed_gives_one_result(self):
        x = np.random.default_rng(0).standard_normal((8, 6, 3)).astype("float32")
        results = []
        for _ in range(2):
            keras.utils.set_random_seed(1)
            layer = HyperLSTM(
                4, hyper_units=3, recurrent_dropout=0.3, hyper_recurrent_dropout=0.2, dropout=0.2
            )
            model = keras.Sequential([keras.Input((6, 3)), layer])
            model.compile("adam", "mse", run_eagerly=True)
            model.fit(x, np.zeros((8, 4)), batch_size=4, verbose=0)
            results.append(model.get_weights())
        for a, b in zip(*results, strict=True):
            self.assertAllEqual(a, b)

    def test_bad_arguments(self):
        for make, message in (
            (lambda: LayerNormLSTMCell(0), "`units` must be a positive integer. Received: units=0"),
            (lambda: LayerNormLSTMCell(2.5), "Received: units=2.5"),
            (lambda: LayerNormLSTMCell(True), "Received: units=True"),
            (lambda: LayerNormLSTMCell(4, recurrent_dropout=1.0), "`recurrent_dropout` must be a"),
            (lambda: LayerNormLSTMCell(4, layer_norm_epsilon=0), "`layer_norm_epsilon` must be"),
            (
                lambda: LayerNormLSTMCell(4, forget_bias="1"),
                "`forget_bias` must be a finite number",
            ),
            (lambda: LayerNormLSTMCell(4, activation="tanhh"), "tanhh"),
            (lambda: LayerNormLSTMCell(4, layer_norm="no"), "`layer_norm` must be True or False"),
            (lambda: LayerNormLSTMCell(4, use_bias=None), "`use_bias` must be True or False"),
            (lambda: HyperLSTMCell(4, hyper_units=-1), "Received: hyper_units=-1"),
            (lambda: HyperLSTMCell(4, embedding_dim=0), "Received: embedding_dim=0"),
            (lambda: HyperLSTMCell(4, weight_generation="rows"), "'scaling', 'full'. Received"),
            (lambda: HyperLSTMCell(4, hyper_initializer="he"), "`hyper_initializer` must be one"),
            (lambda: HyperLSTMCell(4, hyper_recurrent_dropout=-0.1), "`hyper_recurrent_dropout`"),
            (lambda: HyperLSTM(4, dropout=1.5), "`dropout` must be a number in [0, 1)"),
            (lambda: HyperLSTM(4, hyper_unit=3), "hyper_unit"),
            (lambda: HyperSimpleRNNCell(4, recurrent_dropout=0.1), "no candidate to drop"),
        ):
            with self.assertRaises(ValueError) as raised:
                make()
            self.assertIn(message, str(raised.exception))

    def test_bad_states(self):
        cell = HyperLSTMCell(4, 3, 2)
        x, h, r = ops.ones((2, 5)), ops.ones((2, 4)), ops.ones((2, 3))
        one, deep = ops.ones((1, 4)), ops.ones((2, 1, 4))
        for states in ([h, h], [h, h, h, r], [h, h, r, r, r], [h, one, r, r], [h, deep, r, r]):
            with self.assertRaisesRegex(ValueError, "`states` of HyperLSTMCell must be 4 tensors"):
                cell(x, states)
        with self.assertRaisesRegex(ValueError, "`states` of HyperLSTMCell must be 4 tensors"):
            keras.layers.RNN(cell)(ops.ones((2, 3, 5)), initial_state=[h, h])

    def test_bad_inputs(self):
        cell = HyperLSTMCell(4, 3, 2)
        cell.build((None, 5))
        states = cell.get_initial_state(2)
        for x in (ops.ones((2, 6)), ops.ones((2, 1, 5))):
            with self.assertRaisesRegex(
                ValueError, r"`inputs` of HyperLSTMCell must be \(batch, 5"
            ):
                cell(x, states)
        with self.assertRaisesRegex(ValueError, "`sequences` must be"):
            cell.generated_weights(ops.ones((2, 5)))

    def test_layer_norm_takes_its_statistics_in_float32(self):
        """The squares of 400 have no place in float16."""
        cell = LayerNormLSTMCell(6, dtype="mixed_float16")
        cell.build((None, 3))
        small = {n: ops.convert_to_tensor(w, "float16") for n, w in cell.tail_weights.items()}
        x = np.random.default_rng(0).uniform(-400, 400, (4, 2, 6))
        normalized = cell.normalize(ops.convert_to_tensor(x, "float16"), small, "gate")
        expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3)
        self.assertEqual(normalized.dtype, "float16")
        self.assertAllClose(tf.cast(normalized, "float64"), expected, 2e-3, 2e-3)
