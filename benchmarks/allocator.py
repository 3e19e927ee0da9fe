"""What it costs to train on a CPU while glibc returns the memory of each step to the system.

    python benchmarks/allocator.py
    python benchmarks/allocator.py --sizes S L --data generator arrays --rounds 5

glibc returns what a thread has freed, and the system has to clear it again for the next step.
`MALLOC_TOP_PAD_=67108864` (64 MiB, the size of the heaps that threads get) makes glibc keep it.

The model is that of `recurrent.py`, trained with `model.fit` from a generator or from arrays,
without XLA, as plain `model.compile` has it on a CPU. Each measurement is a process of its own,
with the variable or without. Time is that of a step of the last epoch: TensorFlow compiles in the
first, and takes some 40 steps to learn which operations are quick enough to run in a row, so that
others can run beside them. Faults are the pages that the system had to provide in a step. Every
round measures both; printed are medians over the rounds, and ratios in the same round with their
quartiles. For Linux with glibc; nothing else should run on the machine.
"""

import argparse
import itertools
import json
import resource
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

from common import training  # noqa: E402  before Keras, so that TensorFlow starts without its notes

# isort: split
import keras  # noqa: E402
from recurrent import SIZES, batch_of, make_model, variants  # noqa: E402
from rounds import apart, cpu, print_table, summarize  # noqa: E402

from common import outputs  # noqa: E402
from common.command_line import HEAP_BYTES  # noqa: E402

LAYERS = ("keras.layers.LSTM", "LayerNormLSTM", "HyperLSTM")
DATA = ("generator", "arrays")
DEFAULT, KEPT = "default", f"MALLOC_TOP_PAD_={HEAP_BYTES}"
EPOCHS, STEPS = 7, 8


class LastEpoch(keras.callbacks.Callback):
    """Keeps the milliseconds and the page faults of a step, of the last epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.began, self.faults_before = time.perf_counter(), _faults()

    def on_epoch_end(self, epoch, logs=None):
        self.milliseconds = (time.perf_counter() - self.began) * 1000 / STEPS
        self.faults = (_faults() - self.faults_before) / STEPS


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def measure(name: str, size: str, data: str) -> dict[str, float]:
    """Trains a layer in this process; returns milliseconds and faults of a step."""
    size = SIZES[size]
    layer = variants(size["units"], size["hyper"], size["embedding"])[name]()
    model = make_model(layer, size["inputs"], jit=False)
    x, y = batch_of(size["batch"] * STEPS, size["steps"])
    batches = [part.reshape(STEPS, size["batch"], -1) for part in (x, y)]
    inputs = {"x": x, "y": y, "batch_size": size["batch"]}
    if data == "generator":
        pairs = itertools.cycle(zip(*batches, strict=True))
        inputs = {"x": (pair for pair in pairs), "steps_per_epoch": STEPS}
    timer = LastEpoch()
    model.fit(**inputs, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[timer])
    return {"milliseconds": timer.milliseconds, "faults": timer.faults}


def compare(name: str, size: str, data: str, rounds: int) -> dict[str, dict]:
    """Returns the table of both variants."""
    found = {DEFAULT: [], KEPT: []}
    for _ in range(rounds):
        for variant, values in found.items():
            setting = {"MALLOC_TOP_PAD_": str(HEAP_BYTES)} if variant == KEPT else {}
            command = "--measure", name, "--sizes", size, "--data", data
            values.append(apart(__file__, *command, environment=setting))
    times = {name: [value["milliseconds"] for value in values] for name, values in found.items()}
    table = summarize(times, DEFAULT)
    for variant, values in found.items():
        table[variant]["faults"] = round(statistics.median(value["faults"] for value in values))
    return table


def main() -> None:
    """Measures, prints and writes `results/allocator.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["S"])
    parser.add_argument("--data", nargs="+", choices=DATA, default=DATA[:1])
    parser.add_argument("--rounds", type=int, default=3)
    path = Path(__file__).parent / "results" / "allocator.json"
    parser.add_argument("--output", type=Path, default=path)
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # a layer, in this process
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, *options.sizes, *options.data)))
        return
    options.output.parent.mkdir(parents=True, exist_ok=True)
    results = {"rounds": options.rounds, "cpu": cpu(), "steps": {}, **training.environment()}
    for size, data, name in itertools.product(options.sizes, options.data, LAYERS):
        title = f"{name}, {size}, {data}"
        table = results["steps"][title] = compare(name, size, data, options.rounds)
        print(f"\n{title}: a training step")
        print_table(table)
        faults = [f"{row['faults']:,}" for row in table.values()]
        print(f"page faults in it: {' and '.join(faults)}", flush=True)
        outputs.save_json(options.output, results)


if __name__ == "__main__":
    main()
