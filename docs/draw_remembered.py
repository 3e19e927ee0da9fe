"""Draws docs/remembered.png: three tasks, learned one after the other.

    python examples/continual.py toy --methods hyper fine-tune
    python docs/draw_remembered.py

The curves are those of both networks after the third task, the dots what they were trained on.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import numpy as np
from matplotlib.figure import Figure

import continual
from common.continual import tasks
from common.continual.settings import SETTINGS

SEED = 0
RUNS = Path("runs/continual/toy")
DONE = "after_3.weights.h5"
COLOURS = ("#0072B2", "#009E73", "#D55E00")  # of Okabe and Ito, safe for all eyes


def main() -> None:
    lessons, settings = tasks.toy(), SETTINGS["toy"]
    learners = {
        "One network, task after task": continual.make_plain(settings),
        "Weights written by a hypernetwork": continual.make_hyper(settings, "hyper", len(lessons)),
    }
    figure = Figure((9, 3.3), dpi=150, layout="constrained")
    fields = figure.subplots(1, 2, sharey=True)
    names = (f"fine-tune-{SEED}", f"hyper-{SEED}")
    for axes, name, (title, learner) in zip(fields, names, learners.items(), strict=True):
        learner.model.load_weights(RUNS / name / DONE)
        axes.axhline(0, color="0.85", linewidth=0.8, zorder=0)
        for number, (task, colour) in enumerate(zip(lessons, COLOURS, strict=True)):
            axes.plot(*task.x.T, *task.y.T, ".", color=colour, alpha=0.35, markeredgewidth=0)
            found = learner.model.predict(learner.inputs(task.test_x, number), verbose=0)
            axes.plot(task.test_x, found, color=colour, linewidth=2.5)
            error = np.mean(np.square(found - task.test_y))
            label = f"task {number + 1}\nerror {error:.2g}"
            axes.text(np.mean(task.test_x), 3.6, label, color=colour, ha="center", va="top")
        axes.set_title(title)
        axes.set_xlabel("input")
    fields[0].set_ylabel("output")
    fields[0].set_ylim(top=4)
    figure.savefig(Path(__file__).with_name("remembered.png"))


if __name__ == "__main__":
    main()
