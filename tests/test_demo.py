import json
import math
import random
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import char_lm
import demo
from common import training
from common.texts import datasets

RATES = (*demo.RATES, 0.064, 0.128)


class QuickRun:
    """Stands in for a training run; its results depend on the cell and the learning rate."""

    validation = "val_bits_per_character"
    prompt = "def"
    bits = {}
    trained = []

    def __init__(self, options):
        self.options = options
        self.output = Path(options.output)
        self.output.mkdir(parents=True, exist_ok=True)
        self.monitors = []

    def fit(self):
        self.trained.append((self.options.cell, self.options.learning_rate, self.options.epochs))
        self.checkpoint = SimpleNamespace(seconds=10 * self.options.epochs)
        rate = self.options.learning_rate
        bits = self.bits[self.options.cell][RATES.index(rate) if rate in RATES else -1]
        if math.isnan(bits):
            raise training.Diverged
        self.history = [
            {
                "step": self.options.steps_per_epoch * n,
                "bits_per_character": 2.0,
                "val_bits_per_character": bits / n,
            }
            for n in range(1, self.options.epochs + 1)
        ]
        return self.history

    def report(self):
        bits = self.history[-1]["val_bits_per_character"]
        return {
            "bits_per_character": {"train": 1.0, "validation": bits, "test": bits},
            "parameters": 1234,
            "milliseconds_per_step": 12.3,
            "settings": {"learning_rate": self.options.learning_rate},
            "sample": "def sample",
            "history": self.history,
        }


@pytest.fixture
def quick_run(monkeypatch):
    monkeypatch.setattr(char_lm, "make_run", QuickRun)
    monkeypatch.setattr(QuickRun, "trained", [])
    return QuickRun


def test_no_choice(quick_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(QuickRun, "bits", {"hyper_lstm": [4, 5, 6], "lstm": [6, 7, 5]})
    demo.main(["--steps-per-epoch", "7", "--output", str(tmp_path)])
    out = capsys.readouterr().out
    assert "The HyperLSTM wins: it needs 20.0% fewer" in out
    assert "What the HyperLSTM writes:\n\ndef sample\n" in out
    assert "were chosen" not in out
    assert quick_run.trained == [("hyper_lstm", 0.008, demo.LONG), ("lstm", 0.032, demo.LONG)]
    assert f"All training took {2 * demo.LONG * 10 / 60:.1f} minutes." in out
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["LSTM"]["history"][0]["step"] == 7


@pytest.mark.parametrize(
    ("hyper_lstm", "lstm", "rates", "verdict"),
    [
        (
            [5, 4, 6],
            [4.4, 5, math.nan, 5],
            (0.016, 0.008),
            "The HyperLSTM wins: it needs 9.1% fewer",
        ),
        ([math.nan, 5, 4, 6], [5, 3, 4], (0.032, 0.016), "The LSTM wins: it needs 25.0% fewer"),
        ([5, 4, 3, 2, 6], [5, 1, 4], (0.064, 0.016), "The LSTM wins: it needs 50.0% fewer"),
    ],
)
def test_choice(hyper_lstm, lstm, rates, verdict, quick_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(QuickRun, "bits", {"hyper_lstm": hyper_lstm, "lstm": lstm})
    demo.main(["--choose-learning-rates", "--output", str(tmp_path)])
    out = capsys.readouterr().out
    assert verdict in out
    assert str(tmp_path / f"hyperlstm-{rates[0]}" / "saved_model") in out
    assert "Learning rates were chosen on the validation text from 0.008, 0.016, 0.032" in out
    expected = []  # a best rate at an end of the grid has the next one tried
    for cell, bits, best in (("hyper_lstm", hyper_lstm, rates[0]), ("lstm", lstm, rates[1])):
        tried = (*RATES[:3], 0.004) if best == 0.008 else RATES[: len(bits)]
        expected += [*((cell, rate, demo.SHORT) for rate in tried), (cell, best, demo.LONG)]
    assert quick_run.trained == expected
    shorts = len(expected) - 2
    minutes = (shorts * demo.SHORT + 2 * (demo.LONG - demo.SHORT)) * 10 / 60
    assert f"All training took {minutes:.1f} minutes." in out
    assert (tmp_path / "curves.png").exists()
    results = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    assert [result["settings"]["learning_rate"] for result in results.values()] == [*rates]


SMALL = """
import sys
import demo

demo.HYPER_LSTM = "--cell hyper_simple_rnn --units 6 --hyper-units 4 --embedding-dim 2".split()
demo.TRAINING = "--batch-size 4 --sequence-length 10 --length 20".split()
demo.TRAINING += ["--prompt", "def ", "--data", sys.argv[1], "--train-characters", "2000"]
demo.LONG = 2
write = demo.models.char_lm.generate


def interrupt(*arguments):
    raise KeyboardInterrupt


demo.models.char_lm.generate = interrupt
for _ in range(2):
    try:
        demo.main(["--steps-per-epoch", "4", "--output", sys.argv[2]])
    except KeyboardInterrupt:
        demo.models.char_lm.generate = write
"""


def test_small_but_real(tmp_path):
    """In a process of its own: TensorFlow warns of retracing by all that a process has done."""
    text = tmp_path / "text"  # of as many validation batches in an epoch as hide what Keras traces
    text.write_text("".join(random.Random(0).choices(["def ", "abba ", "x.\n"], k=100_000)))
    done = subprocess.run(
        [sys.executable, "-c", SMALL, text, tmp_path],
        cwd=Path(demo.__file__).parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "8 steps of 4 x 10 characters, 0 of them done" in done.stdout
    assert "8 steps of 4 x 10 characters, 4 of them done" in done.stdout
    shown = re.findall(r"^ +(\d+)  +\d\.\d{3}   'def .{36,}'$", done.stdout, re.MULTILINE)
    assert shown == ["8", "4", "8"]  # the interruption came in place of the first line
    assert f"SavedModel  {tmp_path / 'hyperlstm-0.008' / 'saved_model'}" in done.stdout
    assert "Epoch" not in done.stdout
    assert "retracing" not in done.stderr


def test_both_have_as_many_weights_within_a_percent():
    vocabulary = datasets.load_text("python-stdlib").vocabulary
    for text in (vocabulary, vocabulary[:50]):
        cells = (demo.HYPER_LSTM, demo.lstm_of_equal_size(text))
        hyper, lstm = (
            char_lm.make_model(char_lm.parse(["train", *cell]), text).count_params()
            for cell in cells
        )
        assert abs(lstm / hyper - 1) < 0.01
