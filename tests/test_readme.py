"""What the pages say: their length, their links, and numbers that are those of the results."""

import itertools
import json
import math
import re
import statistics
import unittest
from pathlib import Path

from experiments import report

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "RESULTS.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "saved_models" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
TEXTS = ("ptb", "tiny_shakespeare", "python_stdlib")
OF_ONE_PAGE = [ROOT / "README.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]


class Pages(unittest.TestCase):
    def test_a_page_has_at_most_150_lines(self):
        for page in OF_ONE_PAGE:
            self.assertLessEqual(len(page.read_text("utf-8").splitlines()), 150, page.name)

    def test_links_lead_somewhere(self):
        anchors = {page: anchors_of(page.read_text("utf-8")) for page in PAGES}
        for page in PAGES:
            links = re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text("utf-8")))
            self.assertTrue(links, page.name)
            for link in links:
                path, _, anchor = link.partition("#")
                if "://" in path:
                    continue
                found = (page.parent / path).resolve() if path else page
                self.assertTrue(found.exists(), f"{page.name}: {link}")
                if anchor:
                    self.assertIn(anchor, anchors[found], f"{page.name}: {link}")

    def test_guides_are_linked(self):
        readme = OF_ONE_PAGE[0].read_text("utf-8")
        for guide in OF_ONE_PAGE[1:]:
            self.assertIn(f"](docs/guides/{guide.name})", readme)

    def test_numbers_of_the_readme_are_those_of_the_results(self):
        readme = " ".join(OF_ONE_PAGE[0].read_text("utf-8").split())
        ln_lstm, hyper_lstm = "layer-norm LSTM", "layer-norm HyperLSTM"
        shakespeare, library, ptb = (
            {name: mean(runs, "bits_per_character", "test") for name, runs in of(name).items()}
            for name in ("tiny_shakespeare", "python_stdlib", "ptb")
        )
        kanji = {name: mean(runs, "nats_per_drawing", "test") for name, runs in of("kanji").items()}
        cifar10 = {name: mean(runs, "error", "test") for name, runs in of("cifar10").items()}
        weights = {name: runs[0]["parameters"] for name, runs in of("cifar10").items()}
        permuted, split = (
            {
                method: 100 * statistics.mean(itertools.chain(*last_scores(runs)))
                for method, runs in of(f"continual_{name}-mnist").items()
            }
            for name in ("permuted", "split")
        )
        chunked = of("chunked_cnn")["seeds"].values()
        speed = json.loads((ROOT / "benchmarks" / "results" / "recurrent.json").read_text())[
            "sizes"
        ]
        columns = [speed[size][task] for task in ("training", "inference") for size in "SL"]
        for text in (
            f"{shakespeare[hyper_lstm]:.3f} and {shakespeare[ln_lstm]:.3f}",
            f"{library[hyper_lstm]:.3f} and {library[ln_lstm]:.3f}",
            f"{ptb[hyper_lstm]:.3f} and {ptb[ln_lstm]:.3f}",
            f"{shakespeare[ln_lstm] - shakespeare[hyper_lstm]:.3f} and "
            f"{library[ln_lstm] - library[hyper_lstm]:.3f} bits per character fewer",
            f"{kanji['HyperLSTM']:.1f} nats per kanji; a layer-norm LSTM of equal size "
            f"{kanji[ln_lstm]:.1f}, an LSTM {kanji['LSTM']:.1f}",
            f"layer-norm HyperLSTM {kanji[hyper_lstm]:.1f}",
            f"{cifar10['hyper']:.2f} % errors with {weights['hyper']:,} weights, "
            f"{cifar10['plain']:.2f} % with {weights['plain']:,}",
            f"{permuted['hyper']:.2f} % if the task is given",
            f"ends at {permuted['fine-tune']:.2f} %",
            f"PermutedMNIST-10 {permuted['hyper']:.2f} %, SplitMNIST {split['hyper']:.2f} %",
            f"{statistics.mean(run['test_accuracy'] for run in chunked):.1f} %",
            *(
                " | ".join(ratio_of(table[row]) for table in columns)
                for row in (
                    "HyperLSTM, jit off",
                    "LayerNormLSTM, jit off",
                    "RNN(HyperLSTMCell), jit off",
                )
            ),
        ):
            self.assertTrue(text in readme, text)

    def test_tables_of_the_results_are_those_of_docs_results(self):
        page = report.PAGE.read_text("utf-8")
        for name, experiment in report.EXPERIMENTS.items():
            table = report.results_of(name)
            for line in report.in_markdown(report.table_of(experiment, table)) if table else ():
                self.assertTrue(line in page, line)

    def test_intervals_of_the_results(self):
        """Each at 95 %: of three seeds each, then of the differences seed by seed."""
        page = " ".join(report.PAGE.read_text("utf-8").split())
        normed = ("layer-norm LSTM", "layer-norm HyperLSTM")
        for name, rows, score, digits in (
            *((name, normed, "bits_per_character", 3) for name in TEXTS),
            ("kanji", ("layer-norm LSTM", "HyperLSTM"), "nats_per_drawing", 1),
            ("kanji", ("LSTM", "layer-norm LSTM"), "nats_per_drawing", 1),
            ("omniglot", ("layer-norm LSTM", "HyperLSTM"), "nats_per_drawing", 1),
            ("omniglot", normed, "nats_per_drawing", 1),
        ):
            lstm, hyper = ([run[score]["test"] for run in of(name)[row]] for row in rows)
            pairs = [a - b for a, b in zip(lstm, hyper, strict=True)]
            difference = abs(statistics.mean(pairs))
            of_rows = 2.776 * math.sqrt(
                (statistics.variance(lstm) + statistics.variance(hyper)) / 3
            )
            of_pairs = 4.303 * statistics.stdev(pairs) / math.sqrt(3)
            for width in (of_rows, of_pairs):
                ends = f"{difference - width:.{digits}f} to {difference + width:.{digits}f}"
                self.assertTrue(ends in page, ends)

    def test_why_the_lead_on_penn_treebank_shrinks(self):
        page = report.PAGE.read_text("utf-8")
        base, tuned, changes = (
            {row: runs[0]["bits_per_character"]["test"] for row, runs in of(name).items()}
            for name in ("ptb_160", "ptb_160_tuned", "ptb_160_changes")
        )
        lstm, hyper = "layer-norm LSTM", "layer-norm HyperLSTM"
        equal = f"{lstm} of equal weights"
        for one, other in (
            (base[lstm], base[hyper]),
            (base[lstm], changes[f"{hyper}, hyper cell of a fifth"]),
            (changes[equal], base[hyper]),
            (changes[f"{lstm}, batch 32"], changes[f"{hyper}, batch 32"]),
            (changes[f"{lstm}, schedule"], changes[f"{hyper}, schedule"]),
            (tuned[lstm], tuned[hyper]),
            (tuned[equal], tuned[hyper]),
        ):
            line = f" | {one:.3f} | {other:.3f} | {one - other:.3f} |"
            self.assertTrue(line in page, line)


def ratio_of(row):
    """Returns the median and, if it is wide, the range over several runs of a benchmark."""
    low, high = row.get("range", (1, 1))
    return f"{row['ratio']:.2f}" + (f" ({low:.2f} to {high:.2f})" if high > 1.2 * low else "")


def of(name):
    """Returns the results of an experiment."""
    return json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text("utf-8"))


def mean(runs, *keys):
    return statistics.mean(run[keys[0]][keys[1]] for run in runs)


def last_scores(runs):
    return [run["scores"][-1] for run in runs.values()]


def without_code(text):
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors_of(text):
    """Returns the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"(?ms)^```.*?^```", "", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
