"""What one row gains over another at several sizes, and how uncertain that is."""

import math
import statistics
from dataclasses import dataclass

from matplotlib.figure import Figure

from experiments.definitions import Sizes

STANDARD_ERRORS = 2  # beyond these lies one difference in twenty by chance


@dataclass(frozen=True)
class Gain:
    """What is gained at one size, in bits per character of the test text."""

    name: str
    parameters: int  # of the better row
    bits: tuple[float, float]  # means of the better and the other row
    by_seed: list[float]
    standard_error: float

    @property
    def mean(self) -> float:
        return self.bits[1] - self.bits[0]


def gains_of(sizes: Sizes, tables: dict[str, dict[str, list[dict]]]) -> list[Gain]:
    """Returns the gain at each size that has both rows.

    Args:
        sizes: what to compare.
        tables: for each experiment and row the results of its seeds.
    """
    rows = sizes.better, sizes.other
    found = {
        name: [{run["settings"]["seed"]: run for run in tables[name][row]} for row in rows]
        for name in sizes.experiments
        if all(row in tables.get(name, {}) for row in rows)
    }
    bits = {
        name: [[run["bits_per_character"]["test"] for run in runs.values()] for runs in pair]
        for name, pair in found.items()
    }
    # One deviation for all sizes and rows, since some have few seeds.
    several = [values for pair in bits.values() for values in pair if len(values) > 1]
    freedom = sum(len(values) - 1 for values in several)
    squares = sum(statistics.variance(values) * (len(values) - 1) for values in several)
    variance = squares / freedom if freedom else math.inf
    gains = []
    for name, (better, other) in found.items():
        gains.append(
            Gain(
                name,
                next(iter(better.values()))["parameters"],
                tuple(statistics.mean(values) for values in bits[name]),
                [
                    other[seed]["bits_per_character"]["test"]
                    - better[seed]["bits_per_character"]["test"]
                    for seed in sorted(better.keys() & other.keys())
                ],
                math.sqrt(variance * (1 / len(better) + 1 / len(other))),
            )
        )
    return gains


def gain_table(sizes: Sizes, gains: list[Gain], titles: dict[str, str]) -> list[list[str]]:
    """Returns the rows of the table, headings first."""
    head = ["", f"weights of the {sizes.better}", sizes.other, sizes.better, "gain, bits"]
    rows = [[*head, "of each seed", f"{STANDARD_ERRORS} standard errors"]]
    for gain in gains:
        better, other = gain.bits
        cells = [titles[gain.name], f"{gain.parameters:,}", f"{other:.3f}", f"{better:.3f}"]
        cells += [f"{gain.mean:+.3f}", ", ".join(f"{value:+.3f}" for value in gain.by_seed)]
        chance = STANDARD_ERRORS * gain.standard_error
        rows.append([*cells, f"{chance:.3f}" if math.isfinite(chance) else "unknown"])
    return rows


def draw_gains(sizes: Sizes, gains: list[Gain]) -> Figure:
    """Draws the gain against the number of weights, with the gain of each seed."""
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    weights, means = [gain.parameters for gain in gains], [gain.mean for gain in gains]
    errors = [STANDARD_ERRORS * gain.standard_error for gain in gains]
    if all(map(math.isfinite, errors)):
        label = f"mean, with {STANDARD_ERRORS} standard errors"
        axes.errorbar(weights, means, errors, marker="o", color="#0072B2", capsize=4, label=label)
    else:
        axes.plot(weights, means, marker="o", color="#0072B2", label="mean")
    points = [(gain.parameters, value) for gain in gains for value in gain.by_seed]
    axes.plot(*zip(*points, strict=True), ".", color="#D55E00", label="each seed")
    axes.axhline(0, color="black", lw=0.8)
    axes.set_xscale("log")
    axes.set_xlabel(f"weights of the {sizes.better}")
    axes.set_ylabel(f"bits per character gained over the {sizes.other}")
    axes.set_title(sizes.title)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
