"""What the benchmarks share: rounds in which variants take turns, and what they amount to."""

import contextlib
import json
import math
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

WARM_UPS = 2
LEAST_SECONDS = 0.3
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16")


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


def apart(script: str, *options: object, environment: dict[str, str] | None = None) -> dict:
    """Runs a script in a process of its own; returns the JSON that it prints.

    `environment` adds to this process' variables.
    """
    command = [sys.executable, script, *map(str, options)]
    print(f"apart: {' '.join(command[2:])}", file=sys.stderr)
    variables = os.environ | (environment or {})
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=variables)
    return json.loads(done.stdout)


def cpu() -> dict[str, object]:
    """Returns what ratios depend on: the CPU's vector units, and how fast it multiplies matrices.

    `sgemm_gflops` is that of NumPy on all cores. Flags are known on Linux only.
    """
    flags = []
    with contextlib.suppress(OSError):
        words = set(Path("/proc/cpuinfo").read_text().split())
        flags = [flag for flag in FLAGS if flag in words]
    size = 2048
    matrix = np.random.default_rng(0).random((size, size), np.float32)
    seconds = min(_seconds_per_step(lambda: matrix @ matrix, 1) for _ in range(10))
    return {"flags": flags, "sgemm_gflops": round(2 * size**3 / seconds / 1e9)}


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


def merge(tables: list[dict[str, dict]]) -> dict[str, dict]:
    """Returns the medians of several runs, and the range of their ratios.

    Args:
        tables: for each run what `summarize` returns.
    """
    merged = {}
    for name in tables[0]:
        ratios = [table[name]["ratio"] for table in tables]
        merged[name] = {
            "milliseconds": statistics.median(table[name]["milliseconds"] for table in tables),
            "ratio": statistics.median(ratios),
            "range": [min(ratios), max(ratios)],
        }
    return merged


def print_table(table: dict[str, dict]) -> None:
    """Prints what `summarize` or `merge` returns, a line for each variant."""
    for name, row in table.items():
        low, high = row.get("range") or row["quartiles"]
        print(
            f"{name:34} {row['milliseconds']:10.2f} ms  {row['ratio']:.2f} x "
            f"({low:.2f} to {high:.2f})"
        )
