"""Weights of Keras' own LSTM and of the original TensorFlow 1 code into the cells here."""

import os

import keras
import numpy as np

from keras_hypernets.dynamic.hyper_lstm_cell import HyperLSTMCell
from keras_hypernets.dynamic.layer_norm_lstm_cell import LayerNormLSTMCell

SUPERCELL_GATES = (0, 2, 1, 3)  # its i, j, f, o in our order i, f, c, o


def load_keras_lstm(cell: LayerNormLSTMCell, layer: keras.layers.Layer) -> None:
    """Copies the weights of a `keras.layers.LSTM` or `LSTMCell` into a plain `LayerNormLSTMCell`.

    Afterwards the cell computes the same. Keras keeps the forget bias in its bias; the cell's own
    `forget_bias` is subtracted from it.

    Args:
        cell: a built cell with `layer_norm=False`.
        layer: a built `keras.layers.LSTM` or `keras.layers.LSTMCell`.

    Raises:
        ValueError: if one of them is not built, of another kind or another shape, or if the cell
            has no bias to hold the layer's.
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
    values = {
        "kernel": _gate_major(source.kernel),
        "recurrent_kernel": _gate_major(source.recurrent_kernel),
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
    """Fills a cell from a TensorFlow 1 checkpoint of supercell, the code of the paper's author.

    The gates i, j, f, o are put in the order i, f, c, o, and the rows [x; h] of the hyper cell's
    kernel are parted. The forget bias is not in a checkpoint: give the cell the one it was trained
    with. supercell's state is `[c, c^], [h, h^]`; ours is `[h, c, h^, c^]`.

    Args:
        cell: a built `HyperLSTMCell` with `weight_generation="scaling"`, or a `LayerNormLSTMCell`;
            with or without layer norm, as it was trained.
        checkpoint: path prefix of the checkpoint, such as `"model.ckpt"`.
        scope: the full prefix of the cell's variables, such as `"rnn/HyperLSTMCell"`.

    Raises:
        ValueError: if the cell is not built or of another kind, or a variable is missing or of
            another shape; the message names it.
    """
    _check_cell(cell, (HyperLSTMCell, LayerNormLSTMCell))
    if not cell.use_bias:
        raise ValueError(
            "`cell` must have `use_bias=True`, as supercell has. Received: use_bias=False"
        )
    variables = _Checkpoint(checkpoint, scope)
    if isinstance(cell, LayerNormLSTMCell):
        values = _supercell_lstm(variables, "", cell.layer_norm, "ln")
    else:
        if cell.weight_generation != "scaling":
            raise ValueError(
                '`cell` must have `weight_generation="scaling"`, as supercell has. '
                f"Received: weight_generation={cell.weight_generation!r}"
            )
        values = _supercell_hyper_lstm(variables, cell)
    _assign(cell, values, f"checkpoint {os.fspath(checkpoint)!r} below scope {scope!r}")


def _supercell_lstm(variables, prefix, layer_norm, norm, recurrent="W_hh_i"):
    values = {
        "kernel": _gate_major(variables[f"{prefix}W_xh"], SUPERCELL_GATES),
        "recurrent_kernel": _gate_major(variables[f"{prefix}{recurrent}"], SUPERCELL_GATES),
        "bias": _gates(variables[f"{prefix}bias"], SUPERCELL_GATES),
    }
    if layer_norm:
        for ours, theirs in (("gamma", "ln_gamma"), ("beta", "ln_beta")):
            values[f"gate_{ours}"] = _gates(variables[f"{prefix}{norm}/{theirs}"], SUPERCELL_GATES)
            values[f"cell_{ours}"] = variables[f"{prefix}ln_c/{theirs}"]
    return values


def _supercell_hyper_lstm(variables, cell):
    values = _supercell_lstm(variables, "", cell.layer_norm, "ln_all", "W_hh")
    small = _supercell_lstm(variables, "LSTMCell/", cell.layer_norm, "ln")
    inputs = cell.kernel.shape[1]
    kernel = small.pop("kernel")  # of [x; h]
    values.update({f"hyper_{name}": value for name, value in small.items()})
    values["hyper_kernel"], values["hyper_state_kernel"] = kernel[:, :inputs], kernel[:, inputs:]

    gates = "ifjo"
    x, h, b = ([f"hyper_{gate}{path}" for gate in gates] for path in "xhb")
    values["embedding_kernel"] = np.concatenate(
        [variables[f"{name}/zw/super_linear_w"] for name in x + h]
        + [variables[f"{name}/zb/super_linear_w"] for name in b],
        axis=1,
    )
    values["embedding_bias"] = np.concatenate(
        [variables[f"{name}/zw/super_linear_b"] for name in x + h]
    )
    values["scale_kernel"] = np.stack(
        [variables[f"{name}/alpha/super_linear_w"] for name in x + h]
        + [variables[f"{name}/beta/super_linear_w"] for name in b]
    )
    return values


class _Checkpoint:
    """Variables of a TensorFlow checkpoint below a scope, by their names in it."""

    def __init__(self, checkpoint, scope):
        import tensorflow as tf

        self.checkpoint, self.scope = os.fspath(checkpoint), scope.rstrip("/")
        try:
            self.reader = tf.train.load_checkpoint(self.checkpoint)
        except (tf.errors.OpError, ValueError) as error:
            raise ValueError(
                f"`checkpoint` must be the path prefix of a TensorFlow checkpoint. "
                f"Received: checkpoint={self.checkpoint!r} ({error})"
            ) from error

    def __getitem__(self, name):
        name = f"{self.scope}/{name}"
        if not self.reader.has_tensor(name):
            raise ValueError(
                f"The checkpoint has no variable {name!r}, which the cell needs. "
                f"Received: checkpoint={self.checkpoint!r}, scope={self.scope!r}"
            )
        return self.reader.get_tensor(name)


def _gates(values, order=range(4)):
    """Parts the last axis into four gates in the given order: `(4, ...)`."""
    parts = np.split(keras.ops.convert_to_numpy(values), 4, axis=-1)
    return np.stack([parts[gate] for gate in order])


_gate_major = _gates  # of a kernel (in, 4 * units): (4, in, units)


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
