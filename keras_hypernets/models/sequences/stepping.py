"""Runs a chain of recurrent layers with explicit states, a window or a step at a time.

A chain is a functional or Sequential model with one input and one output whose layers follow one
another: recurrent layers of one cell that return sequences, and layers that treat all steps alike.
"""

import weakref
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_hypernets.dynamic.gated_cell import GatedCell
from keras_hypernets.dynamic.gated_rnn import GatedRNN
from keras_hypernets.dynamic.traced_once import compiled_if_eager
from keras_hypernets.validation import array, integer

STEPWISE = (
    keras.layers.Activation,
    keras.layers.Dense,
    keras.layers.Dropout,
    keras.layers.Embedding,
    keras.layers.LayerNormalization,
    keras.layers.TimeDistributed,
)
_IN_SERIES = weakref.WeakKeyDictionary()  # by model: its layers, and whether they are


def is_chain(model: keras.Model) -> bool:
    """Returns whether a model is a chain as described above."""
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        return False
    layers = layers_of(model)
    recurrent = [layer for layer in layers if isinstance(layer, keras.layers.RNN)]
    return (
        len(model.inputs) == len(model.outputs) == 1
        and bool(recurrent)
        and all(map(_reads_on, recurrent))
        and all(layer in recurrent or _is_stepwise(layer) for layer in layers)
        and _are_in_series(model)
    )


