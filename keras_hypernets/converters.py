"""Loads weights of Keras' LSTM and of the author's TensorFlow 1 code into cells."""

import os

import keras
import numpy as np

from keras_hypernets.dynamic.hyper_lstm_cell import HyperLSTMCell
from keras_hypernets.dynamic.layer_norm_lstm_cell import LayerNormLSTMCell
from keras_hypernets.validation import path

SUPERCELL_GATES = (0, 2, 1, 3)  # its i, j, f, o in our order i, f, c, o


def load_keras_lstm(cell: LayerNormLSTMCell, layer: keras.layers.Layer) -> None:
    """Copies the weights of a `keras.layers.LSTM` or `LSTMCell` into a plain `LayerNormLSTMCell`.

    Afterwards the cell has the same outputs. Keras keeps the forget bias in its bias, so the cell's
    `forget_bias` is subtracted from it.

    Args:
        cell: a built cell with `layer_norm=False`.
        layer: a built `keras.layers.LSTM` or `keras.layers.LSTMCell`.

    Raises:
        ValueError: if one of them is not built or has the wrong kind or shape, if their activations
            differ, or if the cell has no bias to hold the layer's.
    """
    _check_cell(cell, (LayerNormLSTMCell,))
    if cell.layer_norm:
        raise ValueError(
            "`cell` must have `layer_norm=False` to compute what Keras' LSTM does. "
            "Received: layer_norm=True"
        )
    source = getattr(layer, "cell", layer)
    if not isinstance(source, keras.layers.LSTMCell) or not source.built:
        raise ValueError(
            f"`layer` must be a built keras.layers.LSTM or LSTMCell. Received: layer={layer!r}"
        )
    for name in ("activation", "recurrent_activation"):
        if getattr(source, name) is not getattr(cell, name):
            raise ValueError(
                f"`cell` must have the `{name}` of the layer, {getattr(source, name)!r}. "
                f"Received: {getattr(cell, name)!r}"
            )
    values = {
        "kernel": _gates(source.kernel),  # (in, 4 * units) to (4, in, units)
        "recurrent_kernel": _gates(source.recurrent_kernel),
    }
    bias = np.zeros((4, source.units)) if source.bias is None else _gates(source.bias)
    bias[1] -= cell.forget_bias
    if cell.use_bias:
        values["bias"] = bias
    elif np.any(bias):
        raise ValueError(
            "`cell` must have `use_bias=True`, or a layer without bias and `forget_bias=0`. "
            f"Received: use_bias=False, forget_bias={cell.forget_bias}, "
            f"and a layer with use_bias={source.use_bias}"
        )
    _assign(cell, values, "the Keras layer")


def load_supercell_checkpoint(
    cell: HyperLSTMCell | LayerNormLSTMCell, checkpoint: str | os.PathLike, scope: str
) -> None:
    """Loads a TensorFlow 1 checkpoint of supercell, the author's code, into a cell.

    The gates i, j, f, o are reordered to i, f, c, o, and the rows [x; h] of the hyper cell's kernel
    are split. A checkpoint does not hold the forget bias: pass the cell the one from training as
    `forget_bias`, and leave `hyper_forget_bias` at 1.0, which supercell's hyper cell always has.
    The state of supercell is `[c, c^], [h, h^]`; here it is `[h, c, h^, c^]`.

    Args:
        cell: a built `HyperLSTMCell` with `weight_generation="scaling"`, or a `LayerNormLSTMCell`;
            with or without layer norm, as in training.
        checkpoint: path prefix of the checkpoint, such as `"model.ckpt"`.
        scope: the full prefix of the cell's variables, such as `"rnn/HyperLSTMCell"`.

    Raises:
        ValueError: if the cell is not built or has the wrong kind, or a variable is missing, has
            the wrong shape or is left over; the message names it.
        ImportError: if TensorFlow is not installed; Keras may run on another backend.
    """
    _check_cell(cell, (HyperLSTMCell, LayerNormLSTMCell))
    if not cell.use_bias:
        raise ValueError(
            "`cell` must have `use_bias=True`, as supercell has. Received: use_bias=False"
        )
    if getattr(cell, "weight_generation", "scaling") != "scaling":
        raise ValueError(
            '`cell` must have `weight_generation="scaling"`, as supercell has. '
            f"Received: weight_generation={cell.weight_generation!r}"
        )
    variables = _Checkpoint(checkpoint, scope)
    inputs = cell.kernel.shape[1]
    if isinstance(cell, LayerNormLSTMCell):
        values = _supercell_lstm(variables, cell, inputs, cell.units, "", "W_hh_i", "ln")
    else:
        values = _supercell_hyper_lstm(variables, cell, inputs)
    variables.check_all_read()
    _assign(cell, values, "the checkpoint")


