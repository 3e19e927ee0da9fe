"""What the benchmarks share: rounds in which variants take turns, and what they amount to."""

import math
import random
import statistics
import sys
import time
from collections.abc import Callable

WARM_UPS = 2
LEAST_SECONDS = 0.3


def measure(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Returns milliseconds per step of each variant in each round.

    Every round runs all variants, in another order each time, each of them once or as often as
    takes `LEAST_SECONDS`.

    Args:
        steps: functions of one step, by name of the variant.
        rounds: number of rounds.
    """
    counts = {}
    for name, step in steps.items():
        print(f"compiling {name}", file=sys.stderr)
        for _ in range(WARM_UPS):
            step()
        counts[name] = math.ceil(LEAST_SECONDS / _seconds_per_step(step, 1))
    times = {name: [] for name in steps}
    for _ in range(rounds):
        for name in random.sample(list(steps), len(steps)):
            times[name].append(_seconds_per_step(steps[name], counts[name]) * 1000)
    return times


def _seconds_per_step(step: Callable[[], object], count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - began) / count


def summarize(times: dict[str, list[float]], base: str) -> dict[str, dict]:
    """Returns median milliseconds, and the ratio to variant `base` in the same round."""
    table = {}
    for name, values in times.items():
        ratios = [one / other for one, other in zip(values, times[base], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        table[name] = {
            "milliseconds": round(statistics.median(values), 3),
            "ratio": round(middle, 3),
            "quartiles": [round(low, 3), round(high, 3)],
        }
    return table


def print_table(table: dict[str, dict]) -> None:
    """Prints what `summarize` returns, a line for each variant."""
    for name, row in table.items():
        low, high = row["quartiles"]
        print(
            f"{name:34} {row['milliseconds']:10.2f} ms  {row['ratio']:.2f} x "
            f"({low:.2f} to {high:.2f})"
        )
