"""Tables and figures of RESULTS.md: the work behind `results.py report` and `check`.

Results are kept in docs/results, a file for each experiment: for each row of its table the results
of its seeds. `report` adds those of a folder of training runs, and puts tables between the marks
`<!-- name -->` and `<!-- end -->` of RESULTS.md.
"""

import itertools
import math
import re
import statistics
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common import outputs
from experiments import sizes
from experiments.definitions import (
    EXPERIMENTS,
    RESULTS,
    SIZES,
    Drawings,
    Images,
    Text,
    folder_of,
    kept_results,
)

PAGE = RESULTS.parent.parent / "RESULTS.md"
PARTS = ("validation", "test")
VALIDATION_IMAGES = 5_000  # of MNIST and CIFAR-10
STANDARD_ERRORS = sizes.STUDENT_T[3]  # with three seeds of each row
NO_RANK = 1e-4  # of the largest singular value: what is below adds nothing to the rank
SPECTRUM_TITLE = "Singular values of the scale maps after training"
# Okabe and Ito's colours, safe for all eyes.
COLOURS = "#000000 #E69F00 #56B4E9 #009E73 #F0E442 #0072B2 #D55E00 #CC79A7".split()


def results_of(name: str, output: Path | None = None) -> dict[str, list[dict]]:
    """Returns the results of an experiment by row, seeds in order: those kept, and a folder's."""
    kept, table = kept_results(name), {}
    for row in EXPERIMENTS[name].rows:
        runs = {run["settings"]["seed"]: run for run in kept.get(row, [])}
        for seed in EXPERIMENTS[name].seeds if output else ():
            found = outputs.read_results(folder_of(output, name, row, seed))
            runs |= {seed: found} if found else {}
        if runs:
            table[row] = [runs[seed] for seed in sorted(runs)]
            rates = {run["settings"].get("learning_rate") for run in table[row]}
            if len(rates) > 1:
                raise ValueError(
                    "All seeds of a row must have the learning rate that the first has chosen. "
                    f"Received: {name}, {row}, with {', '.join(map(str, rates))} (see --again)"
                )
    return table


def report(output: Path) -> None:
    """Adds the results in a folder to docs/results, and writes tables and figures."""
    if not output.is_dir():
        raise ValueError(f"`--output` must be the folder of training runs. Received: {output}")
    text = PAGE.read_text("utf-8")
    tables = {name: results_of(name, output) for name in EXPERIMENTS}
    tables = {name: table for name, table in tables.items() if table}
    gains = {name: sizes.gains_of(compared, tables) for name, compared in SIZES.items()}
    gains = {name: of_sizes for name, of_sizes in gains.items() if of_sizes}
    for name in (*tables, *gains):  # before anything is written
        between_marks(text, name, "")
    for name, table in tables.items():
        experiment = EXPERIMENTS[name]
        lines = in_markdown(table_of(experiment, table))
        lines += ["", f"![{experiment.title}: {experiment.y_label}](docs/results/{name}.png)"]
        outputs.save_json(RESULTS / f"{name}.json", table)
        with outputs.replacing(RESULTS / f"{name}.png") as unfinished:
            draw(experiment, table).savefig(unfinished)
        if isinstance(experiment, Text) and experiment.singular_values:
            with outputs.replacing(RESULTS / f"{name}_singular_values.png") as unfinished:
                draw_singular_values(table).savefig(unfinished)
            lines += ["", f"![{SPECTRUM_TITLE}](docs/results/{name}_singular_values.png)"]
        text = between_marks(text, name, "\n".join(lines))
        done = sum(map(len, table.values()))
        print(f"{name}: {done} of {len(experiment.rows) * len(experiment.seeds)} training runs")
    for name, of_sizes in gains.items():
        compared = SIZES[name]
        with outputs.replacing(RESULTS / f"{name}.png") as unfinished:
            sizes.draw_gains(compared, of_sizes).savefig(unfinished)
        titles = {name: EXPERIMENTS[name].title for name in compared.experiments}
        lines = in_markdown(sizes.gain_table(compared, of_sizes, titles))
        lines += ["", f"![{compared.title}](docs/results/{name}.png)", ""]
        lines += in_markdown(sizes.lead_table(compared, of_sizes, tables, titles))
        text = between_marks(text, name, "\n".join(lines))
    with outputs.replacing(PAGE) as unfinished:
        unfinished.write_text(text, "utf-8")


def in_markdown(rows: list[list[str]]) -> list[str]:
    """Returns the lines of a table, whose headings are the first row."""
    rows = rows[0], ["---"] * len(rows[0]), *rows[1:]
    return [f"| {' | '.join(cells)} |" for cells in rows]


def between_marks(text: str, name: str, lines: str) -> str:
    """Replaces what stands between the marks of an experiment."""
    begin, end = f"<!-- {name} -->", "<!-- end -->"
    text, found = re.subn(
        rf"({begin}\n)(?:(?!<!--).)*({end})",
        lambda m: f"{m[1]}\n{lines}\n\n{m[2]}",
        text,
        flags=re.S,
    )
    if found != 1:
        raise ValueError(f"{PAGE.name} must have {begin} once, and {end} after it.")
    return text


