import json
import math
from pathlib import Path

import char_lm
import char_lm_training
import datasets
import demo
import pytest


class QuickRun:
    """Stands in for a training run; its results depend on the cell and the learning rate."""

    bits = {}
    trained = []

    def __init__(self, options):
        self.options = options
        self.output = Path(options.output)
        self.output.mkdir(parents=True, exist_ok=True)

    def fit(self):
        self.trained.append((self.options.cell, self.options.learning_rate, self.options.epochs))
        bits = self.bits[self.options.cell][demo.LEARNING_RATES.index(self.options.learning_rate)]
        self.history = [
            {"step": 250 * n, "bits_per_character": 2.0, "val_bits_per_character": bits / n}
            for n in range(1, self.options.epochs + 1)
        ]
        return self.history

    def report(self):
        bits = self.history[-1]["val_bits_per_character"]
        return {
            "bits_per_character": {"train": 1.0, "validation": bits, "test": bits},
            "parameters": 1234,
            "milliseconds_per_step": 12.3,
            "wall_seconds": 60,
            "settings": {"learning_rate": self.options.learning_rate},
            "sample": "def sample",
            "history": self.history,
        }


@pytest.fixture
def quick_run(monkeypatch):
    monkeypatch.setattr(char_lm_training, "Run", QuickRun)
    monkeypatch.setattr(QuickRun, "trained", [])
    return QuickRun


@pytest.mark.parametrize(
    ("hyper_lstm", "lstm", "rates", "verdict"),
    [
        ([5, 4, 6], [4.4, 5, math.nan], (0.016, 0.008), "The HyperLSTM wins: it needs 9.1% fewer"),
        ([math.nan, 5, 4], [5, 3, 4], (0.032, 0.016), "The LSTM wins: it needs 25.0% fewer"),
    ],
)
def test_demo(hyper_lstm, lstm, rates, verdict, quick_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(QuickRun, "bits", {"hyper_lstm": hyper_lstm, "lstm": lstm})
    demo.main(["--output", str(tmp_path)])
    out = capsys.readouterr().out
    assert verdict in out
    assert "What the HyperLSTM writes:\n\ndef sample\n" in out
    assert str(tmp_path / f"hyperlstm-{rates[0]}" / "saved_model") in out
    short = [(cell, r, demo.SHORT) for cell in ("hyper_lstm", "lstm") for r in demo.LEARNING_RATES]
    long = [("hyper_lstm", rates[0], demo.LONG), ("lstm", rates[1], demo.LONG)]
    assert quick_run.trained == [*short[:3], long[0], *short[3:], long[1]]
    assert (tmp_path / "curves.png").exists()
    results = json.loads((tmp_path / "results.json").read_text())
    assert [result["settings"]["learning_rate"] for result in results.values()] == [*rates]


def test_both_have_as_many_weights_within_a_percent():
    vocabulary = datasets.load_text("python-stdlib").vocabulary
    for text in (vocabulary, vocabulary[:50]):
        cells = (demo.HYPER_LSTM, demo.lstm_of_equal_size(text))
        hyper, lstm = (
            char_lm_training.build(char_lm.parse(["train", *cell]), text).count_params()
            for cell in cells
        )
        assert abs(lstm / hyper - 1) < 0.01
