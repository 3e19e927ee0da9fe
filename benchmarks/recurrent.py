"""How long recurrent layers take: to train, to predict, and to start.

    python benchmarks/recurrent.py                 # sizes S and L, some minutes each
    python benchmarks/recurrent.py --sizes S --rounds 9 --starts 0 --jit off on
    python benchmarks/recurrent.py --runs 3        # the medians of three runs, and their range
    python benchmarks/recurrent.py --sweep         # some layers at 32 to 2,000 units
    python benchmarks/recurrent.py --bfloat16      # some layers, also in mixed_bfloat16
    python benchmarks/recurrent.py --peer labml    # also labml-nn's HyperLSTM, in PyTorch

The model is embedding, recurrent layer, Dense(50) and softmax. Training is `train_on_batch` (Adam),
inference is `predict_on_batch`. Every round takes a few steps of each variant, in another order
each time; printed are medians over the rounds, and ratios to `keras.layers.LSTM` in the same round
with their quartiles. A step can take longer in one process than in the next; `--runs` repeats all
rounds in processes of their own. "jit off" is plain `model.compile` on a CPU, "jit on" is
`jit_compile=True`, as Keras always has it on JAX.

Starts are seconds of the first training step of a model, in a process of its own that has done one
small product before. After two more steps follow the first one with a quarter fewer rows (the last
batch of an epoch), then with sequences longer by a quarter, then with a quarter more rows. The time
of the step itself is in them.

Ratios depend on the CPU: its flags and its speed in float32 products are printed and kept. Nothing
else should run on the machine.
"""

import argparse
import itertools
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

from common import training  # noqa: E402  before Keras, so that TensorFlow starts without its notes

# isort: split
import keras  # noqa: E402
import numpy as np  # noqa: E402
from map_by_map_cell import map_by_map_hyper_lstm  # noqa: E402
from rounds import apart, cpu, measure, merge, print_table, summarize  # noqa: E402

import keras_hypernets as hypernets  # noqa: E402
from common import outputs  # noqa: E402

