"""How much memory a training step of recurrent layers needs, by the length of the sequences.

    python benchmarks/memory.py
    python benchmarks/memory.py --steps 100 400 --long --rounds 1     # nothing longer
    python benchmarks/memory.py --checkpoint-every 40

The model is that of `recurrent.py` in size S, without XLA as plain `model.compile` has it on a CPU.
Each measurement is a process of its own: three training steps, of which the first compiles, after
one small operation that starts TensorFlow. Memory is the highest resident one of the process
(VmHWM of Linux) less the resident one just before the model is made (VmRSS), in MB of a million
bytes: weights, optimizer, graph and compiled code are in it, TensorFlow itself is not. Time is that
of the last two training steps divided by the number of time steps. Every round measures all
variants, in another order each time; printed are medians over the rounds and ratios of medians. At
the lengths of `--long` only the layer with `checkpoint_every` runs. For CPUs; nothing else should
run on the machine.
"""

import argparse
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
from recurrent import CHARACTERS, SIZES, make_model, variants  # noqa: E402
from rounds import apart  # noqa: E402

import keras_hypernets as hypernets  # noqa: E402
from common import outputs  # noqa: E402

SIZE = {name: value for name, value in SIZES["S"].items() if name != "steps"}
BASE = "RNN(map by map)"
TRAINING_STEPS = 3


def makers(every: int) -> dict[str, Callable[[], keras.Layer]]:
    """Makers of the layers to compare, by name; the last keeps only some states."""
    sizes = [SIZE[name] for name in ("units", "hyper", "embedding")]
    options = {"checkpoint_every": every, "return_sequences": True}
    return {
        **{name: variants(*sizes)[name] for name in ("keras.layers.LSTM", BASE, "HyperLSTM")},
        f"HyperLSTM, checkpoint_every={every}": lambda: hypernets.HyperLSTM(*sizes, **options),
    }


def megabytes(field: str) -> float:
    """Returns a field of this process' status.

    Not `ru_maxrss`, which on Linux begins at the memory of the parent process.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    kibibytes = next(line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return int(kibibytes) * 1024 / 1e6


def measure(name: str, steps: int, every: int) -> dict[str, float]:
    """Trains a variant in this process; returns its memory and time."""
    x, y = np.random.default_rng(0).integers(0, CHARACTERS, (2, SIZE["batch"], steps))
    keras.ops.convert_to_numpy(keras.ops.ones((2, 2)) @ keras.ops.ones((2, 2)))
    before = megabytes("VmRSS")
    model = make_model(makers(every)[name](), SIZE["inputs"], jit=False)
    seconds = []
    for _ in range(TRAINING_STEPS):
        began = time.perf_counter()
        model.train_on_batch(x, y)
        seconds.append(time.perf_counter() - began)
    milliseconds = statistics.median(seconds[1:]) * 1000 / steps
    return {"megabytes": megabytes("VmHWM") - before, "milliseconds": milliseconds}


def measure_apart(name: str, steps: int, every: int) -> dict[str, float]:
    """Does what `measure` does, in a process of its own."""
    return apart(__file__, "--measure", name, "--steps", steps, "--checkpoint-every", every)


def compare(names: list[str], steps: int, every: int, rounds: int) -> dict[str, dict]:
    """Returns medians over the rounds by variant, with the ratio of memory to `BASE` if it ran."""
    found = {name: [] for name in names}
    for _ in range(rounds):
        for name in random.sample(names, len(names)):
            found[name].append(measure_apart(name, steps, every))
    table = {
        name: {key: round(statistics.median(v[key] for v in values), 3) for key in values[0]}
        for name, values in found.items()
    }
    if BASE in table:
        for row in table.values():
            row["ratio"] = round(row["megabytes"] / table[BASE]["megabytes"], 3)
    return table


def main() -> None:
    """Measures, prints and writes `results/memory.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", nargs="+", type=int, default=[100, 400, 1600])
    parser.add_argument("--long", nargs="*", type=int, default=[6400])
    parser.add_argument("--checkpoint-every", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    path = Path(__file__).parent / "results" / "memory.json"
    parser.add_argument("--output", type=Path, default=path)
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # a variant, in this process
    options = parser.parse_args()
    every = options.checkpoint_every
    if options.measure:
        print(json.dumps(measure(options.measure, *options.steps, every)))
        return
    options.output.parent.mkdir(parents=True, exist_ok=True)
    settings = {"size": SIZE, "checkpoint_every": every, "rounds": options.rounds}
    results = {"lengths": {}, **settings, **training.environment()}
    names = list(makers(every))
    for steps in sorted({*options.steps, *options.long}):
        some = names if steps in options.steps else names[-1:]
        table = results["lengths"][steps] = compare(some, steps, every, options.rounds)
        print(f"\n{steps} time steps: memory, to {BASE}; time of a time step")
        for name, row in table.items():
            ratio = f"{row['ratio']:.2f} x" if "ratio" in row else ""
            amounts = f"{row['megabytes']:8.0f} MB {ratio:>8} {row['milliseconds']:8.2f} ms"
            print(f"{name:34} {amounts}", flush=True)
        outputs.save_json(options.output, results)


if __name__ == "__main__":
    main()
