"""Running a character language model with its states in hand: a window or a character at a time."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_hypernets.dynamic.gated_cell import GatedCell
from keras_hypernets.dynamic.recurrence.step import prepared_cell
from keras_hypernets.models.character_embedding import CharacterEmbedding
from keras_hypernets.validation import array, integer


def is_character_language_model(model: keras.Model) -> bool:
    """Whether a model is one that `char_language_model` makes, in training or loaded.

    That is a chain of a CharacterEmbedding, recurrent layers of single cells that return sequences,
    dropouts, and a Dense layer with a unit for each character. Layers of one input each, in a model
    of one input and one output, form nothing but a chain.
    """
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        return False
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    if len(layers) < 3 or len(model.inputs) != 1 or len(model.outputs) != 1:
        return False
    embedding, *inner, output = layers
    return (
        isinstance(embedding, CharacterEmbedding)
        and isinstance(output, keras.layers.Dense)
        and output.units == len(embedding.vocabulary)
        and all(isinstance(layer, keras.layers.Dropout) or _reads_on(layer) for layer in inner)
    )


def _reads_on(layer):
    return (
        isinstance(layer, keras.layers.RNN)
        and isinstance(layer.cell, (GatedCell, keras.layers.LSTMCell))
        and layer.return_sequences
        and not layer.return_state
        and not layer.go_backwards
    )


def embedding_of(model: keras.Model) -> CharacterEmbedding:
    """Returns the layer that holds the vocabulary of a model made by `char_language_model`.

    Raises:
        ValueError: if the model is another one.
    """
    if not is_character_language_model(model):
        raise ValueError(
            "`model` must be a character language model as `char_language_model` makes it. "
            f"Received: model={model!r}"
        )
    return next(layer for layer in model.layers if isinstance(layer, CharacterEmbedding))


def state_sizes(model: keras.Model) -> dict[str, int]:
    """Returns the names and sizes of all recurrent states, such as `{"state_0_h": 256, ...}`."""
    sizes = {}
    for n, layer in enumerate(recurrent_layers(model)):
        names = getattr(layer.cell, "state_names", ("h", "c"))
        for name, size in zip(names, layer.cell.state_size, strict=True):
            sizes[f"state_{n}_{name}"] = size
    return sizes


def initial_states(model: keras.Model, batch_size: int) -> list:
    """Returns the states before the first character, zeros, in the order of `state_sizes`."""
    if not ops.is_tensor(batch_size):
        rule = "an integer of at least 0"
        batch_size = integer("batch_size", batch_size, rule, lambda value: 0 <= value < 2**31)
    return [
        state
        for layer in recurrent_layers(model)
        for state in layer.cell.get_initial_state(batch_size=batch_size)
    ]


def run(model: keras.Model, ids: Any, states: list, mask: Any = None) -> tuple[Any, list]:
    """Reads a window of text from given states.

    Args:
        model: a model made by `char_language_model`, stateful or not; its own states stay.
        ids: `(batch, time)` integers.
        states: list of states `(batch, size)` in the order of `state_sizes`.
        mask: `(batch, time)` booleans; a masked step keeps the states.

    Returns:
        The logits `(batch, time, characters)` and the list of states after the window.

    Raises:
        ValueError: for a model of another kind, or ids, states or a mask of another shape or dtype.
    """
    array("ids", ids, "(batch, time)", "int", [2])
    check_states(model, states)
    if mask is not None:
        array("mask", mask, "(batch, time)", "bool", [2])

    def read_all(layer, x, layer_states):
        reader = keras.layers.RNN(
            layer.cell, return_sequences=True, return_state=True, dtype=layer.dtype_policy
        )
        output, *layer_states = reader(x, initial_state=layer_states, mask=mask)
        return output, layer_states

    return chain(model, ids, states, read_all)


def step(model: keras.Model, ids: Any, states: list) -> tuple[Any, list]:
    """Reads one character of each text, ids `(batch,)`; otherwise as `run`."""
    array("ids", ids, "(batch,)", "int", [1])
    check_states(model, states)
    return chain(model, ids, states, lambda layer, x, s: layer.cell(x, s))


def prepared_step(model: keras.Model) -> Callable[[Any, list], tuple[Any, list]]:
    """Returns `step` of a model, with all that does not depend on the text computed once.

    The kernels of a `GatedCell` lie side by side, as one for each source, and the products of the
    first cell's input kernel are a table with a row for each character. It knows the weights as
    they are now.
    """
    embedding = embedding_of(model)
    layers = recurrent_layers(model)
    prepared = {
        layer: prepared_cell(layer.cell)
        for layer in layers
        if isinstance(layer.cell, GatedCell) and type(layer.cell).call is GatedCell.call
    }
    if layers[0] in prepared:
        vectors = embedding(ops.arange(len(embedding.vocabulary)))
        table = prepared[layers[0]][0](ops.cast(vectors, layers[0].cell.compute_dtype))

    def step(ids, states):
        def recur(layer, x, layer_states):
            if layer not in prepared:
                return layer.cell(x, layer_states)
            of_inputs, cell_step = prepared[layer]
            first = layer is layers[0]
            of_x = ops.take(table, ids, axis=0) if first else of_inputs(x)
            return cell_step(of_x, layer_states)

        return chain(model, ids, states, recur)

    return step


def with_states(model: keras.Model) -> keras.Model:
    """Returns a functional model that shares all weights and takes and returns the states.

    Its inputs are `[ids, *states]`, its outputs `[logits, *states]`, states in the order of
    `state_sizes`.
    """
    ids = keras.Input((None,), dtype="int32", name="ids")
    states = [keras.Input((size,), name=name) for name, size in state_sizes(model).items()]
    logits, new_states = run(model, ids, states)
    return keras.Model([ids, *states], [logits, *new_states], name=f"{model.name}_with_states")


def step_model(model: keras.Model) -> keras.Model:
    """Returns `step` as a functional model that shares all weights.

    Its inputs are `{"ids": (batch,), **states}` and its outputs `{"logits": (batch, characters),
    **states}`, states under the names of `state_sizes`. It has no loop, in which LiteRT would need
    operators of TensorFlow's: `step_model(model).export("step.tflite", format="litert")`.

    Args:
        model: a model made by `char_language_model`, stateful or not; its own states stay.

    Raises:
        ValueError: for a model of another kind.

    Example:

    >>> model = keras_hypernets.models.char_language_model("abc ", units=16, cell="lstm")
    >>> {name: x.shape for name, x in keras_hypernets.models.step_model(model).output.items()}
    {'logits': (None, 4), 'state_0_h': (None, 16), 'state_0_c': (None, 16)}
    """
    ids = keras.Input((), dtype="int32", name="ids")
    states = {
        name: keras.Input(state.shape[1:], dtype=state.dtype, name=name)
        for name, state in zip(state_sizes(model), initial_states(model, 1), strict=True)
    }

    def read_one(layer, x, layer_states):
        # Cells of one name cannot be side by side in a functional model, layers around them can.
        reader = keras.layers.RNN(
            layer.cell, return_state=True, unroll=True, dtype=layer.dtype_policy
        )
        output, *layer_states = reader(ops.expand_dims(x, 1), initial_state=layer_states)
        return output, layer_states

    logits, new_states = chain(model, ids, list(states.values()), read_one)
    outputs = {"logits": logits, **dict(zip(states, new_states, strict=True))}
    return keras.Model({"ids": ids, **states}, outputs, name=f"{model.name}_step")


def recurrent_layers(model: keras.Model) -> list[keras.layers.RNN]:
    """Returns the recurrent layers of a character language model; raises for another one."""
    embedding_of(model)  # raises for a model of another kind
    return [layer for layer in model.layers if isinstance(layer, keras.layers.RNN)]


def check_states(model: keras.Model, states: list) -> None:
    """Raises ValueError unless the states are arrays of the sizes of a model's."""
    sizes = state_sizes(model)
    listed = states if isinstance(states, (list, tuple)) else []
    shapes = [tuple(getattr(state, "shape", ())) for state in listed]
    if [shape[1:] for shape in shapes] != [(size,) for size in sizes.values()]:
        raise ValueError(
            f"`states` must be {len(sizes)} arrays (batch, size) with the sizes {sizes}. "
            f"Received: shapes {shapes or repr(states)}"
        )


def chain(model: keras.Model, x: Any, states: list, recur: Callable) -> tuple[Any, list]:
    """Applies the layers one after the other, the recurrent ones through `recur`."""
    states, new_states = list(states), []
    layers = model.layers
    for layer in layers[layers.index(embedding_of(model)) :]:
        if isinstance(layer, keras.layers.RNN):
            count = len(layer.cell.state_size)
            x, layer_states = recur(layer, x, states[:count])
            states = states[count:]
            new_states.extend(layer_states)
        else:
            x = layer(x)
    return x, new_states
