"""The examples of sequences on other backends, where there is no SavedModel."""

import keras
import pytest

import char_lm


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="tests/test_char_lm.py has TensorFlow")
def test_char_lm(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("abcab cacb " * 200)
    command = "train --cell hyper_lstm --units 6 --hyper-units 4 --embedding-dim 2 --epochs 1"
    command = [*command.split(), "--batch-size", "4", "--sequence-length", "10", "--length", "20"]
    folder = tmp_path / "run"
    char_lm.main([*command, "--data", str(tmp_path / "text.txt"), "--output", str(folder)])
    assert (folder / "best.keras").exists() and (folder / "results.json").exists()
    assert not (folder / "saved_model").exists()
    assert "SavedModel" not in capsys.readouterr().out
