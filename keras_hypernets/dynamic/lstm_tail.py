"""LSTMTail: the step of an LSTM after its linear maps."""

from keras import ops

from keras_hypernets.validation import number


class LSTMTail:
    """Mixin for `GatedCell`s: the step of an LSTM after its linear maps.

    Args:
        forget_bias: number added to the forget gate's pre-activation, after layer normalization.
    """

    def __init__(self, *args, forget_bias=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.forget_bias = number("forget_bias", forget_bias)

    def add_layer_norms(self, units, prefix=""):
        self.add_layer_norm(f"{prefix}gate", (4, units))
        self.add_layer_norm(f"{prefix}cell", (units,))

    def lstm(self, gates, c, weights, forget_bias, mask=None, prefix=""):
        """Returns the new h and c (eq. 9 and 10).

        Args:
            gates: `(4, batch, units)`, sums of the linear maps with their bias; order i, f, c, o.
            c: `(batch, units)`, from the previous step, in the same or a higher precision.
            weights: the tail's weights by name.
            forget_bias: added to f.
            mask: dropout mask of the candidate, or None.
            prefix: prefix of the names in `weights`, `"hyper_"` for the hyper cell.
        """
        i, f, candidate, o = ops.unstack(self.normalize(gates, weights, f"{prefix}gate"), 4)
        candidate = self.activation(candidate)
        candidate = candidate if mask is None else candidate * mask
        kept = ops.cast(self.recurrent_activation(f + forget_bias), c.dtype) * c
        c = kept + ops.cast(self.recurrent_activation(i) * candidate, c.dtype)
        normalized = ops.cast(self.normalize(c, weights, f"{prefix}cell"), gates.dtype)
        return self.recurrent_activation(o) * self.activation(normalized), c

    def get_config(self):
        return {**super().get_config(), "forget_bias": self.forget_bias}
