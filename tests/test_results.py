import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import char_lm
import cifar10
import mnist
import results
import strokes
from common import outputs
from experiments import definitions, scheduling, sizes
from experiments import report as results_report
from experiments.definitions import (
    EXPERIMENTS,
    ONLY_BY_NAME,
    Drawings,
    Images,
    Sizes,
    Text,
    folder_of,
    kept_results,
)


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """An empty docs/results."""
    folder = tmp_path / "kept"
    folder.mkdir()
    for place in (definitions, results_report):
        monkeypatch.setattr(place, "RESULTS", folder)
    return folder


def layer_of(experiment, row, vocabulary="abc"):
    """The model of a row about text, and its recurrent layer after what is done at the start."""
    options = ["train", *experiment.shared.split(), *experiment.rows[row].split()]
    model = char_lm.make_model(char_lm.parse(options), vocabulary)
    layer = model.get_layer("recurrent_0")
    experiment.starts.get(row, lambda cell: None)(layer.cell)
    return model, layer


def test_rows_about_images_are_options_of_the_examples():
    for experiment in EXPERIMENTS.values():
        if isinstance(experiment, Images):
            script = {"mnist": mnist, "cifar10": cifar10}[experiment.data]
            for network, own in experiment.rows.values():
                script.parse(f"{experiment.shared} {own} {experiment.small}".split())
                assert network in ("hyper", "plain")


def test_starts():
    experiment = EXPERIMENTS["symmetry"]
    kernels, maps = {}, {}
    for kind in ("default", "larger deviation", "random scale maps"):
        _, layer = layer_of(experiment, f"{kind}, 16")
        kernels[kind] = np.std(layer.cell.embedding_kernel)
        maps[kind] = np.array(layer.cell.scale_kernel)
    assert kernels["larger deviation"] == pytest.approx(4 * kernels["default"], rel=0.1)
    assert kernels["random scale maps"] == pytest.approx(kernels["default"], rel=0.1)
    np.testing.assert_allclose(maps["default"][:8], 0.1 / 16)
    assert np.mean(maps["random scale maps"][:8]) == pytest.approx(0.1 / 16, rel=0.05)
    assert np.std(maps["random scale maps"][:8]) == pytest.approx(0.1 / 16, rel=0.05)
    np.testing.assert_allclose(maps["random scale maps"][8:], 0)

    _, layer = layer_of(EXPERIMENTS["layer_norm"], "epsilon 1e-5, forget bias before")
    cell = layer.cell
    assert (cell.layer_norm_epsilon, cell.forget_bias, cell.hyper_forget_bias) == (1e-5, 0, 0)
    for bias in (layer.cell.bias, layer.cell.hyper_bias):
        np.testing.assert_array_equal(np.mean(bias, axis=1), [0, 1, 0, 0])
    for name, experiment in EXPERIMENTS.items():
        if isinstance(experiment, Text):
            assert set(experiment.starts) <= set(experiment.rows), name


@pytest.mark.parametrize(
    ("name", "characters"), [("ptb", 50), ("tiny_shakespeare", 65), ("python_stdlib", 96)]
)
def test_rows_about_text_have_as_many_weights(name, characters):
    vocabulary = "".join(map(chr, range(300, 300 + characters)))
    experiment = EXPERIMENTS[name]
    weights = [layer_of(experiment, row, vocabulary)[0].count_params() for row in experiment.rows]
    assert max(weights) < 1.01 * min(weights)


def test_rows_of_the_paper_have_its_weights():
    """The paper's table 3 rounds these, but for the last, which is 5.06 million there."""
    vocabulary = "".join(map(chr, range(300, 350)))
    experiment = EXPERIMENTS["ptb_paper"]
    weights = {
        row: layer_of(experiment, row, vocabulary)[0].count_params() for row in experiment.rows
    }
    assert weights == {
        "layer-norm LSTM": 4_264_050,
        "layer-norm HyperLSTM": 4_923_154,
        "LSTM": 4_254_050,
        "HyperLSTM": 4_911_874,
        "layer-norm HyperLSTM, embedding 16": 5_085_682,
    }
    equal = [
        layer_of(EXPERIMENTS[name], row, vocabulary)[0].count_params()
        for name, row in (
            ("ptb_160", "layer-norm HyperLSTM"),
            ("ptb_160_changes", "layer-norm LSTM of equal weights"),
        )
    ]
    assert max(equal) < 1.01 * min(equal)


