"""What the monitor of generated weights finds in models of every kind, on every backend."""

import keras
import numpy as np
import pytest
from backends import QUICK
from keras import layers, ops
from random_weights import randomize

from keras_hypernets import HyperDense, HyperGRU, HyperLSTM, HyperLSTMCell
from keras_hypernets.callbacks import GeneratedWeightsMonitor

X = np.random.default_rng(0).normal(size=(3, 5, 6)).astype("float32")
SMALL = {"hyper_units": 3, "embedding_dim": 2}


def sequential(*stack, shape=(None, 6), **options):
    return keras.Sequential([keras.Input(shape, **options), *stack, layers.Dense(1)])


def spreads_of(folder, model, sample):
    """What the monitor finds after an epoch."""
    monitor = GeneratedWeightsMonitor(folder, sample, figures=False)
    monitor.set_model(model)
    monitor.on_train_begin()
    randomize(model)  # as training changes weights
    monitor.on_epoch_end(0)
    monitor.on_train_end()
    return monitor.spreads


def spreads_from(cell, sequences, states=None):
    """Those of sequences that are read one by one, without masks."""
    parts = {name: [] for name in ("d_x", "d_h", "b")}
    for n, x in enumerate(sequences):
        first = None if states is None else [state[n : n + 1] for state in states]
        generated = cell.generated_weights(ops.convert_to_tensor(x[None]), first)
        for name, values in generated.items():
            parts[name].append(ops.convert_to_numpy(values).ravel())
    return [float(np.sqrt(np.mean(np.square(np.concatenate(part))))) for part in parts.values()]


def assert_spreads(found, expected):
    """Compares with those of cells by the paths of their layers."""
    assert [*found] == [f"{path}/{name}" for path in expected for name in ("d_x", "d_h", "b")]
    np.testing.assert_allclose([*found.values()], sum(expected.values(), []), 1e-4)


def test_without_a_sample_no_recurrent_layer_is_watched(tmp_path):
    model = sequential(HyperLSTM(4, **SMALL, return_sequences=True), HyperLSTM(2, **SMALL))
    assert spreads_of(tmp_path, model, None) == {}
    model = sequential(HyperLSTM(4, **SMALL), HyperDense(2, name="dense"))
    assert [*spreads_of(tmp_path, model, None)] == ["dense"]


@pytest.mark.parametrize("padding", ("after", "before", "within"))
def test_masked_steps_do_not_count(padding, tmp_path):
    read = {
        "after": np.arange(5) < [[5], [2], [3]],
        "before": np.arange(5) >= [[0], [3], [2]],
        "within": np.arange(5) != [[1], [2], [3]],
    }[padding]
    layer = layers.Bidirectional(HyperLSTM(4, **SMALL, name="lstm"), name="both")
    model = sequential(layers.Masking(), layer)
    sample = X * read[..., None]
    sequences = [x[steps] for x, steps in zip(X, read, strict=True)]
    found = spreads_of(tmp_path, model, sample)
    backwards = [x[::-1] for x in sequences]
    expected = {
        "both/forward_lstm": spreads_from(layer.forward_layer.cell, sequences),
        "both/backward_lstm": spreads_from(layer.backward_layer.cell, backwards),
    }
    assert_spreads(found, expected)


def test_mask_of_an_embedding(tmp_path):
    embedding, layer = layers.Embedding(9, 6, mask_zero=True), HyperGRU(4, **SMALL, name="gru")
    model = sequential(embedding, layer, shape=(None,), dtype="int32")
    ids = np.array([[1, 2, 3, 4], [5, 6, 0, 0], [0, 0, 0, 0]])
    found = spreads_of(tmp_path, model, ids)
    sequences = [ops.convert_to_numpy(embedding(x[None]))[0] for x in (ids[0], ids[1, :2])]
    assert_spreads(found, {"gru": spreads_from(layer.cell, sequences)})
    assert spreads_of(tmp_path, model, 0 * ids) == {}


