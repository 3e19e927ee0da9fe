"""How long a training step of recurrent layers takes, all of them in one run.

    python benchmarks/recurrent.py                 # sizes S and L, a few minutes each
    python benchmarks/recurrent.py --sizes S --rounds 9
    python benchmarks/recurrent.py --peer labml    # also labml-nn's HyperLSTM, in PyTorch

A step is forward, backward and Adam of embedding, recurrent layer, Dense(50) and softmax. Every
round takes a few steps of each variant, in another order each time; printed are medians over the
rounds, and ratios in the same round with their quartiles: of all variants to the faster of
keras.layers.LSTM's two modes, and without XLA, as plain `model.compile` has it on a CPU, to
keras.layers.LSTM and to the cell written map by map. With KERAS_BACKEND=jax all variants run
compiled. Nothing else should run on the machine.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

from common import training  # noqa: E402  before Keras, so that TensorFlow starts without its notes

# isort: split
import keras  # noqa: E402
import numpy as np  # noqa: E402
from map_by_map_cell import map_by_map_hyper_lstm  # noqa: E402
from rounds import measure, print_table, summarize  # noqa: E402

import keras_hypernets as hypernets  # noqa: E402
from common import outputs  # noqa: E402

CHARACTERS = 50
SIZES = {
    "S": {"batch": 64, "steps": 100, "inputs": 64, "units": 256, "hyper": 64, "embedding": 16},
    "L": {"batch": 128, "steps": 50, "inputs": 50, "units": 1000, "hyper": 128, "embedding": 4},
}
JIT = {"jit off": False, "jit on": True}


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


def labml_step(size: dict, x: np.ndarray, y: np.ndarray) -> Callable[[], object]:
    """Makes a function of one training step of labml-nn's HyperLSTM in PyTorch."""
    import torch
    from labml_nn.hypernetworks.hyper_lstm import HyperLSTM

    embedding = torch.nn.Embedding(CHARACTERS, size["inputs"])
    layer = HyperLSTM(size["inputs"], size["units"], size["hyper"], size["embedding"], 1)
    output = torch.nn.Linear(size["units"], CHARACTERS)
    weights = [w for module in (embedding, layer, output) for w in module.parameters()]
    optimizer = torch.optim.Adam(weights)
    ids, targets = (torch.from_numpy(values.T.copy()) for values in (x, y))

    def step():
        optimizer.zero_grad()
        logits = output(layer(embedding(ids))[0])
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
        optimizer.step()

    return step


def training_steps(size: dict, peers: list[str]) -> dict[str, Callable[[], object]]:
    """Makes functions of one training step of each variant, by its name and mode."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, CHARACTERS, (2, size["batch"], size["steps"]))
    modes = JIT if keras.backend.backend() == "tensorflow" else {"jit on": True}
    steps = {}
    for name, make in variants(size["units"], size["hyper"], size["embedding"]).items():
        for mode, jit in modes.items():
            model = make_model(make(), size["inputs"], jit)
            steps[f"{name}, {mode}"] = partial(model.train_on_batch, x, y)
    if "labml" in peers:
        steps["labml HyperLSTM, PyTorch"] = labml_step(size, x, y)
    return steps


def compare(times: dict[str, list[float]]) -> dict[str, dict]:
    """Returns the tables of ratios, by what they are ratios to."""
    lstm = [name for name in times if name.startswith("keras.layers.LSTM")]
    best = min(lstm, key=lambda name: statistics.median(times[name]))
    tables = {f"to {best}": summarize(times, best)}
    off = {name: values for name, values in times.items() if name.endswith("jit off")}
    if off:
        for base in ("keras.layers.LSTM, jit off", "RNN(map by map), jit off"):
            tables[f"without XLA, to {base}"] = summarize(off, base)
    return tables


def main() -> None:
    """Measures, prints and writes `results/recurrent.json`, or `recurrent_jax.json` on JAX."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--peer", nargs="+", default=[], choices=["labml"])
    backend = keras.backend.backend()
    name = "recurrent.json" if backend == "tensorflow" else f"recurrent_{backend}.json"
    path = Path(__file__).parent / "results" / name
    parser.add_argument("--output", type=Path, default=path)
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    results = {"sizes": {}, "rounds": options.rounds, "backend": backend, **training.environment()}
    for name in options.sizes:
        keras.utils.clear_session()
        tables = compare(measure(training_steps(SIZES[name], options.peer), options.rounds))
        results["sizes"][name] = {**SIZES[name], "tables": tables}
        print(f"\n{name}: {json.dumps(SIZES[name])}")
        for title, table in tables.items():
            print(f"\n{title}")
            print_table(table)
        outputs.save_json(options.output, results)


if __name__ == "__main__":
    main()