@pytest.mark.parametrize("name", ["kanji", "omniglot"])
def test_rows_about_drawings_have_as_many_weights(name):
    experiment, weights = EXPERIMENTS[name], []
    for row in experiment.rows.values():
        options = strokes.parse(["train", *experiment.shared.split(), *row.split()])
        weights.append(strokes.make_model(options).count_params())
    assert max(weights) < 1.01 * min(weights)


def test_first_seeds_come_first():
    options = results.parse(["train", "ptb", "cifar10"])
    jobs = scheduling.jobs_of(options)
    rows = len(EXPERIMENTS["ptb"].rows)
    assert [job[2] for job in jobs] == [0] * (rows + 2) + [1] * rows + [2] * rows
    options = results.parse(["train", "ptb", "--row", "LSTM", "--seeds", "1", "2"])
    assert scheduling.jobs_of(options) == [("ptb", "LSTM", 1), ("ptb", "LSTM", 2)]


def test_what_is_kept_is_not_trained_again(kept, capsys):
    (kept / "ptb.json").write_text(json.dumps({"LSTM": [text_run(0, 1.0), text_run(2, 1.0)]}))
    command = ["train", "ptb", "--row", "LSTM", "--row", "HyperLSTM"]
    jobs = scheduling.jobs_of(results.parse(command))
    assert jobs == [
        ("ptb", "HyperLSTM", 0),
        ("ptb", "LSTM", 1),
        ("ptb", "HyperLSTM", 1),
        ("ptb", "HyperLSTM", 2),
    ]
    assert capsys.readouterr().out == "2 training runs are in docs/results (see --again)\n"
    assert len(scheduling.jobs_of(results.parse([*command, "--again"]))) == 6
    assert len(scheduling.jobs_of(results.parse([*command, "--small"]))) == 2
    assert capsys.readouterr().out == ""


def test_without_data_that_cannot_be_downloaded(tmp_path, capsys):
    command = ["train", "--small", "--ptb", str(tmp_path), "--drawings", str(tmp_path)]
    jobs = scheduling.jobs_of(results.parse(command))
    assert {name for name, _, _ in jobs} == {n for n, e in EXPERIMENTS.items() if e.small_seeds}
    assert {number for name, _, number in jobs if name != "symmetry"} == {0}
    assert {number for name, _, number in jobs if name == "symmetry"} == {0, 1, 2}
    assert capsys.readouterr().out == ""
    of_ptb = {name for name, experiment in EXPERIMENTS.items() if experiment.data == "ptb"}
    command.remove("--small")
    for option, missing, message in (
        ("--ptb", of_ptb, "Without Penn Treebank"),
        ("--drawings", {"kanji", "omniglot"}, "Without drawings"),
    ):
        jobs = scheduling.jobs_of(results.parse([*command, option, str(tmp_path / "nowhere")]))
        assert {name for name, _, _ in jobs} == {*EXPERIMENTS} - missing - {*ONLY_BY_NAME}
        assert message in capsys.readouterr().out


def test_what_is_not_in_the_list(capsys):
    with pytest.raises(SystemExit):
        results.parse(["train", "ptv"])
    assert "EXPERIMENT must be of ptb, " in capsys.readouterr().err
    for more, fragment in (
        (["--row", "LSTM", "--row", "LSTN"], "'LSTM', .*Received: 'LSTM', 'LSTN'"),
        (["--seeds", "0", "7"], "`--seeds` must be of 0, 1, 2. Received: 0, 7"),
    ):
        with pytest.raises(ValueError, match=fragment):
            scheduling.jobs_of(results.parse(["train", "ptb", *more]))


