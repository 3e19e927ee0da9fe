import json
import sys
from types import SimpleNamespace

import char_lm_options
import char_lm_training
import cifar10
import experiments
import mnist
import outputs
import pytest
import results
import results_report
from experiments import EXPERIMENTS, Images, Text, folder_of


def test_all_rows_are_options_of_the_examples():
    for name, experiment in EXPERIMENTS.items():
        for row in experiment.rows:
            if isinstance(experiment, Text):
                char_lm_options.parse(
                    ["train", *f"{experiment.shared} {experiment.rows[row]}".split()]
                )
            else:
                script = {"mnist": mnist, "cifar10": cifar10}[experiment.script]
                _, own = experiment.rows[row]
                script.parse(f"{experiment.shared} {own} {experiment.small}".split())
        if isinstance(experiment, Text):
            assert set(experiment.starts) <= set(experiment.rows), name


@pytest.mark.parametrize(
    ("name", "characters"), [("ptb", 50), ("tiny_shakespeare", 65), ("python_stdlib", 96)]
)
def test_rows_about_text_have_as_many_weights(name, characters):
    vocabulary = "".join(map(chr, range(300, 300 + characters)))
    experiment = EXPERIMENTS[name]
    weights = [
        char_lm_training.build(
            char_lm_options.parse(["train", *experiment.shared.split(), *options.split()]),
            vocabulary,
        ).count_params()
        for options in experiment.rows.values()
    ]
    assert max(weights) < 1.01 * min(weights)


def test_first_seeds_come_first():
    options = results.parse(["train", "ptb", "cifar10"])
    jobs = results.jobs_of(options)
    rows = len(EXPERIMENTS["ptb"].rows)
    assert [job[2] for job in jobs] == [0] * (rows + 2) + [1] * rows + [2] * rows
    options = results.parse(["train", "ptb", "--rows", "LSTM", "--seeds", "1", "2"])
    assert results.jobs_of(options) == [["ptb", "LSTM", 1], ["ptb", "LSTM", 2]]
    assert {job[2] for job in results.jobs_of(results.parse(["train", "--small"]))} == {0}


def test_what_is_not_in_the_list(capsys):
    with pytest.raises(SystemExit):
        results.parse(["train", "ptv"])
    assert "EXPERIMENT must be of ptb, " in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"--rows \[.LSTN.\]"):
        results.jobs_of(results.parse(["train", "ptb", "--rows", "LSTN"]))


@pytest.fixture
def processes(monkeypatch):
    """Stands in for `subprocess.run`: records rows and seeds, and fails for the row `LSTM`."""
    started = []

    def run(command, stdout, stderr):
        options = results.parse(command[2:])
        row, number = options.rows[0], options.seeds[0]
        started.append((options.experiments, row, number, options.workers, options.small))
        stdout.write("as it went\n")
        return SimpleNamespace(returncode=int(row == "LSTM"))

    monkeypatch.setattr(results.subprocess, "run", run)
    return started


def test_each_training_is_a_process(processes, tmp_path, capsys):
    command = ["train", "tiny_shakespeare", "--workers", "2", "--output", str(tmp_path)]
    results.main(command)
    rows = EXPERIMENTS["tiny_shakespeare"].rows
    expected = [(["tiny_shakespeare"], row, seed, 0, False) for seed in (0, 1, 2) for row in rows]
    assert sorted(processes) == sorted(expected)
    for row in rows:
        assert [seed for _, other, seed, _, _ in processes if other == row][0] == 0
    log = folder_of(tmp_path, "tiny_shakespeare", "layer-norm LSTM", 2) / "log.txt"
    assert log.read_text() == "as it went\n"
    assert "tiny_shakespeare, layer-norm LSTM, seed 2: 0.0 minutes" in capsys.readouterr().out


def test_a_failure_is_told_in_the_end(processes, tmp_path):
    command = ["train", "ptb", "--rows", "LSTM", "layer-norm LSTM", "--output", str(tmp_path)]
    with pytest.raises(ValueError, match=r"ptb.LSTM.0.log\.txt says why"):
        results.main(command)
    # The other seeds have no learning rate; the other row goes on.
    assert [seed for _, row, seed, _, _ in processes if row == "LSTM"] == [0]
    assert len(processes) == 4


def test_shares_of_cores(monkeypatch):
    monkeypatch.setattr(results.os, "sched_getaffinity", lambda _: {4, 2, 7}, raising=False)
    assert results.shares_of_cores(2) == [["2", "7"], ["4"]]


