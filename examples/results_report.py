"""Tables and figures of RESULTS.md: the work behind `results.py report` and `check`.

Results are kept in docs/results, a file for each experiment: for each row of its table the results
of its seeds. `report` adds those of a folder of trainings, and puts tables between the marks
`<!-- name -->` and `<!-- end -->` of RESULTS.md.
"""

import itertools
import json
import math
import re
import statistics
from pathlib import Path

import outputs
from experiments import EXPERIMENTS, Images, Text, folder_of
from matplotlib.figure import Figure

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
IMAGES = {"validation": 5_000, "test": 10_000}  # of MNIST and CIFAR-10


def results_of(name: str, output: Path | None = None) -> dict[str, list[dict]]:
    """Returns the results of an experiment by row, seeds in order: those kept, and a folder's."""
    path = RESULTS / f"{name}.json"
    kept = json.loads(path.read_text("utf-8")) if path.exists() else {}
    table = {}
    for row in EXPERIMENTS[name].rows:
        runs = {run["settings"]["seed"]: run for run in kept.get(row, [])}
        for seed in EXPERIMENTS[name].seeds if output else ():
            found = outputs.read_results(folder_of(output, name, row, seed))
            runs |= {seed: found} if found else {}
        if runs:
            table[row] = [runs[seed] for seed in sorted(runs)]
    return table


def report(output: Path) -> None:
    """Adds the results in a folder to docs/results, and writes tables and figures."""
    path = ROOT / "RESULTS.md"
    text = path.read_text("utf-8")
    for name, experiment in EXPERIMENTS.items():
        table = results_of(name, output)
        if not table:
            continue
        outputs.save_json(RESULTS / f"{name}.json", table)
        lines = text_table(table) if isinstance(experiment, Text) else image_table(table)
        text = between_marks(text, name, "\n".join(lines))
        with outputs.replacing(RESULTS / f"{name}.png") as unfinished:
            draw(experiment, table).savefig(unfinished)
        done = sum(map(len, table.values()))
        print(f"{name}: {done} of {len(experiment.rows) * len(experiment.seeds)} trainings")
    with outputs.replacing(path) as unfinished:
        unfinished.write_text(text, "utf-8")


def between_marks(text: str, name: str, lines: str) -> str:
    """Replaces what stands between the marks of an experiment."""
    begin, end = f"<!-- {name} -->", "<!-- end -->"
    found = re.subn(rf"({begin}\n).*?(\n{end})", lambda m: m[1] + lines + m[2], text, flags=re.S)
    if found[1] != 1:
        raise ValueError(f"RESULTS.md must have {begin} once, and {end} after it. Received: {text}")
    return found[0]


def text_table(table: dict[str, list[dict]]) -> list[str]:
    """Returns the lines of a Markdown table of language models."""
    ranks = any("singular_values" in runs[0] for runs in table.values())
    head = ["", "weights", "learning rate", "validation", "test", "of each seed"]
    head += ["2nd singular value of the 1st, x / h"] * ranks + ["ms per step", "minutes"]
    lines = [head, ["---"] * len(head)]
    for row, runs in table.items():
        bits = {part: [run["bits_per_character"][part] for run in runs] for part in IMAGES}
        cells = [row, f"{runs[0]['parameters']:,}", str(runs[0]["settings"]["learning_rate"])]
        cells += [spread(bits["validation"], 3), spread(bits["test"], 3)]
        cells += [", ".join(f"{value:.3f}" for value in bits["test"])]
        if ranks:
            cells.append(" / ".join(f"{ratio:.2g}" for ratio in ratios(runs)))
        lines.append(cells + costs(runs))
    return [f"| {' | '.join(cells)} |" for cells in lines]


def image_table(table: dict[str, list[dict]]) -> list[str]:
    """Returns the lines of a Markdown table of image classifiers."""
    head = ["", "weights", "validation error, %", "test error, %", "of each seed"]
    head += ["ms per step", "minutes"]
    lines = [head, ["---"] * len(head)]
    for row, runs in table.items():
        errors = {part: [run["error"][part] for run in runs] for part in IMAGES}
        cells = [row, f"{runs[0]['parameters']:,}"]
        cells += [spread(errors["validation"], 2), spread(errors["test"], 2)]
        cells += [", ".join(f"{value:.2f}" for value in errors["test"])]
        lines.append(cells + costs(runs))
    return [f"| {' | '.join(cells)} |" for cells in lines]