# Stands in for the training: a process that tells with what it was started, and maybe fails.
TRAINING = """
import json, select, sys
from pathlib import Path

folder, arguments = Path(sys.argv[0]).parent, sys.argv[1:]
row, number = (arguments[arguments.index(name) + 1] for name in ("--row", "--seeds"))
stdin_is_open = not select.select([sys.stdin], [], [], 0)[0]
with open(folder / "started", "a") as file:
    file.write(json.dumps([arguments, stdin_is_open]) + "\\n")
print("as it went")
sys.exit([row, int(number)] in json.loads((folder / "fails").read_text()))
"""


class Processes:
    def __init__(self, folder):
        folder.mkdir()
        self.script, self.started, self.fails = (
            folder / name for name in ("training.py", "started", "fails")
        )
        self.script.write_text(TRAINING)
        self.fail()

    def fail(self, *trainings):
        self.fails.write_text(json.dumps(trainings))

    @property
    def jobs(self):
        """What the processes found to do."""
        found = []
        for line in self.started.read_text().splitlines() if self.started.exists() else ():
            arguments, stdin_is_open = json.loads(line)
            options = results.parse(arguments)
            assert options.workers == 0 and options.end_with_stdin and stdin_is_open
            assert options.cores in ([], [2, 7], [4])
            found += scheduling.jobs_of(options)
        return found


@pytest.fixture
def processes(tmp_path, monkeypatch):
    assert scheduling.SCRIPT.samefile(results.__file__)
    started = Processes(tmp_path / "processes")
    monkeypatch.setattr(scheduling, "SCRIPT", started.script)
    monkeypatch.setattr(scheduling, "AVAILABLE", [2, 4, 7])
    started.data = []
    monkeypatch.setattr(scheduling, "prepare_data", started.data.append)
    return started


def test_each_training_is_a_process(processes, tmp_path, capsys):
    command = ["train", "python_stdlib", "--workers", "2", "--output", str(tmp_path)]
    results.main(command)
    rows = EXPERIMENTS["python_stdlib"].rows
    expected = [("python_stdlib", row, seed) for seed in (0, 1, 2) for row in rows]
    assert sorted(processes.jobs) == sorted(expected)
    for row in rows:
        assert [seed for _, other, seed in processes.jobs if other == row][0] == 0
    folder = folder_of(tmp_path, "python_stdlib", "layer-norm LSTM", 2)
    assert (folder / "log.txt").read_text() == "as it went\n"
    assert "python_stdlib, layer-norm LSTM, seed 2: 0.0 minutes" in capsys.readouterr().out
    (folder / "results.json").write_text("{}")
    results.main(command)
    assert len(processes.jobs) == 11
    assert f"1 of 6 training runs are done in {tmp_path}\n" in capsys.readouterr().out


def test_where_cores_cannot_be_chosen(processes, tmp_path, monkeypatch):
    monkeypatch.setattr(scheduling, "AVAILABLE", [])  # on another system than Linux
    results.main(["train", "ptb", "--row", "LSTM", "--seeds", "1", "--output", str(tmp_path)])
    assert processes.jobs == [("ptb", "LSTM", 1)]


def test_failures_are_told_in_the_end(processes, tmp_path):
    command = ["train", "ptb", "--row", "LSTM", "--row", "HyperLSTM", "--output", str(tmp_path)]
    command += ["--workers", "2"]
    processes.fail(("LSTM", 0))
    with pytest.raises(ValueError, match=r"ptb.LSTM.0.log\.txt says why"):
        results.main(command)
    # The other seeds have no learning rate; the other row goes on.
    assert [number for _, row, number in processes.jobs if row == "LSTM"] == [0]
    assert len(processes.jobs) == 4
    processes.fail(("HyperLSTM", 2))
    with pytest.raises(ValueError, match=r"HyperLSTM.2.log\.txt says why"):
        results.main(command)