CHARACTERS = 50
SIZES = {
    "S": {"batch": 64, "steps": 100, "inputs": 64, "units": 256, "hyper": 64, "embedding": 16},
    "L": {"batch": 128, "steps": 50, "inputs": 50, "units": 1000, "hyper": 128, "embedding": 4},
}
SWEEP = {
    str(units): {
        **{"batch": 64, "steps": 50, "inputs": 64, "units": units, "hyper": max(16, units // 8)},
        "embedding": 16 if units <= 512 else 4,
    }
    for units in (32, 64, 128, 256, 512, 1000, 2000)
}
LSTM = "keras.layers.LSTM"
BFLOAT16 = "mixed_bfloat16"
MAIN = (LSTM, "HyperLSTM", "LayerNormLSTM", "RNN(HyperLSTMCell)")
# The first is that of plain `model.compile` on a CPU.
MODES = ("off", "on") if keras.backend.backend() == "tensorflow" else ("on",)


def variants(units: int, hyper: int, embedding: int) -> dict[str, Callable[[], keras.Layer]]:
    """Makers of the layers to compare, by name."""
    options = {"return_sequences": True}
    return {
        LSTM: lambda: keras.layers.LSTM(units, **options),
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


def labml_steps(size: dict, x: np.ndarray, y: np.ndarray) -> list[Callable[[], object]]:
    """Makes functions of one step of labml-nn's HyperLSTM in PyTorch: training, inference."""
    import torch
    from labml_nn.hypernetworks.hyper_lstm import HyperLSTM

    embedding = torch.nn.Embedding(CHARACTERS, size["inputs"])
    layer = HyperLSTM(size["inputs"], size["units"], size["hyper"], size["embedding"], 1)
    output = torch.nn.Linear(size["units"], CHARACTERS)
    weights = [w for module in (embedding, layer, output) for w in module.parameters()]
    optimizer = torch.optim.Adam(weights)
    ids, targets = (torch.from_numpy(values.T.copy()) for values in (x, y))

    def predict():
        return output(layer(embedding(ids))[0])

    def train():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(predict().flatten(0, 1), targets.flatten()).backward()
        optimizer.step()

    return [train, torch.no_grad()(predict)]


def batch_of(rows: int, steps: int) -> np.ndarray:
    """Draws the characters of a batch and those that follow."""
    return np.random.default_rng(0).integers(0, CHARACTERS, (2, rows, steps))


def compare(
    size: dict,
    names: list[str],
    modes: list[str],
    policies: list[str],
    peers: list[str],
    rounds: int,
) -> dict:
    """Returns the tables of training and of inference."""
    x, y = batch_of(size["batch"], size["steps"])
    tasks = {"training": {}, "inference": {}}
    makers = variants(size["units"], size["hyper"], size["embedding"])
    for policy, name, mode in itertools.product(policies, names, modes):
        keras.config.set_dtype_policy(policy)
        model = make_model(makers[name](), size["inputs"], mode == "on")
        row = f"{name}, jit {mode}" + ", bfloat16" * (policy == BFLOAT16)
        tasks["training"][row] = lambda model=model: model.train_on_batch(x, y)
        tasks["inference"][row] = lambda model=model: model.predict_on_batch(x)
    if "labml" in peers:
        row = "labml HyperLSTM, PyTorch"
        tasks["training"][row], tasks["inference"][row] = labml_steps(size, x, y)
    keras.config.set_dtype_policy("float32")
    base = f"{LSTM}, jit {modes[0]}"
    return {task: summarize(measure(steps, rounds), base) for task, steps in tasks.items()}


def start(size: dict, name: str) -> dict[str, float]:
    """Starts a model in this process; returns the seconds of its steps that come first."""
    rows, steps = size["batch"], size["steps"]
    keras.ops.convert_to_numpy(keras.ops.ones((2, 2)) @ keras.ops.ones((2, 2)))
    layer = variants(size["units"], size["hyper"], size["embedding"])[name]()
    model = make_model(layer, size["inputs"], MODES[0] == "on")
    seconds = {}
    for what, batch, more in (
        ("first step", batch_of(rows, steps), 2),
        ("smaller batch", batch_of(rows - rows // 4, steps), 0),
        ("longer", batch_of(rows, steps + steps // 4), 0),
        ("larger batch", batch_of(rows + rows // 4, steps), 0),
    ):
        began = time.perf_counter()
        model.train_on_batch(*batch)
        seconds[what] = time.perf_counter() - began
        for _ in range(more):
            model.train_on_batch(*batch)
    return seconds


def compare_starts(size: str, names: list[str], rounds: int) -> dict[str, dict[str, float]]:
    """Returns the medians of what `start` returns in processes of their own."""
    found = {name: [] for name in names}
    for _ in range(rounds):
        for name in random.sample(names, len(names)):
            found[name].append(apart(__file__, "--start", name, "--sizes", size))
    return {
        name: {what: round(statistics.median(run[what] for run in runs), 2) for what in runs[0]}
        for name, runs in found.items()
    }


def main() -> None:
    """Measures, prints and writes `results/recurrent.json`, or `recurrent_sweep_jax.json` etc."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", help="default: all")
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--bfloat16", action="store_true", help="also in mixed_bfloat16")
    parser.add_argument("--jit", nargs="+", default=MODES[:1], choices=MODES)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--runs", type=int, default=1, help="how often to repeat all rounds")
    parser.add_argument("--starts", type=int, default=3, help="rounds of starts; not in a sweep")
    parser.add_argument("--peer", nargs="+", default=[], choices=["labml"])
    parser.add_argument("--output", type=Path)
    # What this script tells the processes that it starts.
    parser.add_argument("--start", help=argparse.SUPPRESS)  # a variant, in this process
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = SWEEP if options.sweep else SIZES
    if not set(options.sizes or ()) <= set(sizes):
        parser.error(f"--sizes: must be among {', '.join(sizes)}")
    if options.start:
        print(json.dumps(start(sizes[options.sizes[0]], options.start)))
        return
    names = list(MAIN if options.sweep or options.bfloat16 else variants(1, 1, 1))
    policies = ["float32", *[BFLOAT16] * options.bfloat16]
    what = names, options.jit, policies, options.peer, options.rounds
    if options.once:
        print(json.dumps(compare(sizes[options.sizes[-1]], *what)))
        return

    backend = keras.backend.backend()
    path = options.output
    if path is None:
        parts = ["recurrent", *["sweep"] * options.sweep, *["bfloat16"] * options.bfloat16]
        parts += [backend] * (backend != "tensorflow")
        path = Path(__file__).parent / "results" / f"{'_'.join(parts)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    environment = {**training.environment(), "cpu": cpu()}
    results = {"sizes": {}, "rounds": options.rounds, "backend": backend, **environment}
    print(f"CPU: {environment['machine']['cpu']}, {json.dumps(environment['cpu'])}")
    for name in options.sizes or sizes:
        size = sizes[name]
        print(f"\n{name}: {json.dumps(size)}", flush=True)
        keras.utils.clear_session()
        if options.runs > 1:
            command = [__file__, *sys.argv[1:], "--once", "--sizes", name]
            runs = [apart(*command) for _ in range(options.runs)]
            tables = {task: merge([run[task] for run in runs]) for task in runs[0]}
        else:
            tables = compare(size, *what)
        for task, table in tables.items():
            print(f"\n{task}, to {LSTM}")
            print_table(table)
        if options.starts and not options.sweep:
            tables["starts"] = compare_starts(name, list(MAIN), options.starts)
            print("\nstarts, seconds")
            for layer, row in tables["starts"].items():
                print(
                    f"{layer:34}",
                    *(f" {what} {value:.1f}" for what, value in row.items()),
                    flush=True,
                )
        results["sizes"][name] = {**size, **tables}
        outputs.save_json(path, results)


if __name__ == "__main__":
    main()
