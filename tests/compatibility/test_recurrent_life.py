"""What users of Keras' recurrent layers rely on, against a loop in plain Python."""

import keras
import numpy as np
import pytest
from backends import BACKEND, gradients
from keras import ops
from random_weights import randomize
from rows import ROWS, for_rows, row_of, rows, rows_named

MASK = np.array([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 0, 1, 1, 0]], bool)
WAYS = {
    "last step, backwards, from states": {
        "return_sequences": False,
        "go_backwards": True,
        "states": True,
    },
    "masked, with zeros": {"mask": MASK, "zero_output_for_mask": True},
    "masked, unrolled": {"mask": MASK, "unroll": True},
}
SEQUENCES = {row.name for row in ROWS if row.kind == "sequence"}


class Loop(keras.Layer):
    """`keras.layers.RNN(cell)` with `return_sequences` and `return_state`."""

    def __init__(self, cell, go_backwards=False, zero_output_for_mask=False):
        super().__init__(dtype=cell.dtype_policy)
        self.supports_masking = True
        self.cell = cell
        self.go_backwards = go_backwards
        self.zero_output_for_mask = zero_output_for_mask

    def build(self, shape):
        self.cell.build((shape[0], shape[2]))

    def call(self, x, initial_state=None, mask=None, training=False):
        states = initial_state or self.cell.get_initial_state(x.shape[0])
        output, outputs = 0.0, []
        for t in list(range(x.shape[1]))[:: -1 if self.go_backwards else 1]:
            new_output, new_states = self.cell(x[:, t], states, training=training)
            keep = True if mask is None else mask[:, t, None]
            output = ops.where(keep, new_output, output)
            pairs = zip(new_states, states, strict=True)
            states = [ops.where(keep, new, old) for new, old in pairs]
            outputs.append(ops.where(keep, output, 0.0) if self.zero_output_for_mask else output)
        return [ops.stack(outputs, 1), *states]


def cell_of(row):
    return row.make() if row.kind == "cell" else row.make().cell


def with_weights(layer, of, shape):
    """Builds a layer and gives it the weights of another one."""
    layer.build(shape)
    layer.set_weights(of.get_weights())
    return layer


def loop_of(row, shape, **options):
    loop = Loop(cell_of(row), **options)
    loop.build(shape)
    randomize(loop)
    return loop


def states_for(cell, batch):
    rng = np.random.default_rng(7)
    return [rng.standard_normal((batch, n)).astype("float32") for n in cell.state_size]


def assert_close(found, expected, tolerance=1e-5):
    found, expected = (keras.tree.flatten(values) for values in (found, expected))
    for one, other in zip(found, expected, strict=True):
        one, other = ops.convert_to_numpy(one), ops.convert_to_numpy(other)
        np.testing.assert_allclose(one, other, tolerance, tolerance)


@pytest.mark.parametrize("way", WAYS)
@rows("cell", "sequence")
def test_outputs_and_states(row, way):
    options = {"return_sequences": True, **WAYS[way]}
    given = {}
    loop_options = {k: options[k] for k in ("go_backwards", "zero_output_for_mask") if k in options}
    x = row.x(3)
    loop = loop_of(row, x.shape, **loop_options)
    if options.pop("states", False):
        given["initial_state"] = list(map(ops.convert_to_tensor, states_for(loop.cell, 3)))
    if "mask" in options:
        given["mask"] = ops.convert_to_tensor(options.pop("mask"))
    layer = with_weights(row.layer(return_state=True, **options), loop, x.shape)
    outputs, *states = loop(x, **given)
    assert_close(
        layer(x, **given), [outputs if layer.return_sequences else outputs[:, -1], *states]
    )


@rows("cell", "sequence", quick=SEQUENCES)
def test_one_step_of_one_row(row):
    x = row.x(1)[:, :1]
    loop = loop_of(row, x.shape)
    outputs, *_ = loop(x)
    assert_close(with_weights(row.layer(), loop, x.shape)(x), outputs[:, 0])


@rows("cell", "sequence", quick=SEQUENCES)
def test_gradients(row):
    """In training, for inputs, initial states and weights, with masked steps."""
    x = row.x(3)[:, :3]
    loop = loop_of(row, x.shape)
    options = {"return_sequences": True, "return_state": True}
    layer = with_weights(row.layer(**options), loop, x.shape)
    given = {"mask": ops.convert_to_tensor(MASK[[0, 2, 2], :3]), "training": True}
    states = states_for(loop.cell, 3)
    found, expected = (gradients(one, x, states, **given) for one in (layer, loop))
    assert_close(found, expected, 1e-4)


@rows("cell", "sequence", without=("keras.layers.LSTM",))
def test_training_with_dropout(row):
    """There are gradients, and what the layer is given stays as it was."""
    # Keras' loop on JAX cannot draw masks, unless it is unrolled.
    unroll = row.kind == "cell" and BACKEND == "jax"
    both = keras.layers.Bidirectional(row.layer(unroll=unroll))
    for layer in (both.forward_layer, both.backward_layer):
        for one, name in (
            (layer, "dropout"),
            (layer.cell, "recurrent_dropout"),
            (layer.cell, "hyper_recurrent_dropout"),
        ):
            if hasattr(one, name) and not (one is layer.cell and "SimpleRNN" in row.name):
                setattr(one, name, 0.5)
    dense = keras.layers.Dense(3, "tanh")
    inputs = keras.Input(row.shape)
    x = dense(inputs)
    model = keras.Model(inputs, [x, both(x)])
    randomize(model)
    for gradient in gradients(model, row.x(), training=True):
        assert np.all(np.isfinite(gradient))
    assert_close(model(row.x(), training=True)[0], dense(row.x()))