def test_again_reaches_the_processes(kept, processes, tmp_path):
    (kept / "mnist.json").write_text(json.dumps({"plain": [text_run(n, 1.0) for n in range(3)]}))
    command = ["train", "mnist", "--row", "plain", "--workers", "2", "--output", str(tmp_path)]
    results.main(command)
    assert processes.jobs == []
    results.main([*command, "--again"])
    assert sorted(processes.jobs) == [("mnist", "plain", n) for n in range(3)]


def test_data_reaches_the_processes(processes, tmp_path):
    folders = ["--ptb", str(tmp_path / "texts"), "--drawings", str(tmp_path / "strokes")]
    command = ["train", "kanji", "--row", "LSTM", "--seeds", "0", *folders]
    results.main([*command, "--output", str(tmp_path)])
    (started,) = processes.started.read_text().splitlines()
    (arguments, _) = json.loads(started)
    options = results.parse(arguments)
    assert ["--ptb", options.ptb, "--drawings", options.drawings] == folders


@pytest.mark.parametrize(("name", "row"), [("mnist", "hyper"), ("symmetry", "default, 16")])
def test_where_no_first_seed_is_needed(name, row, processes, tmp_path):
    processes.fail((row, 0))
    with pytest.raises(ValueError, match=r"0.log\.txt says why"):
        results.main(["train", name, "--row", row, "--workers", "2", "--output", str(tmp_path)])
    assert sorted(number for _, _, number in processes.jobs) == [0, 1, 2]
    assert processes.data == [{EXPERIMENTS[name].data}]