def text_run(seed, bits, rank_two=False):
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
        **({"singular_values": [[[2.0, 1.0]] * 4, [[4.0, 1.0]] * 4]} if rank_two else {}),
    }


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A RESULTS.md, and what it knows: rows A and B differ by 0.5, B and C by nothing."""
    kept = {"A": [1.0, 1.1], "B": [1.5, 1.6], "C": [1.5, 1.6]}
    experiment = Text("Title", "ptb", "", dict.fromkeys(kept, ""), 2, 1, 1, seeds=(0, 1))
    (tmp_path / "docs").mkdir()
    for place in (results_report, experiments):
        monkeypatch.setattr(place, "EXPERIMENTS", {"letters": experiment})
    monkeypatch.setattr(results_report, "ROOT", tmp_path)
    monkeypatch.setattr(results_report, "RESULTS", tmp_path / "docs")
    (tmp_path / "RESULTS.md").write_text("Before.\n\n<!-- letters -->\n\n<!-- end -->\n\nAfter.\n")
    for row, values in kept.items():
        for seed, bits in enumerate(values):
            save(tmp_path / "runs", row, seed, text_run(seed, bits, row == "A"))
    results_report.report(tmp_path / "runs")
    return tmp_path


def save(output, row, seed, run):
    folder = folder_of(output, "letters", row, seed)
    folder.mkdir(parents=True, exist_ok=True)
    outputs.save_json(folder / "results.json", run)


def test_report(page):
    text = (page / "RESULTS.md").read_text()
    row = "| A | 1,234 | 0.008 | 1.050 ± 0.071 | 1.150 ± 0.071 | 1.100, 1.200 | 0.5 / 0.25 | 12 |"
    assert text.startswith("Before.\n") and text.endswith("<!-- end -->\n\nAfter.\n")
    assert row in text
    assert (page / "docs" / "letters.png").stat().st_size > 10_000
    kept = json.loads((page / "docs" / "letters.json").read_text())
    assert [run["settings"]["seed"] for run in kept["B"]] == [0, 1]
    # From what is kept the same page is made, and a new training replaces the old one.
    results_report.report(page / "nowhere")
    assert (page / "RESULTS.md").read_text() == text
    save(page / "runs", "A", 1, text_run(1, 3.0))
    results_report.report(page / "runs")
    assert "| 2.000 ± 1.414 |" in (page / "RESULTS.md").read_text()


def test_a_page_without_marks(page):
    (page / "RESULTS.md").write_text("<!-- letters -->")
    with pytest.raises(ValueError, match="must have <!-- letters --> once"):
        results_report.report(page / "runs")


def test_check(page, capsys):
    small = page / "small"
    for row, bits in {"A": 2.0, "B": 2.1, "C": 1.9}.items():
        save(small, row, 0, text_run(0, bits))
    with pytest.raises(ValueError, match=r"letters: A - C: -0\.500 .* here \+0\.100"):
        results_report.check(small)
    assert "1 of 2 differences are as in RESULTS.md" in capsys.readouterr().out
    save(small, "C", 0, text_run(0, 2.2))
    results_report.check(small)
    assert "2 of 2 differences are as in RESULTS.md" in capsys.readouterr().out
    with pytest.raises(ValueError, match="Nothing to compare"):
        results_report.check(page / "nowhere")


def test_standard_errors_of_one_seed():
    images = Images("Title", "mnist", "", {}, "")
    runs = [{"history": [{"val_error": error}]} for error in (10.0, 12.0)]
    difference, error = results_report.compare(images, runs[:1], runs[1:])
    assert difference == -2
    # 500 of 5,000 images are wrong within 21, 600 within 23.
    assert error == pytest.approx(100 * (0.1 * 0.9 / 5000 + 0.12 * 0.88 / 5000) ** 0.5)
    text = Text("Title", "ptb", "", {}, 1, 1, 1)
    runs = [{"history": [{"val_bits_per_character": bits}]} for bits in (1.0, 2.0)]
    assert results_report.compare(text, runs[:1], runs[1:]) == (-1, float("inf"))


@pytest.mark.slow
def test_trainings(tmp_path, monkeypatch, capsys):
    """The first seed chooses a learning rate, the second takes it; nothing is trained twice."""
    import results_training

    (tmp_path / "text.txt").write_text("abcabcacb" * 200)
    row = "--cell hyper_lstm --units 4 --hyper-units 3 --embedding-dim 2"
    shared = "--batch-size 2 --sequence-length 10 --steps-per-epoch 4 --train-characters 100"
    experiment = Text("T", str(tmp_path / "text.txt"), shared, {"A": row}, 2, 1, 1, seeds=(0, 1))
    started = []
    starts = {"A": lambda cell: started.append(cell.scale_kernel.assign(cell.scale_kernel * 0 + 1))}
    experiment = Text(**{**vars(experiment), "starts": starts})
    for place in (results, results_training):
        monkeypatch.setattr(place, "EXPERIMENTS", {"letters": experiment})
    monkeypatch.setattr(results_training, "RATES", (0.01,))
    monkeypatch.setattr(results_training, "RESULTS", tmp_path)
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
    (tmp_path / "letters.json").write_text(json.dumps({"A": found}))
    results.main([*command[:-1], str(tmp_path / "small"), "--small"])
    (small,) = (tmp_path / "small").rglob("results.json")
    assert len(json.loads(small.read_text())["history"]) == 1
    assert sys.modules["results_training"] is results_training
