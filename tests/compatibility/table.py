"""The table of docs/compatibility.md, read off the tests' own parameters.

PYTHONPATH=tests:tests/compatibility python tests/compatibility/table.py
"""

import test_compilation as compilation
import test_loaded_elsewhere as elsewhere
import test_precision as precision
import test_recurrent_life as life
import test_round_trips as trips
from rows import ROWS

from keras_hypernets import dynamic

LAYERS = (*(layer.__name__ for layer in dynamic.LAYERS.values()), "GatedRNN")
COLUMNS = {
    **{name: [name] for name in LAYERS},
    "cells in `RNN`": [row.name for row in ROWS if row.kind == "cell"],
    "HyperConv2D": ["HyperConv2D", "HyperConv2D, grouped", "HyperConv2D, tiles"],
    "HyperDense": ["HyperDense", "two HyperDense of one generator"],
    "HyperNetwork": [row.name for row in ROWS if row.name.startswith("HyperNetwork")],
    "KernelGenerator": ["KernelGenerator"],
    "keras LSTM": ["keras.layers.LSTM"],
}
TESTS = {
    "`.keras` and `.weights.h5` in a fresh process": trips.test_files_in_a_fresh_process,
    "JSON and pickled configs in a fresh process": trips.test_configs_in_a_fresh_process,
    "`from_config` of the layer": trips.test_config_of_the_layer,
    "`clone_model`, `from_config` of a model": trips.test_copies,
    "training goes on from a file": trips.test_training_goes_on_as_if_nothing_had_been,
    "masks, states, `go_backwards`, `unroll`, `zero_output_for_mask`": life.test_outputs_and_states,
    "gradients, also into states": life.test_gradients,
    "training with dropout of the inputs and recurrent dropout": life.test_training_with_dropout,
    "`stateful`, `reset_state`": life.test_stateful,
    "padded stacks, `mask_zero`": life.test_padding_in_a_stack,
    "`Masking`": life.test_masking_layer,
    "`Bidirectional`, all merge modes": life.test_both_directions,
    "`Bidirectional` from its config": life.test_both_directions_from_their_config,
    "`StackedRNNCells`": life.test_stacked_cells,
    "`TimeDistributed`": life.test_time_distributed,
    "batches and lengths that change": life.test_batches_and_lengths_that_change,
    "one step of one row": life.test_one_step_of_one_row,
    "`mixed_bfloat16`, `mixed_float16`": precision.test_mixed,
    "`float64`": precision.test_double,
    "`fit` in float16, scaled loss": precision.test_training_in_float16,
    "c in float32 under mixed precision": precision.test_small_steps_of_c_add_up,
    "1,000 steps in half precision": precision.test_errors_of_1000_steps_do_not_add_up,
    "masks, states, directions in half precision": precision.test_options_in_half_precision,
    "`stateful` in half precision": precision.test_stateful_in_half_precision,
    "layer norm's statistics in float32": precision.test_statistics_of_layer_norm_are_in_float32,
    "symbolic shapes": compilation.test_shapes_are_known_before_the_values,
    "every weight learns": compilation.test_every_weight_learns,
    "one trace for equal shapes": compilation.test_compiled_once_for_equal_shapes,
    "input signatures of any size": compilation.test_a_signature_of_any_size,
    "`fit` with `jit_compile` on, off, `run_eagerly`": compilation.test_fit_in_every_mode,
    "deterministic operations": compilation.test_deterministic,
    "TensorFlow's files on JAX and PyTorch": elsewhere.test_outputs_of_a_model_of_tensorflow,
}


def table() -> str:
    """Returns it in Markdown.

    It says `yes` where a test runs for all rows of a column, `slow` if only `make test-slow` runs
    some of them, `some` where it is there for some.
    """
    lines = [
        ("", *(f"`{name}`" if name.isalnum() else name for name in COLUMNS), "test"),
        ["---"] * (len(COLUMNS) + 2),
    ]
    for behaviour, test in TESTS.items():
        quick, slow = names_of_rows(test)
        cells = [yes_or_no(set(column), quick, slow) for column in COLUMNS.values()]
        lines.append((behaviour, *cells, f"`{test.__name__}`"))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def names_of_rows(test) -> tuple[set[str], set[str]]:
    """Returns the names of the rows for which a test is quick, and of those where it is slow."""
    names = set(getattr(test, "names_of_rows", ())), set()
    for mark in getattr(test, "pytestmark", ()):
        if mark.name == "parametrize" and mark.args[0].split(",")[0] in ("row", "names"):
            for one in mark.args[1]:
                value = getattr(one, "values", one if isinstance(one, tuple) else (one,))[0]
                slow = any(mark.name == "slow" for mark in getattr(one, "marks", ()))
                names[slow].update([value.name] if hasattr(value, "name") else value)
    if not any(names):
        raise ValueError(f"{test.__name__} says nothing of the rows for which it runs")
    return names


def yes_or_no(column: set[str], quick: set[str], slow: set[str]) -> str:
    if column <= quick - slow:
        return "yes"
    if column <= quick | slow:
        return "slow"
    return "some" if column & quick | column & slow else ""


if __name__ == "__main__":
    print(table())
