"""How errors grow over 1,000 steps: those of half precision, and the same noise in float32.

    python benchmarks/half_precision.py

Every layer has fresh weights, another seed for each draw, and reads 16 random sequences.

- error: h in half precision against float32 over the last 100 of 1,000 steps, divided by the error
  of single steps that begin with the right states (standard deviations; single steps at 5 places).
  About 1 where a cell forgets its errors.
- growth: everything in float32, and noise of 1e-4 added to every state at every step; the change of
  h over the last 100 steps divided by that noise. What a cell does here to any small difference it
  does to rounding errors, whatever its implementation. Where the change is as large as h itself,
  the division says little: smaller noise ends up as large.

Both are of numbers and not of time: other work on the machine does no harm.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

from common import training  # noqa: E402  before Keras, so that TensorFlow starts without its notes

# isort: split
import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

import keras_hypernets as hypernets  # noqa: E402
from common import outputs  # noqa: E402

BATCH, STEPS, FEATURES = 16, 1000, 3
LAST = STEPS - 100
PLACES = range(LAST, STEPS, 20)
NOISE = 1e-4
OPTIONS = {"return_sequences": True, "return_state": True}


def hyper_lstm(units: int, **options) -> keras.Layer:
    """A HyperLSTM with the proportions of the examples."""
    return hypernets.HyperLSTM(units, units // 4, max(2, units // 16), **OPTIONS, **options)


def lstm(units: int, **options) -> keras.Layer:
    """An LSTM in the same engine."""
    return hypernets.LayerNormLSTM(units, **OPTIONS, **options)


class NoisyCell(keras.Layer):
    """A cell with noise of standard deviation `noise` in every state that it passes on."""

    def __init__(self, cell: keras.Layer, noise: float, seed: int):
        super().__init__()
        self.cell = cell
        self.noise = noise
        self.state_size, self.output_size = cell.state_size, cell.output_size
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs, states):
        """Makes one step."""
        output, states = self.cell(inputs, states)

        def noisy(state):
            draws = keras.random.normal(keras.ops.shape(state), seed=self.seed_generator)
            return state + self.noise * draws

        return output, [noisy(state) for state in states]


def measure(make: Callable, units: int, layer_norm: bool, seeds: int) -> dict[str, list[float]]:
    """Returns `error` and `growth` of a layer for each draw of its weights, in ascending order."""
    x = np.random.default_rng(0).standard_normal((BATCH, STEPS, FEATURES))
    x = x.astype("float16").astype("float32")
    wide = make(units, layer_norm=layer_norm)
    half = make(units, layer_norm=layer_norm, dtype="mixed_bfloat16")
    for layer in (wide, half):
        layer.build(x.shape)
    noisy = keras.layers.RNN(NoisyCell(wide.cell, NOISE, seed=0), return_sequences=True)
    run_wide, run_half, run_noisy = (
        tf.function(layer, reduce_retracing=True) for layer in (wide, half, noisy)
    )

    def h_of(run, x, states):
        h, *states = run(x, initial_state=states)
        return np.float64(tf.cast(h, "float32")), states

    zeros = wide.cell.get_initial_state(BATCH)
    errors, growths = [], []
    for seed in range(seeds):
        keras.utils.set_random_seed(seed)
        fresh = make(units, layer_norm=layer_norm)
        fresh.build(x.shape)
        for layer in (wide, half):
            layer.set_weights(fresh.get_weights())
        right, _ = h_of(run_wide, x, zeros)
        errors_of_one = []
        for place in PLACES:
            _, states = h_of(run_wide, x[:, :place], zeros)
            h, _ = h_of(run_half, x[:, place : place + 1], states)
            errors_of_one.append(h[:, 0] - right[:, place])
        h, _ = h_of(run_half, x, zeros)
        errors.append(np.std((h - right)[:, LAST:]) / np.std(errors_of_one))
        growths.append(np.std((np.float64(run_noisy(x)) - right)[:, LAST:]) / NOISE)
    return {"error": sorted(map(float, errors)), "growth": sorted(map(float, growths))}


def main() -> None:
    """Measures, prints and writes `results/half_precision.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=12, help="draws of the weights")
    parser.add_argument("--units", type=int, nargs="+", default=[8, 64])
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results" / "half_precision.json"
    )
    options = parser.parse_args()
    results = {}
    for name, make in (("LSTM", lstm), ("HyperLSTM", hyper_lstm)):
        for layer_norm in (False, True):
            for units in options.units:
                row = measure(make, units, layer_norm, options.seeds)
                title = f"{name}, {units} units, {'with' if layer_norm else 'no'} layer norm"
                results[title] = row
                shown = (
                    f"{part} {v[0]:.2g} to {v[-1]:.2g} (median {statistics.median(v):.2g})"
                    for part, v in row.items()
                )
                print(f"{title:36} {'   '.join(shown)}", flush=True)
    outputs.save_json(options.output, {"rows": results, **training.environment()})


if __name__ == "__main__":
    main()