def spread(values: list[float], digits: int) -> str:
    """Returns the mean, and the standard deviation if there is more than one value."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def ratios(runs: list[dict]) -> list[float]:
    """Returns the least ratio over gates of second to first singular value, mean over the seeds."""
    of_paths = []
    for path in (0, 1):
        least = []
        for run in runs:
            maps = run.get("singular_values", [[[1.0]]] * 2)[path]
            least.append(min(values[1] / values[0] if len(values) > 1 else 0 for values in maps))
        of_paths.append(statistics.mean(least))
    return of_paths


def costs(runs: list[dict]) -> list[str]:
    """Returns milliseconds per step and minutes, medians over the seeds."""
    milliseconds = statistics.median(run["milliseconds_per_step"] for run in runs)
    minutes = statistics.median(run["wall_seconds"] for run in runs) / 60
    return [f"{milliseconds:.0f}", f"{minutes:.1f}"]


def draw(experiment: Text | Images, table: dict[str, list[dict]]) -> Figure:
    """Draws the validation of each row over the steps, mean and range of its seeds."""
    import matplotlib

    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    axes = figure.subplots()
    colours = matplotlib.colormaps["cividis"].resampled(len(table) + 1)
    for number, (row, runs) in enumerate(table.items()):
        histories = [run["history"] for run in runs]
        length = min(map(len, histories))
        steps = [record["step"] for record in histories[0][:length]]
        values = [[record[experiment.validation] for record in one[:length]] for one in histories]
        means = [statistics.mean(at) for at in zip(*values, strict=True)]
        line = ("-", "--", ":", "-.")[number % 4]
        axes.plot(steps, means, line, color=colours(number), label=row)
        lowest, highest = ([pick(at) for at in zip(*values, strict=True)] for pick in (min, max))
        axes.fill_between(steps, lowest, highest, color=colours(number), alpha=0.2, lw=0)
    text = isinstance(experiment, Text)
    axes.set_xlabel("training steps")
    axes.set_ylabel("bits per character, validation" if text else "validation error, %")
    axes.set_title(experiment.title)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def check(output: Path) -> None:
    """Compares a reduced version with what is kept, in what differs by over two standard errors.

    Raises:
        ValueError: if two rows differ the other way round, or there is nothing to compare.
    """
    agree, differ = 0, []
    for name, experiment in EXPERIMENTS.items():
        kept = results_of(name)
        small = {}
        for row in kept:
            found = outputs.read_results(folder_of(output, name, row, experiment.seeds[0]))
            if found:
                small[row] = best_of(experiment, found)
        for one, other in itertools.combinations(small, 2):
            difference, error = compare(experiment, kept[one], kept[other])
            if abs(difference) <= 2 * error:
                continue
            now = small[one] - small[other]
            agrees = now * difference > 0
            agree += agrees
            line = (
                f"{name}: {one} - {other}: {difference:+.3f} (standard error {error:.3f}), "
                f"here {now:+.3f}"
            )
            print(line if agrees else f"{line}: THE OTHER WAY ROUND")
            differ += [] if agrees else [line]
    print(f"{agree} of {agree + len(differ)} differences are as in RESULTS.md")
    if differ or not agree:
        raise ValueError("; ".join(differ) or f"Nothing to compare in {output}.")


def best_of(experiment: Text | Images, run: dict) -> float:
    """Returns the best validation of a training."""
    return min(record[experiment.validation] for record in run["history"])


def compare(experiment: Text | Images, one: list[dict], other: list[dict]) -> tuple[float, float]:
    """Returns by how much two rows differ in validation, and the standard error of that."""
    means, variances = [], []
    for runs in (one, other):
        values = [best_of(experiment, run) for run in runs]
        means.append(statistics.mean(values))
        if len(values) > 1:
            variances.append(statistics.variance(values) / len(values))
        elif isinstance(experiment, Images):  # that of a count of wrong images
            share = values[0] / 100
            variances.append(100**2 * share * (1 - share) / IMAGES["validation"])
        else:
            variances.append(math.inf)
    return means[0] - means[1], math.sqrt(sum(variances))