def table_of(experiment: Text | Drawings | Images, table: dict[str, list[dict]]) -> list[list[str]]:
    """Returns the rows of the table of an experiment, headings first."""
    if isinstance(experiment, Text):
        return text_table(table, experiment.singular_values)
    return drawings_table(table) if isinstance(experiment, Drawings) else image_table(table)


def text_table(table: dict[str, list[dict]], singular_values: bool) -> list[list[str]]:
    """Returns the rows of a table of language models, headings first."""
    head = ["", "weights", "learning rate", "validation", "test", "test of each seed"]
    head += ["rank of x, of h", "σ2/σ1 of x, of h"] * singular_values + ["ms per step", "minutes"]
    rows = [head]
    for row, runs in table.items():
        bits = {part: [run["bits_per_character"][part] for run in runs] for part in PARTS}
        cells = [row, f"{runs[0]['parameters']:,}", str(runs[0]["settings"]["learning_rate"])]
        cells += [spread(bits["validation"], 3), spread(bits["test"], 3)]
        cells += [", ".join(f"{value:.3f}" for value in bits["test"])]
        cells += ranks_and_ratios(runs) if singular_values else []
        rows.append(cells + costs(runs))
    return rows


def drawings_table(table: dict[str, list[dict]]) -> list[list[str]]:
    """Returns the rows of a table of models of drawings, headings first."""
    rows = [["", "weights", "learning rate", "validation, nats per drawing"]]
    rows[0] += ["test, nats per drawing", "of each seed", "test, nats per point"]
    for row, runs in table.items():
        nats = {part: [run["nats_per_drawing"][part] for run in runs] for part in PARTS}
        cells = [row, f"{runs[0]['parameters']:,}", str(runs[0]["settings"]["learning_rate"])]
        cells += [spread(nats["validation"], 2), spread(nats["test"], 2)]
        cells += [", ".join(f"{value:.2f}" for value in nats["test"])]
        rows.append([*cells, spread([run["nats_per_point"]["test"] for run in runs], 3)])
    return rows


def image_table(table: dict[str, list[dict]]) -> list[list[str]]:
    """Returns the rows of a table of image classifiers, headings first."""
    rows = [["", "weights", "validation error, %", "test error, %", "of each seed"]]
    rows[0] += ["ms per step", "minutes"]
    for row, runs in table.items():
        errors = {part: [run["error"][part] for run in runs] for part in PARTS}
        cells = [row, f"{runs[0]['parameters']:,}"]
        cells += [spread(errors["validation"], 2), spread(errors["test"], 2)]
        cells += [", ".join(f"{value:.2f}" for value in errors["test"])]
        rows.append(cells + costs(runs))
    return rows