def of_one_step(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Returns the layer that does for one step, without a time axis, what a layer does for all."""
    return layer.layer if isinstance(layer, keras.layers.TimeDistributed) else layer


def layers_of(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns a model's layers without its input layers."""
    return [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]


def _reads_on(layer):
    return (
        isinstance(layer.cell, (GatedCell, keras.layers.LSTMCell))
        and layer.return_sequences
        and not layer.return_state
        and not layer.go_backwards
    )


def _is_stepwise(layer):
    return isinstance(layer, STEPWISE) or getattr(layer, "stepwise", False)


def _are_in_series(model):
    """Returns whether each layer is called once, with one tensor, and nothing else is called.

    In a model with one input and output they then follow one another. `model.layers` does not tell:
    it leaves out operations, such as `x + y`, masks, and that a layer is called again.
    """
    layers = [id(layer) for layer in model.layers]  # those of a Sequential may change
    if _IN_SERIES.get(model, ((), False))[0] != layers:
        _IN_SERIES[model] = layers, _check_calls(model)
    return _IN_SERIES[model][1]


def _check_calls(model):
    called, fits = [], []

    def record(layer, *args, **kwargs):
        tensors = keras.tree.flatten((args, kwargs))
        tensors = [one for one in tensors if isinstance(one, keras.KerasTensor)]
        called.append(id(layer))
        fits.append(isinstance(layer, keras.Layer) and len(tensors) == 1)
        return tensors[0]

    graph = keras.Model(model.inputs, model.outputs)  # functional, whatever class `model` has
    keras.models.clone_model(graph, clone_function=lambda one: one, call_function=record)
    return all(fits) and len(set(called)) == len(called)


def recurrent_layers(model: keras.Model) -> list[keras.layers.RNN]:
    """Returns the recurrent layers of a chain.

    Raises:
        ValueError: if the model is not a chain.
    """
    if not is_chain(model):
        raise ValueError(
            "`model` must be a chain of recurrent layers that return sequences and of layers that "
            "treat every step alike, such as a `char_language_model`. Each layer must be called "
            "once, on the output of the one before, and none may make masks, as `mask_zero=True` "
            "does. "
            f"Received: model={model!r}"
        )
    return [layer for layer in model.layers if isinstance(layer, keras.layers.RNN)]


def state_sizes(model: keras.Model) -> dict[str, int]:
    """Returns the names and sizes of all recurrent states, such as `{"state_0_h": 256, ...}`."""
    sizes = {}
    for n, layer in enumerate(recurrent_layers(model)):
        names = getattr(layer.cell, "state_names", ("h", "c"))
        for name, size in zip(names, layer.cell.state_size, strict=True):
            sizes[f"state_{n}_{name}"] = size
    return sizes


def initial_states(model: keras.Model, batch_size: int) -> list:
    """Returns the initial states, zeros, in the order of `state_sizes`."""
    if not ops.is_tensor(batch_size):
        rule = "an integer of at least 0"
        batch_size = integer("batch_size", batch_size, rule, lambda value: 0 <= value < 2**31)
    return [
        state
        for layer in recurrent_layers(model)
        for state in layer.cell.get_initial_state(batch_size=batch_size)
    ]


def run(model: keras.Model, inputs: Any, states: list, mask: Any = None) -> tuple[Any, list]:
    """Reads a window of steps from given states.

    Args:
        model: a chain of recurrent layers, stateful or not; its own states do not change.
        inputs: the model's input `(batch, time, ...)`, ids or vectors.
        states: list of states `(batch, size)` in the order of `state_sizes`.
        mask: `(batch, time)` booleans; a masked step keeps the states.

    Returns:
        The model's output `(batch, time, ...)` and the list of states after the window.

    Raises:
        ValueError: if `model` is not a chain, or inputs, states or mask have the wrong shape or
            dtype.
    """
    recurrent_layers(model)
    check_inputs(model, inputs)
    check_states(model, states)
    if mask is not None:
        array("mask", mask, "(batch, time)", "bool", [2])

    def read_all(layer, x, layer_states):
        static = (layer.dtype_policy.name,)
        return compiled_if_eager(_read, layer.cell, x, layer_states, mask, static=static)

    return chain(model, inputs, states, read_all)


def _read(cell, dtype, x, states, mask):
    # In a compiled `predict`, such as that of `with_states`, GatedRNN is several times faster.
    rnn = GatedRNN if isinstance(cell, GatedCell) else keras.layers.RNN
    reader = rnn(cell, return_sequences=True, return_state=True, dtype=dtype)
    output, *states = reader(x, initial_state=states, mask=mask)
    return output, states


def step(model: keras.Model, inputs: Any, states: list) -> tuple[Any, list]:
    """Runs a model for one step, with inputs `(batch, ...)`; otherwise like `run`."""
    recurrent_layers(model)
    check_inputs(model, inputs, time=False)
    check_states(model, states)
    return chain(model, inputs, states, lambda layer, x, s: layer.cell(x, s), time=False)


def with_states(model: keras.Model) -> keras.Model:
    """Returns a functional model that shares all weights and takes and returns the states.

    Its inputs are the model's input and the states; its outputs are the model's output and the new
    states. Both are lists in the order of `state_sizes`.
    """
    sizes = state_sizes(model)
    (given,) = model.inputs
    inputs = keras.Input((None, *given.shape[2:]), dtype=given.dtype, name=given.name)
    states = [keras.Input((size,), name=name) for name, size in sizes.items()]
    outputs, new_states = run(model, inputs, states)
    return keras.Model([inputs, *states], [outputs, *new_states], name=f"{model.name}_with_states")


def step_model(model: keras.Model) -> keras.Model:
    """Returns `step` as a functional model that shares all weights.

    It maps a dictionary with the model's input, without the time axis, and the states to a
    dictionary with the model's output and the new states. The keys are the names of the input, of
    the last layer and of `state_sizes`. It has no loop, so LiteRT can run it with its builtin
    operators alone.

    Args:
        model: a chain of recurrent layers, stateful or not; its own states do not change.

    Raises:
        ValueError: if `model` is not a chain.

    Example:

    >>> model = keras_hypernets.models.char_language_model("abc ", units=16, cell="lstm")
    >>> step = keras_hypernets.models.sequences.step_model(model)
    >>> {name: x.shape for name, x in step.output.items()}
    {'logits': (None, 4), 'state_0_h': (None, 16), 'state_0_c': (None, 16)}
    """
    states = {
        name: keras.Input(state.shape[1:], dtype=state.dtype, name=name)
        for name, state in zip(state_sizes(model), initial_states(model, 1), strict=True)
    }
    (given,) = model.inputs
    inputs = keras.Input(given.shape[2:], dtype=given.dtype, name=given.name)

    def read_one(layer, x, layer_states):
        # A functional model rejects two cells of the same name, but not layers around them.
        reader = keras.layers.RNN(
            layer.cell, return_state=True, unroll=True, dtype=layer.dtype_policy
        )
        output, *layer_states = reader(ops.expand_dims(x, 1), initial_state=layer_states)
        return output, layer_states

    output, new_states = chain(model, inputs, list(states.values()), read_one, time=False)
    name = layers_of(model)[-1].name
    outputs = {name: output, **dict(zip(states, new_states, strict=True))}
    return keras.Model({given.name: inputs, **states}, outputs, name=f"{model.name}_step")


def check_inputs(model: keras.Model, inputs: Any, time: bool = True) -> None:
    """Raises ValueError unless the inputs have the shape and kind of dtype that a model takes."""
    (given,) = model.inputs
    features = given.shape[2:]
    axes = ["batch", *["time"] * time, *["features"] * len(features)]
    layout = f"({', '.join(axes)}{',' * (len(axes) == 1)})"
    kind = "int" if "int" in given.dtype else "float"
    array("inputs", inputs, layout, kind, [len(axes)])
    found = tuple(inputs.shape)[1 + time :]
    if any(
        None not in sizes and sizes[0] != sizes[1] for sizes in zip(found, features, strict=True)
    ):
        raise ValueError(
            f"`inputs` must be {layout} with features {tuple(features)}. "
            f"Received: shape {tuple(inputs.shape)}"
        )


def check_states(model: keras.Model, states: list) -> None:
    """Raises ValueError unless the states have the sizes that a model takes."""
    sizes = state_sizes(model)
    listed = states if isinstance(states, (list, tuple)) else []
    shapes = [tuple(getattr(state, "shape", ())) for state in listed]
    if [shape[1:] for shape in shapes] != [(size,) for size in sizes.values()]:
        raise ValueError(
            f"`states` must be {len(sizes)} arrays (batch, size) with the sizes {sizes}. "
            f"Received: shapes {shapes or repr(states)}"
        )


def chain(
    model: keras.Model, x: Any, states: list, recur: Callable, time: bool = True
) -> tuple[Any, list]:
    """Applies the layers one after the other, the recurrent ones through `recur`.

    Args:
        model: a chain of recurrent layers.
        x: the inputs, `(batch, time, ...)`, or without `time` those of one step, `(batch, ...)`.
        states: list of states.
        recur: function of a recurrent layer, its inputs and states to its outputs and new states.
        time: whether tensors have a time axis.
    """
    states, new_states = list(states), []
    for layer in layers_of(model):
        if isinstance(layer, keras.layers.RNN):
            count = len(layer.cell.state_size)
            x, layer_states = recur(layer, x, states[:count])
            states = states[count:]
            new_states.extend(layer_states)
        else:
            x = layer(x) if time else of_one_step(layer)(x)
    return x, new_states