@pytest.mark.parametrize("states", (False, True))
@rows_named("HyperLSTM", "HyperGRUCell, full")
def test_generated_weights(row, states):
    """At every step; a masked one repeats those of the step before."""
    layer, x = row.layer(), row.x(3)
    layer.build(x.shape)
    randomize(layer)
    cell = layer.cell
    first = (
        states_for(cell, 3) if states else [np.zeros((3, n), "float32") for n in cell.state_size]
    )
    generated = cell.generated_weights(x, first if states else None, MASK)
    weights = {name: ops.convert_to_tensor(weight) for name, weight in cell.tail_weights.items()}
    for row_of_mask, n in zip(MASK, range(3), strict=True):
        now = [ops.convert_to_tensor(state[n : n + 1]) for state in first]
        for t, counts in enumerate(row_of_mask):
            if counts:
                _, now = cell(x[n : n + 1, t], now)
            expected = cell.generate(now[cell.state_names.index("hyper_h")], weights)
            assert_close([part[n, t] for part in generated.values()], [e[:, 0] for e in expected])


@rows("cell", "sequence", quick=SEQUENCES)
def test_stateful(row):
    x = row.x(3)
    loop = loop_of(row, x.shape)
    layer = with_weights(row.layer(stateful=True), loop, x.shape)
    whole = loop(x)[0][:, -1]
    layer(x[:, :2])
    assert_close(layer(x[:, 2:]), whole)
    layer.reset_state()
    layer(x[:, :2])
    assert_close(layer(x[:, 2:]), whole)


@rows("cell", "sequence", quick=SEQUENCES)
def test_padding_in_a_stack(row):
    """The mask of an embedding reaches the second layer; padding on either side changes nothing."""
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(9, 3, mask_zero=True)(ids)
    model = keras.Model(ids, row.layer()(row.layer(return_sequences=True)(x)))
    randomize(model)
    plain = np.array([[3, 1, 4]])
    padded = np.array([[3, 1, 4, 0, 0], [0, 0, 3, 1, 4]])
    assert_close(model(padded), np.repeat(ops.convert_to_numpy(model(plain)), 2, 0))


@rows("sequence", "cell")
def test_masking_layer(row):
    x = row.x(1)
    x[:, 3:] = 0
    layer = row.layer()
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.Masking(), layer])
    randomize(model)
    assert_close(model(x), layer(x[:, :3]))


@rows("cell", "sequence")
def test_both_directions_from_their_config(row):
    both = keras.layers.Bidirectional(row.layer(), merge_mode="ave")
    again = keras.layers.Bidirectional.from_config(both.get_config())
    for one in (both, again):
        one.build((None, 5, 3))
    assert again.get_config() == both.get_config()
    assert again.backward_layer.go_backwards
    assert [w.shape for w in again.weights] == [w.shape for w in both.weights]


@rows("cell", "sequence", quick=("HyperLSTM", "LSTMCell"))
def test_both_directions(row):
    x = row.x()
    options = {"return_sequences": True, "return_state": True, "unroll": True}
    both = keras.layers.Bidirectional(row.layer(**options), merge_mode=None)
    both.build(x.shape)
    randomize(both)
    forward, *of_forward = both.forward_layer(x)
    backward, *of_backward = both.backward_layer(x)
    backward = ops.flip(backward, 1)
    states = [*of_forward, *of_backward]
    assert_close(both(x), [forward, backward, *states])
    merged = {
        "concat": ops.concatenate([forward, backward], -1),
        "sum": forward + backward,
        "mul": forward * backward,
        "ave": (forward + backward) / 2,
    }
    for mode, expected in merged.items():
        layer = keras.layers.Bidirectional(row.layer(**options), merge_mode=mode)
        assert_close(with_weights(layer, both, x.shape)(x), [expected, *states])
    # From the states of the first half, forwards
    first, second = x[:, :2], x[:, 2:]
    states = forward_states = both.forward_layer(first)[1:]
    found = both(second, initial_state=[*forward_states, *states])
    assert_close(found[0], forward[:, 2:])


@rows(quick=("HyperLSTM", "HyperConv2D", "CharacterEmbedding"))
def test_time_distributed(row):
    layer = row.layer()
    x = row.x(6).reshape(2, 3, *row.shape)
    outer = keras.layers.TimeDistributed(layer)
    outer.build(x.shape)
    randomize(layer)
    assert_close(outer(x), ops.stack([layer(x[:, t]) for t in range(3)], 1))


STACK = [row.name for row in ROWS if row.kind == "cell"]


@for_rows(*STACK)
def test_stacked_cells(tmp_path):
    """Cells in one loop are their layers one after the other, also from a file."""
    every = [row_of(name) for name in STACK]
    stack = keras.layers.RNN(keras.layers.StackedRNNCells([row.make() for row in every]))
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, stack(inputs))
    randomize(model)
    x = y = every[0].x()
    for cell in stack.cell.cells:
        loop = Loop(cell)
        loop.built = True
        y, *_ = loop(y)
    assert_close(model(x), y[:, -1])
    model.save(tmp_path / "model.keras")
    assert_close(keras.models.load_model(tmp_path / "model.keras")(x), y[:, -1])


@rows("cell", "sequence", quick=("HyperLSTM", "LSTMCell"))
def test_batches_and_lengths_that_change(row):
    """`predict` with a last batch that is smaller, then with another number of steps."""
    inputs = keras.Input((None, 3))
    layer = row.layer()
    model = keras.Model(inputs, layer(inputs))
    x = row.x(5)
    for data in (x, x[:3, :4]):
        assert_close(model.predict(data, batch_size=2, verbose=0), layer(data))