def spread(values: list[float], digits: int) -> str:
    """Returns the mean, and the standard deviation if there is more than one value."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def relative_singular_values(runs: list[dict], path: int) -> list[list[list[float]]]:
    """Returns those of the scale maps of x (path 0) or h (1), of each seed, gate by gate."""
    return [
        [[value / values[0] for value in values] for values in run["singular_values"][path]]
        for run in runs
    ]


def ranks_and_ratios(runs: list[dict]) -> list[str]:
    """Returns the ranks of the scale maps of x and h, and their second singular values.

    Each is that of the gate where it is least, the mean over the seeds for singular values.
    """
    ranks, ratios = [], []
    for path in (0, 1):
        values = relative_singular_values(runs, path)
        ranks.append(min(sum(v > NO_RANK for v in gate) for gates in values for gate in gates))
        if len(values[0][0]) > 1:  # not embeddings of one number
            second = statistics.mean(min(gate[1] for gate in gates) for gates in values)
            ratios.append(f"{second:.2g}" if second > NO_RANK else "0")
    return [", ".join(map(str, ranks)), ", ".join(ratios) or "-"]


def costs(runs: list[dict]) -> list[str]:
    """Returns milliseconds per step and minutes, medians over the seeds."""
    milliseconds = statistics.median(run["milliseconds_per_step"] for run in runs)
    minutes = statistics.median(run["wall_seconds"] for run in runs) / 60
    return [f"{milliseconds:.0f}", f"{minutes:.1f}"]


def draw(experiment: Text | Drawings | Images, table: dict[str, list[dict]]) -> Figure:
    """Draws the validation of each row over the steps, a line for each seed."""
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    axes = figure.subplots()
    late = []  # what is not the steep beginning, which would take all of the height
    for number, (row, runs) in enumerate(table.items()):
        style = ("-", "--", ":")[number % 3]
        for run in runs:
            steps = [record["step"] for record in run["history"]]
            values = [record[experiment.validation] for record in run["history"]]
            label = row if run is runs[0] else None
            axes.plot(steps, values, style, color=COLOURS[number % 8], lw=1, label=label)
            late += values[len(values) // 4 :]
        if value := getattr(experiment, "published", {}).get(row):
            colour = COLOURS[number % 8]
            axes.axhline(value, ls=":", color=colour, lw=1, label=f"{row}, as published")
            late.append(value)
    margin = (max(late) - min(late)) / 20
    axes.set_ylim(min(late) - margin, max(late) + margin)
    axes.set_xlabel("training steps")
    axes.set_ylabel(experiment.y_label)
    axes.set_title(experiment.title)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def draw_singular_values(table: dict[str, list[dict]]) -> Figure:
    """Draws the spectrum of the scale maps of x and of h: medians over gates and seeds."""
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    figure.suptitle(SPECTRUM_TITLE)
    for path, axes in enumerate(figure.subplots(1, 2, sharey=True)):
        for number, (row, runs) in enumerate(table.items()):
            gates = [gate for gates in relative_singular_values(runs, path) for gate in gates]
            medians = [statistics.median(values) for values in zip(*gates, strict=True)]
            medians = [max(value, NO_RANK) for value in medians]
            style, colour = ("-", "--", ":")[number % 3], COLOURS[number % 8]
            if len(medians) > 1:  # not embeddings of one number
                places = range(1, len(medians) + 1)
                axes.plot(places, medians, style, color=colour, marker=".", lw=1, label=row)
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(f"number of the singular value, path {'xh'[path]}")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel(f"relative to the first; {NO_RANK:g} or less: at {NO_RANK:g}")
    figure.axes[0].legend(loc=(0.32, 0.06))  # where no line is
    return figure


def check(output: Path) -> None:
    """Compares a reduced version with what is kept, in what differs by more than chance.

    Raises:
        ValueError: if a difference is the other way round by more than chance makes of so few seeds
            and steps, or if none is the same way round.
    """
    same, unclear, opposite = 0, 0, []
    for name, experiment in EXPERIMENTS.items():
        kept, lines = results_of(name), 0
        small = {row: small_results(output, name, row) for row in kept}
        for one, other in itertools.combinations([row for row in small if small[row]], 2):
            kept_difference = difference(experiment, kept[one], kept[other])
            error = standard_error(experiment, kept[one], kept[other])
            if abs(kept_difference) <= STANDARD_ERRORS * error:
                continue
            lines += 1
            small_difference = difference(experiment, small[one], small[other])
            line = (
                f"{name}: {one} - {other}: {kept_difference:+.3f} (standard error {error:.3f}), "
                f"here {small_difference:+.3f}"
            )
            if small_difference * kept_difference > 0:
                same += 1
            elif abs(small_difference) <= STANDARD_ERRORS * small_error(
                experiment, (kept[one], small[one]), (kept[other], small[other])
            ):
                unclear += 1
                line += ", the other way round, which may be chance"
            else:
                opposite.append(line)
                line += ": THE OTHER WAY ROUND"
            print(line)
        if any(small.values()) and not lines:
            print(f"{name}: no rows that differ by more than chance in RESULTS.md")
    print(
        f"{same} of {same + unclear + len(opposite)} differences are the same way round as in "
        f"RESULTS.md, {unclear} the other way round by chance, {len(opposite)} by more"
    )
    if opposite or not same:
        raise ValueError("; ".join(opposite) or f"Nothing in {output} is as in RESULTS.md.")


def small_results(output: Path, name: str, row: str) -> list[dict]:
    """Returns the results that a reduced version has of a row."""
    folders = (folder_of(output, name, row, seed, True) for seed in EXPERIMENTS[name].small_seeds)
    return [run for folder in folders if (run := outputs.read_results(folder))]


def best_of(experiment: Text | Drawings | Images, run: dict) -> float:
    """Returns the best validation of a training run."""
    return min(record[experiment.validation] for record in run["history"])


def difference(experiment: Text | Drawings | Images, one: list[dict], other: list[dict]) -> float:
    """Returns by how much the means of two rows differ in validation."""
    means = [statistics.mean(best_of(experiment, run) for run in runs) for runs in (one, other)]
    return means[0] - means[1]


def standard_error(
    experiment: Text | Drawings | Images,
    one: list[dict],
    other: list[dict],
    seeds: int | None = None,
) -> float:
    """Returns the standard error of `difference`, or of that of `seeds` seeds each."""
    variance = 0.0
    for runs in (one, other):
        values = [best_of(experiment, run) for run in runs]
        if len(values) > 1:
            variance += statistics.variance(values) / (seeds or len(values))
        elif not isinstance(experiment, Images):
            variance = math.inf
        if isinstance(experiment, Images):  # that of counting wrong ones among so many
            share = statistics.mean(values) / 100
            variance += 100**2 * share * (1 - share) / VALIDATION_IMAGES
    return math.sqrt(variance)


def small_error(
    experiment: Text | Drawings | Images, *rows: tuple[list[dict], list[dict]]
) -> float:
    """Returns the standard error of the `difference` of two rows in a reduced version.

    The spread over the seeds is that of the kept training runs at its last step.

    Args:
        experiment: whose rows they are.
        rows: for each row the kept results and those of the reduced version.
    """
    step = min(run["history"][-1]["step"] for _, small in rows for run in small)
    begun = [
        [
            {"history": [record for record in run["history"] if record["step"] <= step]}
            for run in kept
        ]
        for kept, _ in rows
    ]
    return standard_error(experiment, *begun, min(len(small) for _, small in rows))
