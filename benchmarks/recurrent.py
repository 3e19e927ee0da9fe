"""How long a training step of recurrent layers takes, all of them in one run.

    python benchmarks/recurrent.py                 # sizes S and L, a few minutes each
    python benchmarks/recurrent.py --sizes S --rounds 9

A step is forward, backward and Adam of embedding, recurrent layer, Dense(50) and softmax. Every
round takes a few steps of each variant, in another order each time; printed are medians over the
rounds, and ratios to the faster of keras.layers.LSTM's two modes in the same round with their
quartiles. Nothing else should run on the machine.
"""

import argparse
import json
import random
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

import training  # noqa: E402  before Keras, so that TensorFlow starts without its notes

# isort: split
import keras  # noqa: E402
import numpy as np  # noqa: E402
import outputs  # noqa: E402
from map_by_map_cell import map_by_map_hyper_lstm  # noqa: E402

import keras_hypernets as hypernets  # noqa: E402

CHARACTERS = 50
SIZES = {
    "S": {"batch": 64, "steps": 100, "inputs": 64, "units": 256, "hyper": 64, "embedding": 16},
    "L": {"batch": 128, "steps": 50, "inputs": 50, "units": 1000, "hyper": 128, "embedding": 4},
}
STEPS_PER_ROUND = 3


def variants(units: int, hyper: int, embedding: int) -> dict:
    """Makers of the layers to compare, by name."""
    options = {"return_sequences": True}
    return {
        "keras.layers.LSTM": lambda: keras.layers.LSTM(units, **options),
        "HyperLSTM": lambda: hypernets.HyperLSTM(units, hyper, embedding, **options),
        "RNN(HyperLSTMCell)": lambda: keras.layers.RNN(
            hypernets.HyperLSTMCell(units, hyper, embedding), **options
        ),
        "RNN(map by map)": lambda: map_by_map_hyper_lstm(units, hyper, embedding),
        "LayerNormLSTM": lambda: hypernets.LayerNormLSTM(units, **options),
        "LayerNormLSTM, no norm": lambda: hypernets.LayerNormLSTM(
            units, layer_norm=False, **options
        ),
    }


def make_model(layer: keras.Layer, inputs: int, jit: bool) -> keras.Model:
    """Makes the compiled model around a recurrent layer."""
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(CHARACTERS, inputs),
            layer,
            keras.layers.Dense(CHARACTERS),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, jit_compile=jit)
    return model


def measure(size: dict, rounds: int) -> dict[str, list[float]]:
    """Returns milliseconds per step of each variant and mode in each round."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, CHARACTERS, (2, size["batch"], size["steps"]))
    models = {
        f"{name}, jit {'on' if jit else 'off'}": make_model(make(), size["inputs"], jit)
        for name, make in variants(size["units"], size["hyper"], size["embedding"]).items()
        for jit in (False, True)
    }
    for name, model in models.items():
        print(f"compiling {name}", file=sys.stderr)
        model.train_on_batch(x, y)
        model.train_on_batch(x, y)
    times = {name: [] for name in models}
    for _ in range(rounds):
        for name in random.sample(list(models), len(models)):
            began = time.perf_counter()
            for _ in range(STEPS_PER_ROUND):
                models[name].train_on_batch(x, y)
            times[name].append((time.perf_counter() - began) / STEPS_PER_ROUND * 1000)
    return times


def summarize(times: dict[str, list[float]]) -> dict[str, dict]:
    """Returns median milliseconds and the ratio to keras.layers.LSTM's better mode, per round."""
    ours = [name for name in times if name.startswith("keras.layers.LSTM")]
    best = times[min(ours, key=lambda name: statistics.median(times[name]))]
    table = {}
    for name, values in times.items():
        ratios = [one / base for one, base in zip(values, best, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        table[name] = {
            "milliseconds": round(statistics.median(values), 1),
            "ratio": round(middle, 3),
            "quartiles": [round(low, 3), round(high, 3)],
        }
    return table


def main() -> None:
    """Measures, prints and writes `results/recurrent.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--rounds", type=int, default=15)
    path = Path(__file__).parent / "results" / "recurrent.json"
    parser.add_argument("--output", type=Path, default=path)
    options = parser.parse_args()
    results = {"sizes": {}, "rounds": options.rounds, **training.environment()}
    for name in options.sizes:
        keras.utils.clear_session()
        table = summarize(measure(SIZES[name], options.rounds))
        results["sizes"][name] = {**SIZES[name], "variants": table}
        print(f"\n{name}: {json.dumps(SIZES[name])}")
        for variant, row in table.items():
            low, high = row["quartiles"]
            print(
                f"{variant:34} {row['milliseconds']:8.1f} ms  {row['ratio']:.2f} x "
                f"({low:.2f} to {high:.2f})"
            )
    outputs.save_json(options.output, results)


if __name__ == "__main__":
    main()
