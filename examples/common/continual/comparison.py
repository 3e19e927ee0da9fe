"""Compares how methods remember tasks: a table, figures, and other runs."""

import itertools
import statistics
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure  # not pyplot, which may look for a screen

LABELS = {
    "hyper": "hypernetwork, held to earlier tasks",
    "low-rank": "low-rank changes of one network, held",
    "scaling": "scales of one network, held",
    "unprotected": "hypernetwork, not held",
    "fine-tune": "one network, task after task",
    "joint": "one network, all tasks at once",
}


def print_table(results: dict[str, dict[str, dict]]) -> None:
    """Prints the mean over the seeds of the scores after the last task."""
    print(f"\n{'':22} {'weights':>9}  {'mean of all tasks':18} {'task inferred':14} each task")
    for method, runs in results.items():
        runs = list(runs.values())
        last = np.mean([run["scores"][-1] for run in runs], axis=0)
        accuracy = runs[0]["metric"] == "accuracy"
        shown = 100 * last if accuracy else last
        mean = f"{np.mean(shown):.2f} %" if accuracy else f"{np.mean(shown):.5f}"
        inferred = [statistics.mean(run["inferred"][-1]) for run in runs if run["inferred"]]
        inferred = f"{statistics.mean(inferred):.2f} %" if inferred else ""
        each = " ".join(f"{one:.2f}" if accuracy else f"{one:.5f}" for one in shown)
        print(f"{method:22} {runs[0]['parameters']:9,}  {mean:18} {inferred:14} {each}")


def draw(results: dict[str, dict[str, dict]], folder: Path) -> None:
    """Draws the scores of every task after every task, and those of the first one."""
    first, matrices = folder / "first_task.png", folder / "all_tasks.png"
    _draw_first(results).savefig(first)
    _draw_matrices(results).savefig(matrices)
    print(f"\nplots    {first}, {matrices}\nresults  {folder / 'results.json'}")


def check(results: dict[str, dict[str, dict]], kept: dict[str, dict[str, dict]]) -> None:
    """Compares the order of methods with that of other runs.

    Raises:
        ValueError: if a method is worse than another although all kept runs of it are better.
    """
    opposite, count = [], 0
    for one, other in itertools.permutations(set(results) & set(kept), 2):
        if min(_lasts(kept[one])) > max(_lasts(kept[other])):
            count += 1
            if statistics.mean(_lasts(results[one])) <= statistics.mean(_lasts(results[other])):
                opposite.append(f"{one} is not better than {other}")
    if opposite or not count:
        raise ValueError(
            "The order of the methods must be that of `--check`. "
            f"Received: {'; '.join(opposite) or 'no two methods to compare'}"
        )
    print(f"{count} of {count} differences between methods are as in the runs to check against")


def _lasts(runs):
    """Returns the final mean of all tasks for each seed, higher is better."""
    sign = -1 if _of_errors(runs) else 1
    return [sign * statistics.mean(run["scores"][-1]) for run in runs.values()]


def _of_errors(runs):
    return next(iter(runs.values()))["metric"] == "error"


def _means(runs):
    return np.mean([run["scores"] for run in runs.values()], axis=0)


def _draw_first(results):
    figure = Figure((6, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    for method, runs in results.items():
        scores = _means(runs)[:, 0]
        if len(scores) == 1:  # learned at once
            axes.axhline(scores[0], color="0.6", linestyle="--", label=LABELS[method])
        else:
            axes.plot(np.arange(1, len(scores) + 1), scores, "o-", label=LABELS[method])
    axes.set_xlabel("tasks learned")
    axes.set_ylabel(_label(results, "of task 1"))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylim(bottom=0)
    axes.legend(loc="center right")
    return figure


def _draw_matrices(results):
    shown = {method: _means(runs) for method, runs in results.items()}
    shown = {method: scores for method, scores in shown.items() if len(scores) > 1}
    figure = Figure((1.6 + 2.8 * max(len(shown), 1), 3.8), dpi=150, layout="constrained")
    fields = figure.subplots(1, max(len(shown), 1), squeeze=False)[0]
    # What is shown of each method, on one scale for all.
    known = {method: np.tril(scores) for method, scores in shown.items()}
    most = max((np.max(scores) for scores in known.values()), default=1)
    for axes, (method, scores) in zip(fields, known.items(), strict=False):
        values = np.where(np.tril(np.ones_like(scores, bool)), scores, np.nan)
        image = axes.imshow(values, vmin=0, vmax=max(1, most), cmap="viridis")
        axes.set_title(LABELS[method], fontsize="small")
        axes.set_xlabel("task")
        axes.set_xticks(range(len(scores)), range(1, len(scores) + 1))
        axes.set_yticks(range(len(scores)), range(1, len(scores) + 1))
    fields[0].set_ylabel("tasks learned")
    if known:
        figure.colorbar(image, ax=fields, label=_label(results, "of each task"), shrink=0.9)
    return figure


def _label(results, what):
    errors = _of_errors(next(iter(results.values())))
    return f"mean squared error {what}" if errors else f"test accuracy {what}"