def run_in_examples(code):
    return subprocess.Popen(
        [sys.executable, "-c", f"import results; from experiments import scheduling; {code}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(results.__file__).parent,
        text=True,
    )


def test_a_training_ends_with_the_process_that_started_it():
    process = run_in_examples(
        "import time; scheduling.threading.Thread(target=scheduling.end_with_stdin).start(); "
        "print('up', flush=True); time.sleep(60)"
    )
    with process.stdout:
        assert process.stdout.readline() == "up\n"
        assert process.poll() is None
        process.stdin.close()  # as the system does when the other process ends
        assert process.wait(20) == 1


def test_a_training_ends_its_process_at_once():
    process = run_in_examples(
        "import experiments; experiments.training = None; "  # importing it takes seconds
        "print('done'); scheduling.train_here([], results.parse(['train', '--end-with-stdin'])); "
        "print('later')"
    )
    with process.stdin, process.stdout:  # open, so that it is not that which ends the process
        assert process.wait(20) == 0
        assert process.stdout.read() == "done\n"


def text_run(seed, bits):
    return {
        "bits_per_character": {"train": bits, "validation": bits, "test": bits + 0.1},
        "parameters": 1234,
        "milliseconds_per_step": 12.3,
        "wall_seconds": 90.0,
        "settings": {"seed": seed, "learning_rate": 0.008},
        "history": [
            {"step": 250, "val_bits_per_character": bits + 1},
            {"step": 500, "val_bits_per_character": bits},
        ],
        "singular_values": [[[2.0, 1.0], [4.0, 1.0]], [[4.0, 0.1], [2.0, 1.0]]],
    }


@pytest.fixture
def page(tmp_path, kept, monkeypatch):
    """A RESULTS.md, and what it knows: rows A and B differ by 0.5, B and C by nothing."""
    found = {"A": [1.0, 1.1], "B": [1.5, 1.6], "C": [1.5, 1.6]}
    rows = dict.fromkeys(found, "")
    experiment = Text("Title", "text.txt", "", rows, 2, 1, 1, seeds=(0, 1), singular_values=True)
    monkeypatch.setattr(results_report, "EXPERIMENTS", {"letters": experiment})
    monkeypatch.setattr(results_report, "PAGE", tmp_path / "RESULTS.md")
    (tmp_path / "RESULTS.md").write_text("Before.\n\n<!-- letters -->\n\n<!-- end -->\n\nAfter.\n")
    for row, values in found.items():
        for seed, bits in enumerate(values):
            save(tmp_path / "runs", row, seed, text_run(seed, bits))
    results_report.report(tmp_path / "runs")
    return tmp_path


def save(output, row, seed, run, small=False):
    folder = folder_of(output, "letters", row, seed, small)
    folder.mkdir(parents=True, exist_ok=True)
    outputs.save_json(folder / "results.json", run)


def test_report(page):
    text = (page / "RESULTS.md").read_text()
    row = (
        "| A | 1,234 | 0.008 | 1.050 ± 0.071 | 1.150 ± 0.071 | 1.100, 1.200 | 2, 2 | 0.25, 0.025 |"
    )
    assert text.startswith("Before.\n") and text.endswith("<!-- end -->\n\nAfter.\n")
    assert row in text
    assert (
        "\n\n![Title: bits per character of the validation text](docs/results/letters.png)\n\n"
        in text
    )
    assert "after training](docs/results/letters_singular_values.png)\n" in text
    for figure in ("letters.png", "letters_singular_values.png"):
        assert (page / "kept" / figure).stat().st_size > 10_000
    kept = json.loads((page / "kept" / "letters.json").read_text())
    assert [run["settings"]["seed"] for run in kept["B"]] == [0, 1]
    # From what is kept the same page is made, and a new training replaces the old one.
    results_report.report(page / "kept")
    assert (page / "RESULTS.md").read_text() == text
    with pytest.raises(ValueError, match="`--output` must be the folder of training runs"):
        results_report.report(page / "nowhere")
    save(page / "runs", "A", 1, text_run(1, 3.0))
    results_report.report(page / "runs")
    assert "| 2.000 ± 1.414 |" in (page / "RESULTS.md").read_text()


def test_scale_maps_of_little_rank():
    run = text_run(0, 1.0)
    run["singular_values"] = [[[2.0, 1e-16], [4.0, 1.0]], [[4.0, 1.0], [2.0, 1.0]]]
    assert results_report.ranks_and_ratios([run]) == ["1, 2", "0, 0.25"]
    run["singular_values"] = [[[2.0], [4.0]], [[4.0], [2.0]]]  # embeddings of one number
    assert results_report.ranks_and_ratios([run]) == ["1, 1", "-"]


def test_drawings(kept, monkeypatch, tmp_path):
    rows = {"A": "", "B": ""}
    experiment = Drawings("Title", "a.npz", "", rows, 2, 1)
    monkeypatch.setattr(results_report, "EXPERIMENTS", {"drawings": experiment})
    monkeypatch.setattr(results_report, "PAGE", tmp_path / "RESULTS.md")
    (tmp_path / "RESULTS.md").write_text("<!-- drawings -->\n<!-- end -->\n")
    for row, nats in (("A", (-20.0, -21.0)), ("B", (-30.0, -31.0))):
        for seed, value in enumerate(nats):
            run = text_run(seed, 1.0)
            run["history"] = [{"step": n, "val_nats_per_point": value / n} for n in (1, 2)]
            for what, points in (("nats_per_drawing", 1), ("nats_per_point", 20)):
                run[what] = {part: value / points for part in results_report.PARTS}
            folder = folder_of(tmp_path / "runs", "drawings", row, seed)
            folder.mkdir(parents=True)
            outputs.save_json(folder / "results.json", run)
    results_report.report(tmp_path / "runs")
    text = (tmp_path / "RESULTS.md").read_text()
    nats = "-20.50 ± 0.71 | -20.50 ± 0.71 | -20.00, -21.00 | -1.025 ± 0.035"
    assert f"| A | 1,234 | {text_run(0, 1.0)['settings']['learning_rate']} | {nats} |" in text
    assert "![Title: nats per point of the validation drawings](docs/results/drawings.png)" in text
    assert (kept / "drawings.png").stat().st_size > 10_000


def test_gain_at_several_sizes(kept, monkeypatch, tmp_path):
    compared = Sizes("Gain", ("small", "large", "missing"), better="B", other="A")
    experiments = {
        name: Text(name.title(), "", "", {"A": "", "B": ""}, 1, 1) for name in compared.experiments
    }
    monkeypatch.setattr(results_report, "EXPERIMENTS", experiments)
    monkeypatch.setattr(results_report, "SIZES", {"sizes": compared})
    monkeypatch.setattr(results_report, "PAGE", tmp_path / "RESULTS.md")
    marks = "".join(f"<!-- {name} -->\n<!-- end -->\n" for name in ("small", "large", "sizes"))
    (tmp_path / "RESULTS.md").write_text(marks)
    small = {"A": [1.00, 1.04], "B": [0.97, 1.03]}
    large = {"A": [0.80], "B": [0.75]}
    for name, rows in (("small", small), ("large", large)):
        for row, values in rows.items():
            for seed, bits in enumerate(values):
                folder = folder_of(tmp_path / "runs", name, row, seed)
                folder.mkdir(parents=True)
                outputs.save_json(folder / "results.json", text_run(seed, bits))
    results_report.report(tmp_path / "runs")
    text = (tmp_path / "RESULTS.md").read_text()
    # Variances 0.0008 and 0.0018, so a pooled one of 0.0013, with 2 degrees of freedom: 4.30.
    shown = "| 1.120 | 1.100 | +0.020 | -0.135 to +0.175 | +0.030, +0.010 |"
    assert f"| Small | 1,234 | 1,234 {shown}" in text
    assert "| 0.900 | 0.850 | +0.050 | -0.169 to +0.269 | +0.050 |" in text
    assert "![Gain](docs/results/sizes.png)" in text
    head = "|  | lead after 250 steps | lead after 500 steps | steps to the same bits |"
    # Small: from 2.00 to 1.00 bits in the second half, 1.02 after 0.98 of it. Large: 0.95 of it.
    assert f"{head}\n| --- | --- | --- | --- |\n| Small | +0.02 | +0.02 | 99 % |" in text
    assert "| Large | +0.05 | +0.05 | 98 % |" in text
    assert (kept / "sizes.png").stat().st_size > 10_000
    alone = sizes.gains_of(compared, {"large": kept_results("large")})
    assert sizes.gain_table(compared, alone, {"large": "Large"})[1][-2] == "unknown"
    assert sizes.draw_gains(compared, alone).axes[0].get_title() == "Gain"


def test_share_of_steps():
    history = {10: 2.0, 20: 1.0, 40: 1.5}
    shares = [sizes.share_of_steps(history, bits) for bits in (2.5, 2.0, 1.25, 1.0, 0.9)]
    assert shares == ["25 %", "25 %", "44 %", "50 %", "never"]


def test_marks_are_checked_before_anything_is_written(kept, monkeypatch, tmp_path):
    monkeypatch.setattr(results_report, "PAGE", tmp_path / "RESULTS.md")
    (tmp_path / "RESULTS.md").write_text("<!-- ptb -->\n<!-- end -->\n")
    for name in ("ptb", "tiny_shakespeare"):
        folder = folder_of(tmp_path / "runs", name, "layer-norm LSTM", 0)
        folder.mkdir(parents=True)
        outputs.save_json(folder / "results.json", text_run(0, 1.0))
    with pytest.raises(ValueError, match="RESULTS.md must have <!-- tiny_shakespeare --> once"):
        results_report.report(tmp_path / "runs")
    assert list(kept.iterdir()) == []


def test_published_values_are_in_the_figure():
    figure = results_report.draw(EXPERIMENTS["ptb_paper"], {"LSTM": [text_run(0, 1.4)]})
    (axes,) = figure.axes
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["LSTM", "LSTM, as published"]
    assert axes.get_ylim()[0] < axes.lines[-1].get_ydata()[0] == 1.347


def test_text_without_singular_values():
    run = text_run(0, 1.0)
    del run["singular_values"]  # a cell without scale maps
    head, row = results_report.text_table({"A": [run]}, singular_values=False)
    assert len(head) == len(row) and not any("σ" in name for name in head)


def test_seeds_of_different_learning_rates(page):
    run = text_run(0, 1.0)
    run["settings"]["learning_rate"] = 0.016
    save(page / "runs", "A", 0, run)
    with pytest.raises(ValueError, match=r"letters, A, with 0\.0\d+, 0\.0\d+ \(see --again\)"):
        results_report.report(page / "runs")


def test_kept_results_that_are_damaged(kept, tmp_path):
    (kept / "ptb.json").write_text("{")
    with pytest.raises(ValueError, match=r"must be as they were written.*ptb\.json"):
        results.main(["train", "ptb", "--output", str(tmp_path)])


def test_a_page_without_marks(page):
    (page / "RESULTS.md").write_text("<!-- letters -->\n<!-- others -->\n<!-- end -->")
    with pytest.raises(ValueError, match="must have <!-- letters --> once"):
        results_report.report(page / "runs")


def test_check(page, capsys):
    runs = page / "runs"
    with pytest.raises(ValueError, match="Nothing in .*runs is as in RESULTS.md"):
        results_report.check(runs)

    def counts(**rows):
        for row, bits in rows.items():
            save(runs, row, 0, text_run(0, bits), small=True)
        try:
            results_report.check(runs)
        finally:
            output = capsys.readouterr().out
        assert len(output.splitlines()) == 3
        return output

    with pytest.raises(ValueError, match=r"^letters: A - C: -0\.500 .* here \+0\.500$"):
        counts(A=2.0, B=2.1, C=1.5)
    output = counts(C=1.9)  # 0.1 is what two seeds differ by
    assert "here +0.100, the other way round, which may be chance\n" in output
    assert "1 of 2 differences are the same way round as in RESULTS.md, 1 the other" in output
    with pytest.raises(ValueError, match=r"Nothing in .*runs is as in RESULTS.md"):
        counts(B=1.9)
    output = counts(B=2.1, C=2.2)
    assert "2 of 2 differences are the same way round as in RESULTS.md, 0 the other" in output


def test_check_of_rows_that_do_not_differ(page, capsys):
    for row in "BC":
        save(page / "runs", row, 0, text_run(0, 2.0), small=True)
    with pytest.raises(ValueError, match="Nothing in"):
        results_report.check(page / "runs")
    assert "letters: no rows that differ by more than chance" in capsys.readouterr().out


def test_check_of_several_seeds(page, monkeypatch, capsys):
    (experiment,) = results_report.EXPERIMENTS.values()
    several = dataclasses.replace(experiment, small_seeds=(0, 1))
    for place in (scheduling, results_report):
        monkeypatch.setattr(place, "EXPERIMENTS", {"letters": several})
    jobs = scheduling.jobs_of(results.parse(["train", "--small"]))
    assert [job[1:] for job in jobs] == [(row, seed) for seed in (0, 1) for row in "ABC"]
    for row, values in {"A": (2.0, 2.2), "B": (2.1, 2.2)}.items():
        for seed, bits in enumerate(values):
            save(page / "runs", row, seed, text_run(seed, bits), small=True)
    results_report.check(page / "runs")
    assert "here -0.050\n" in capsys.readouterr().out


def runs_of(validation, *values):
    return [{"history": [{"step": 10, validation: value}]} for value in values]


def test_standard_errors_of_images():
    images = Images("Title", "mnist", "", {}, "")
    ten, twelve = runs_of("val_error", 10.0), runs_of("val_error", 12.0)
    assert results_report.difference(images, ten, twelve) == -2
    # 500 of 5,000 images are wrong within 21, 600 within 23.
    error = results_report.standard_error(images, ten, twelve)
    assert error == pytest.approx(100 * (0.1 * 0.9 / 5000 + 0.12 * 0.88 / 5000) ** 0.5)
    # With more seeds it has both: of the seeds, and of the images that they share.
    both = ten + twelve
    for seeds in (None, 1):
        error = results_report.standard_error(images, both, both, seeds)
        variance = 2 / (seeds or 2) + 100**2 * 0.11 * 0.89 / 5000
        assert error == pytest.approx((2 * variance) ** 0.5)


def test_standard_errors_of_text_and_drawings():
    text = Text("Title", "ptb", "", {}, 1, 1, 1)
    for experiment in (text, Drawings("Title", "a.npz", "", {}, 1, 1)):
        one, two = (runs_of(experiment.validation, value) for value in (1.0, 2.0))
        assert results_report.difference(experiment, one, two) == -1
        assert results_report.standard_error(experiment, one, two) == float("inf")


def test_chance_is_that_of_the_last_step():
    text = Text("Title", "ptb", "", {}, 2, 1, 1)
    kept = [text_run(seed, bits) for seed, bits in enumerate((1.0, 1.0, 1.0))]
    for run, bits in zip(kept, (3.0, 4.0, 5.0), strict=True):
        run["history"][0]["val_bits_per_character"] = bits  # a variance of 1
    small = [{"history": kept[0]["history"][:1]}]
    error = results_report.small_error(text, (kept, small), (kept, small * 2))
    assert error == pytest.approx(2**0.5)
    error = results_report.small_error(text, (kept, small * 3), (kept, small * 2))
    assert error == pytest.approx(1)
    assert results_report.small_error(text, (kept, kept), (kept, kept)) == 0


@pytest.mark.slow
def test_trainings(tmp_path, kept, monkeypatch, capsys):
    """The first seed chooses a learning rate, the second takes it; nothing is trained twice."""
    from experiments import training as results_training

    (tmp_path / "text.txt").write_text("abcabcacb" * 200)
    row = "--cell hyper_lstm --units 4 --hyper-units 3 --embedding-dim 2"
    shared = "--batch-size 2 --sequence-length 10 --steps-per-epoch 4 --train-characters 100"
    started = []
    starts = {"A": lambda cell: started.append(cell.scale_kernel.assign(cell.scale_kernel * 0 + 1))}
    more = {"rates": (0.01,), "starts": starts, "seeds": (0, 1)}
    experiment = Text("T", str(tmp_path / "text.txt"), shared, {"A": row}, 2, 1, **more)
    for place in (results, scheduling, results_training):
        monkeypatch.setattr(place, "EXPERIMENTS", {"letters": experiment})
    command = ["train", "letters", "--workers", "0", "--output", str(tmp_path / "runs")]
    results.main(command)
    found = [json.loads(path.read_text()) for path in sorted(tmp_path.rglob("results.json"))]
    assert [run["settings"]["seed"] for run in found] == [0, 1]
    rates = {run["settings"]["learning_rate"] for run in found}
    assert rates == {float(min(found[0]["short_runs"], key=found[0]["short_runs"].get))}
    assert [len(run["history"]) for run in found] == [2, 2]
    for run in found:
        (values,) = {len(v) for path in run["singular_values"] for v in path}
        assert values == 2
        assert set(run["bits_per_character"]) == {"train", "validation", "test"}
    trained = len(started)
    results.main(command)
    assert len(started) == trained
    (kept / "letters.json").write_text(json.dumps({"A": found[:1]}))
    others = [*command[:-1], str(tmp_path / "others")]
    results.main(others)  # the second seed, at the learning rate of the first that is kept
    (second,) = (tmp_path / "others").rglob("results.json")
    assert json.loads(second.read_text())["settings"] == found[1]["settings"]
    # And so does the reduced version, on a machine that has trained nothing.
    results.main([*command[:-1], str(tmp_path / "new"), "--small"])
    (small,) = (tmp_path / "new" / "small").rglob("results.json")
    assert len(json.loads(small.read_text())["history"]) == 1
    (kept / "letters.json").unlink()
    with pytest.raises(ValueError, match="The first seed must have chosen a learning rate"):
        results.main([*command[:-1], str(tmp_path / "nowhere"), "--seeds", "1"])
    # Where the rate is given, none is chosen.
    given = dataclasses.replace(experiment, rate=0.03)
    monkeypatch.setattr(results_training, "EXPERIMENTS", {"letters": given})
    results.main([*command[:-1], str(tmp_path / "given")])
    for path in (tmp_path / "given").rglob("results.json"):
        run = json.loads(path.read_text())
        assert run["settings"]["learning_rate"] == 0.03 and "short_runs" not in run
