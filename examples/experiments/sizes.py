"""What one row gains over another at several sizes, and how uncertain that is."""

import math
import statistics
from dataclasses import dataclass

from matplotlib.figure import Figure

from experiments.definitions import Sizes

# Student's t: by how many standard errors two equal rows differ in one case of twenty, for 1 to 10
# degrees of freedom of the standard deviation.
STUDENT_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)


@dataclass(frozen=True)
class Gain:
    """What is gained at one size, in bits per character of the test text."""

    name: str
    parameters: tuple[int, int]  # of the better and the other row
    bits: tuple[float, float]  # their means
    by_seed: list[float]
    interval: float  # 95 % confidence, to both sides; infinite with one seed for all

    @property
    def mean(self) -> float:
        return self.bits[1] - self.bits[0]


def gains_of(sizes: Sizes, tables: dict[str, dict[str, list[dict]]]) -> list[Gain]:
    """Returns the gain at each size that has both rows.

    Args:
        sizes: what to compare.
        tables: for each of these experiments, and each of its rows, the results of its seeds.
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
    deviation = math.sqrt(squares / freedom) if freedom else math.inf
    beyond = STUDENT_T[min(freedom, len(STUDENT_T)) - 1] * deviation
    gains = []
    for name, (better, other) in found.items():
        gains.append(
            Gain(
                name,
                tuple(next(iter(runs.values()))["parameters"] for runs in (better, other)),
                tuple(statistics.mean(values) for values in bits[name]),
                [
                    other[seed]["bits_per_character"]["test"]
                    - better[seed]["bits_per_character"]["test"]
                    for seed in sorted(better.keys() & other.keys())
                ],
                beyond * math.sqrt(1 / len(better) + 1 / len(other)),
            )
        )
    return gains


def gain_table(sizes: Sizes, gains: list[Gain], titles: dict[str, str]) -> list[list[str]]:
    """Returns the rows of the table, headings first."""
    head = ["", f"weights of the {sizes.other}", f"of the {sizes.better}"]
    rows = [[*head, sizes.other, sizes.better, "gain, bits", "95 % interval", "of each seed"]]
    for gain in gains:
        better, other = gain.bits
        cells = [titles[gain.name], f"{gain.parameters[1]:,}", f"{gain.parameters[0]:,}"]
        cells += [f"{other:.3f}", f"{better:.3f}"]
        low, high = gain.mean - gain.interval, gain.mean + gain.interval
        interval = f"{low:+.3f} to {high:+.3f}" if math.isfinite(low) else "unknown"
        by_seed = ", ".join(f"{value:+.3f}" for value in gain.by_seed)
        rows.append([*cells, f"{gain.mean:+.3f}", interval, by_seed])
    return rows


def lead_table(
    sizes: Sizes,
    gains: list[Gain],
    tables: dict[str, dict[str, list[dict]]],
    titles: dict[str, str],
) -> list[list[str]]:
    """Returns the rows of a table of the leads on validation during training, headings first.

    Shown are the means over the seeds after the 1st, 2nd, 4th ... evaluation, and in how many of
    the steps the better row reaches the other one's best.
    """
    head, rows = [], []
    for gain in gains:
        table = tables[gain.name]
        better, other = (mean_history(table[row]) for row in (sizes.better, sizes.other))
        shown = [step for n, step in enumerate(better, 1) if n & (n - 1) == 0]
        head = ["", *(f"lead after {step:,} steps" for step in shown), "steps to the same bits"]
        leads = [f"{other[step] - better[step]:+.2f}" for step in shown]
        rows.append([titles[gain.name], *leads, share_of_steps(better, min(other.values()))])
    return [head, *rows]


def mean_history(runs: list[dict]) -> dict[int, float]:
    """Returns the mean validation bits of the runs after each number of steps."""
    histories = zip(*(run["history"] for run in runs), strict=True)
    return {
        entries[0]["step"]: statistics.mean(entry["val_bits_per_character"] for entry in entries)
        for entries in histories
    }


def share_of_steps(history: dict[int, float], bits: float) -> str:
    """Returns in what share of the steps the bits are reached, between evaluations by a line."""
    before = None
    for step, value in history.items():
        if value <= bits:
            if before:
                step -= (step - before[0]) * (bits - value) / (before[1] - value)
            return f"{step / max(history):.0%}".replace("%", " %")
        before = step, value
    return "never"


def draw_gains(sizes: Sizes, gains: list[Gain]) -> Figure:
    """Draws the gain against the number of weights, with the gain of each seed."""
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    weights, means = [gain.parameters[0] for gain in gains], [gain.mean for gain in gains]
    errors = [gain.interval for gain in gains]
    if all(map(math.isfinite, errors)):
        label = "mean, with its 95 % interval"
        axes.errorbar(weights, means, errors, marker="o", color="#0072B2", capsize=4, label=label)
    else:
        axes.plot(weights, means, marker="o", color="#0072B2", label="mean")
    of_seeds = [[w] * len(gain.by_seed) for w, gain in zip(weights, gains, strict=True)]
    values = [value for gain in gains for value in gain.by_seed]
    axes.plot(sum(of_seeds, []), values, ".", color="#D55E00", label="each seed")
    axes.axhline(0, color="black", lw=0.8)
    axes.set_xscale("log")
    axes.set_xlabel(f"weights of the {sizes.better}")
    axes.set_ylabel(f"bits per character gained over the {sizes.other}")
    axes.set_title(sizes.title)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
