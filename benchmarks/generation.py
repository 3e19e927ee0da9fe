"""How many characters a second a HyperLSTM language model writes.

    python benchmarks/generation.py               # sizes S and L, batch 1 and 64

`generate` has the whole loop in one compiled function; beside it are the same loop in a SavedModel,
which XLA does not compile, and the ways that one would write first: `model.predict` of the text so
far's last character with the states in hand, and a `tf.function` of one step called from Python.
"Products alone" is a loop, compiled by XLA as well, with the products of states and kernels and
little else: what the machine allows. Printed are medians over the rounds, in which the variants
take turns, after a first call that traces and compiles. Nothing else should run on the machine.
"""

import argparse
import statistics
import string
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

from common import training  # noqa: E402  before Keras, so that TensorFlow starts without its notes

# isort: split
import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from recurrent import CHARACTERS, SIZES  # noqa: E402

from common import outputs  # noqa: E402
from keras_hypernets import export, models  # noqa: E402
from keras_hypernets.dynamic.recurrence.step import (  # noqa: E402
    kernels_by_source,
    pre_activations,
    side_by_side,
)
from keras_hypernets.models import char_lm, sequences  # noqa: E402

VOCABULARY = string.printable[:CHARACTERS]


def writers(model, batch: int) -> dict[str, tuple[Callable[[int], object], int]]:
    """Functions that write so many characters in each row, and how many to time."""

    @tf.function
    def step(ids, states, position):
        logits, states = sequences.step(model, ids, states)
        return sequences.sample(logits, 1.0, 0, position), states

    def step_loop(length):
        ids, states = tf.zeros(batch, tf.int32), sequences.initial_states(model, batch)
        for position in tf.range(length):
            ids, states = step(ids, states, position)
        return ids.numpy()

    with_states = sequences.with_states(model)

    def predict_loop(length):
        ids, states = np.zeros((batch, 1), "int32"), sequences.initial_states(model, batch)
        for position in range(length):
            logits, *states = with_states.predict([ids, *states], batch, verbose=0)
            ids = sequences.sample(logits[:, 0], 1.0, 0, position).numpy()[:, None]

    prompts = [VOCABULARY[0]] * batch
    with tempfile.TemporaryDirectory() as folder:
        path = export.export_saved_model(model, Path(folder) / "model")
        served = tf.saved_model.load(path).signatures["generate"]
    drawing = {"temperature": 1.0, "seed": 0, "top_k": 0, "top_p": 1.0, "stop": ""}
    drawing = {name: tf.constant(value) for name, value in drawing.items()}

    def serve(length):
        given = {"prompt": tf.constant(prompts), "length": tf.constant(length), **drawing}
        return served(**given)["text"].numpy()

    return {
        "products alone": (products_loop(model, batch), 4096 if batch == 1 else 1024),
        "generate": (partial(char_lm.generate, model, prompts), 4096 if batch == 1 else 1024),
        "SavedModel": (serve, 1024 if batch == 1 else 256),
        "tf.function of a step": (step_loop, 256),
        "predict": (predict_loop, 8),
    }


def products_loop(model, batch: int) -> Callable[[int], object]:
    """A loop that multiplies states with kernels as `generate` has to, and writes no text."""
    cell = next(layer.cell for layer in model.layers if isinstance(layer, keras.layers.RNN))
    sources = {source: maps for source, maps in kernels_by_source(cell).items() if source != "x"}
    kernels = {source: side_by_side(maps) for source, maps in sources.items()}

    def step(n, state):
        products = {source: state[source] @ kernel for source, kernel in kernels.items()}
        sums = [tf.reduce_sum(p, 0) for p in pre_activations(products, sources).values()]
        new = {}
        for source, old in state.items():  # every number of the products goes into a state
            new[source] = tf.tanh(tf.add_n([s for s in sums if s.shape[1] == old.shape[1]]))
        return n + 1, new

    @tf.function(jit_compile=True)
    def run(length):
        state = {source: tf.ones((batch, kernels[source].shape[0])) for source in sources}
        return tf.while_loop(lambda n, _: n < length, step, (0, state))[1]

    return lambda length: run(tf.constant(length))["h"].numpy()


def measure(batch: int, ways: dict, rounds: int) -> dict[str, dict]:
    """Returns characters per second of each way, in all rows together."""
    for write, length in ways.values():
        write(length)
    rates = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (write, length) in ways.items():
            began = time.perf_counter()
            write(length)
            rates[name].append(batch * length / (time.perf_counter() - began))
    return {
        name: {
            "characters_per_second": round(statistics.median(values)),
            "least_and_most": [round(min(values)), round(max(values))],
        }
        for name, values in rates.items()
    }


def main() -> None:
    """Measures, prints and writes `results/generation.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 64])
    parser.add_argument("--rounds", type=int, default=7)
    path = Path(__file__).parent / "results" / "generation.json"
    parser.add_argument("--output", type=Path, default=path)
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    results = {"sizes": {}, "rounds": options.rounds, **training.environment()}
    for name in options.sizes:
        size = SIZES[name]
        model = models.char_language_model(
            VOCABULARY, size["units"], hyper_units=size["hyper"], embedding_dim=size["embedding"]
        )
        results["sizes"][name] = {}
        for batch in options.batches:
            table = measure(batch, writers(model, batch), options.rounds)
            results["sizes"][name][f"batch {batch}"] = table
            print(f"\n{name}, batch {batch}: characters per second (least to most)")
            for way, row in table.items():
                least, most = row["least_and_most"]
                print(f"{way:24} {row['characters_per_second']:9,} ({least:,} to {most:,})")
            outputs.save_json(options.output, results)


if __name__ == "__main__":
    main()