def test_initial_states(tmp_path):
    source, target = keras.Input((None, 6)), keras.Input((None, 6))
    encoder = HyperLSTM(4, **SMALL, return_state=True, name="encoder")
    decoder = HyperLSTM(4, **SMALL, name="decoder")
    _, *states = encoder(source)
    y = layers.Dense(1)(decoder(target, initial_state=states))
    model = keras.Model([source, target], y)
    found = spreads_of(tmp_path, model, [X, X[:, :2]])
    _, *states = encoder(X)
    expected = {
        "encoder": spreads_from(encoder.cell, X),
        "decoder": spreads_from(decoder.cell, X[:, :2], states),
    }
    assert_spreads(found, expected)
    without = spreads_from(decoder.cell, X[:, :2])
    assert not np.allclose(expected["decoder"], without, 1e-2)


def test_layers_wherever_they_are(tmp_path):
    class Twice(keras.Model):
        def __init__(self):
            super().__init__()
            self.layer = HyperLSTM(6, **SMALL, return_sequences=True, name="shared")

        def call(self, x):
            return self.layer(self.layer(x))

    twice = Twice()
    twice.name = "twice"
    rnn = layers.RNN(HyperLSTMCell(4, **SMALL), return_sequences=True, name="rnn")
    inner = keras.Sequential([keras.Input((None, 6)), rnn], name="inner")
    each = layers.TimeDistributed(HyperLSTM(2, **SMALL, name="lstm"), name="each")
    model = sequential(
        twice, inner, layers.Reshape((2, 2, 4)), each, layers.Flatten(), shape=(4, 6)
    )
    found = spreads_of(tmp_path, model, X[:, :4])
    shared, x = twice.layer, X[:, :4]
    once = ops.convert_to_numpy(shared(x))
    read = ops.convert_to_numpy(inner(twice(x))).reshape(6, 2, 4)
    expected = {
        "twice/shared": spreads_from(shared.cell, [*x, *once]),
        "inner/rnn": spreads_from(rnn.cell, ops.convert_to_numpy(twice(x))),
        "each/lstm": spreads_from(each.layer.cell, read),
    }
    assert_spreads(found, expected)


def test_a_model_that_is_no_graph(tmp_path):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.lstm, self.dense = HyperLSTM(4, **SMALL, name="lstm"), layers.Dense(1)

        def call(self, x):
            return self.dense(self.lstm(x))

    model = Own()
    model(X)
    found = spreads_of(tmp_path, model, X)
    assert_spreads(found, {"lstm": spreads_from(model.lstm.cell, X)})


def test_a_training_goes_on_as_without_it(tmp_path):
    """States, statistics, seeds and methods of the model stay."""
    norm = layers.BatchNormalization()
    layer = HyperLSTM(4, **SMALL, stateful=True, dropout=0.5, name="lstm")
    model = sequential(norm, layer, layers.GaussianNoise(1.0), batch_size=3)
    randomize(model)
    variables, attributes = [*model.variables, *layer.states], {*vars(layer)}

    class Before(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            for state in layer.states:
                state.assign(ops.ones(state.shape))
            self.values = [np.array(v) for v in variables]

    before, monitor = Before(), GeneratedWeightsMonitor(tmp_path, X, figures=False)
    model.compile("sgd", "mse", **QUICK)
    model.fit(X, np.zeros((3, 1)), 3, epochs=2, verbose=0, callbacks=[before, monitor])
    for value, variable in zip(before.values, variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value, variable.path)
    assert {*vars(layer)} == attributes
    from_zeros = spreads_from(layer.cell, ops.convert_to_numpy(norm(X, training=False)))
    assert_spreads(monitor.spreads, {"lstm": from_zeros})


def test_a_sample_that_cannot_be_read(tmp_path):
    layer = HyperLSTM(4, **SMALL)
    model = sequential(layer)
    with pytest.raises(ValueError, match="`sample` must be inputs of"):
        spreads_of(tmp_path, model, X[..., :3])
    assert "inner_loop" not in vars(layer)
    with pytest.raises(ValueError, match="unless the model is built"):
        spreads_of(tmp_path, keras.Sequential([HyperLSTM(4)]), X)
    with pytest.raises(ValueError, match="has recurrent layers with hyper cells"):
        spreads_of(tmp_path, sequential(layers.LSTM(4)), X)
