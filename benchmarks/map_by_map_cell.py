"""A HyperLSTM cell as one would write it first: every linear map by itself, in plain keras.ops.

It is the slow baseline of `recurrent.py` and serves nothing else. The equations are those of
`HyperLSTMCell` (A.2.2 of https://arxiv.org/abs/1609.09106) with layer normalization.
"""

import keras
from keras import layers, ops

GATES = ("i", "f", "g", "o")
PATHS = ("x", "h", "b")


class MapByMapHyperLSTMCell(layers.Layer):
    """HyperLSTM cell with 24 small maps at each step for the embeddings and what they become."""

    def __init__(self, units, hyper_units, embedding_dim, **kwargs):
        super().__init__(**kwargs)
        self.units, self.hyper_units = units, hyper_units
        self.state_size = [units, units, hyper_units, hyper_units]
        self.output_size = units

        def dense(size, use_bias=False):
            return {gate: layers.Dense(size, use_bias=use_bias) for gate in GATES}

        def norms():
            return {gate: layers.LayerNormalization() for gate in (*GATES, "c")}

        self.of_x, self.of_h = dense(units), dense(units)
        self.hyper = {source: dense(hyper_units, source == "x") for source in ("x", "h", "hyper_h")}
        self.embed = {path: dense(embedding_dim, path != "b") for path in PATHS}
        self.scale = {path: dense(units, path == "b") for path in PATHS}
        self.norm, self.hyper_norm = norms(), norms()

    def build(self, input_shape):
        features = input_shape[-1]
        for gate in GATES:
            self.of_x[gate].build((None, features))
            self.of_h[gate].build((None, self.units))
            self.hyper["x"][gate].build((None, features))
            self.hyper["h"][gate].build((None, self.units))
            self.hyper["hyper_h"][gate].build((None, self.hyper_units))
            for path in PATHS:
                self.embed[path][gate].build((None, self.hyper_units))
                self.scale[path][gate].build((None, self.embed[path][gate].units))
        for gate in (*GATES, "c"):
            self.norm[gate].build((None, self.units))
            self.hyper_norm[gate].build((None, self.hyper_units))

    @staticmethod
    def _lstm(sums, c, norm):
        i, f, g, o = (norm[gate](sums[gate]) for gate in GATES)
        c = ops.sigmoid(f + 1.0) * c + ops.sigmoid(i) * ops.tanh(g)
        return ops.sigmoid(o) * ops.tanh(norm["c"](c)), c

    def call(self, x, states):
        h, c, hyper_h, hyper_c = states
        sources = {"x": x, "h": h, "hyper_h": hyper_h}
        sums = {
            gate: sum(maps[gate](sources[name]) for name, maps in self.hyper.items())
            for gate in GATES
        }
        hyper_h, hyper_c = self._lstm(sums, hyper_c, self.hyper_norm)

        def generated(path, gate):
            return self.scale[path][gate](self.embed[path][gate](hyper_h))

        sums = {
            gate: generated("x", gate) * self.of_x[gate](x)
            + generated("h", gate) * self.of_h[gate](h)
            + generated("b", gate)
            for gate in GATES
        }
        h, c = self._lstm(sums, c, self.norm)
        return h, [h, c, hyper_h, hyper_c]

    def get_initial_state(self, batch_size=None):
        return [ops.zeros((batch_size, size), self.compute_dtype) for size in self.state_size]


def map_by_map_hyper_lstm(units, hyper_units, embedding_dim):
    """The layer around the cell, returning sequences."""
    cell = MapByMapHyperLSTMCell(units, hyper_units, embedding_dim)
    return keras.layers.RNN(cell, return_sequences=True)