def _supercell_lstm(variables, cell, inputs, units, prefix, recurrent, norm):
    def gates(name, *shape):
        return _gates(variables.read(prefix + name, *shape, 4 * units), SUPERCELL_GATES)

    values = {
        "kernel": gates("W_xh", inputs),
        "recurrent_kernel": gates(recurrent, units),
        "bias": gates("bias"),
    }
    if cell.layer_norm:
        for name in ("gamma", "beta"):
            values[f"gate_{name}"] = gates(f"{norm}/ln_{name}")
            values[f"cell_{name}"] = variables.read(f"{prefix}ln_c/ln_{name}", units)
    return values


def _supercell_hyper_lstm(variables, cell, inputs):
    units, hyper_units, z = cell.units, cell.hyper_units, cell.embedding_dim
    values = _supercell_lstm(variables, cell, inputs, units, "", "W_hh", "ln_all")
    small = _supercell_lstm(
        variables, cell, inputs + units, hyper_units, "LSTMCell/", "W_hh_i", "ln"
    )
    kernel = small.pop("kernel")  # of [x; h]
    values |= {f"hyper_{name}": value for name, value in small.items()}
    values["hyper_kernel"], values["hyper_state_kernel"] = kernel[:, :inputs], kernel[:, inputs:]

    def read(paths, name, *shape):
        """Reads a variable for each path and gate, in the order of the cell's columns."""
        names = [f"hyper_{gate}{path}/{name}" for path in paths for gate in "ifjo"]
        return [variables.read(name, *shape) for name in names]

    to_z = read("xh", "zw/super_linear_w", hyper_units, z)
    to_z += read("b", "zb/super_linear_w", hyper_units, z)
    values["embedding_kernel"] = np.concatenate(to_z, axis=1)
    values["embedding_bias"] = np.concatenate(read("xh", "zw/super_linear_b", z))
    from_z = read("xh", "alpha/super_linear_w", z, units)
    from_z += read("b", "beta/super_linear_w", z, units)
    values["scale_kernel"] = np.stack(from_z)
    return values


class _Checkpoint:
    """The variables of a TensorFlow checkpoint under a scope, by name."""

    # A trained checkpoint also holds the optimizer's slots, under the variables' names.
    NAMES = ("W_xh", "W_hh", "W_hh_i", "bias", "ln_gamma", "ln_beta")
    NAMES += ("super_linear_w", "super_linear_b")

    def __init__(self, checkpoint, scope):
        if not isinstance(scope, str):
            raise ValueError(f"`scope` must be a string. Received: scope={scope!r}")
        try:
            import tensorflow as tf
        except ImportError as error:
            raise ImportError(
                "`load_supercell_checkpoint` needs TensorFlow on every backend, to read its "
                "checkpoints: pip install tensorflow"
            ) from error
        self.path = path("checkpoint", checkpoint).removesuffix(".index")
        self.scope = scope.strip("/")
        try:
            self.reader = tf.train.load_checkpoint(self.path)
        except Exception as error:  # TensorFlow raises many kinds if it is not a checkpoint
            raise self._unreadable(error) from error
        self.shapes = self.reader.get_variable_to_shape_map()
        self.names_read = set()

    def _unreadable(self, error):
        return ValueError(
            "`checkpoint` must be the path prefix of a TensorFlow checkpoint. "
            f"Received: checkpoint={self.path!r} ({error})"
        )

    def read(self, name, *shape):
        name = f"{self.scope}/{name}"
        if name not in self.shapes:
            raise ValueError(
                f"The checkpoint has no variable {name!r}, which the cell needs. "
                f"Received: checkpoint={self.path!r}, scope={self.scope!r}"
            )
        if tuple(self.shapes[name]) != shape:
            raise ValueError(
                f"The variable {name!r} must have the shape {shape} for this cell. "
                f"Received: {tuple(self.shapes[name])} in checkpoint={self.path!r}"
            )
        self.names_read.add(name)
        try:
            return self.reader.get_tensor(name)
        except Exception as error:  # such as a truncated file
            raise self._unreadable(error) from error

    def check_all_read(self):
        ours = [
            name
            for name in self.shapes
            if name.startswith(f"{self.scope}/") and name.split("/")[-1] in self.NAMES
        ]
        unread = sorted({*ours} - self.names_read)
        if unread:
            raise ValueError(
                "The checkpoint must be of a cell like this one, with or without layer norm. "
                f"Received: checkpoint={self.path!r} with {unread[0]!r}"
            )


def _gates(values, order=range(4)):
    """Splits the last axis into four gates in the given order: `(4, ...)`."""
    parts = np.split(keras.ops.convert_to_numpy(values), 4, axis=-1)
    return np.stack([parts[gate] for gate in order])


def _check_cell(cell, kinds):
    if not isinstance(cell, kinds) or not cell.built:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"`cell` must be a built {names}. Received: cell={cell!r}")


def _assign(cell, values, source):
    weights = {weight.name: weight for weight in cell.weights}
    for name, weight in weights.items():
        if values[name].shape != tuple(weight.shape):
            raise ValueError(
                f"The weight `{name}` of {cell.name} has the shape {tuple(weight.shape)}, but "
                f"{source} holds {values[name].shape}."
            )
    for name, weight in weights.items():
        weight.assign(values[name])
