import json

import pytest

from common import outputs


class TestFiles:
    def test_a_failed_write_leaves_the_old_file(self, tmp_path):
        path = tmp_path / "results.json"
        outputs.save_json(path, {"ä": 1})
        with pytest.raises(TypeError):
            outputs.save_json(path, {"ä": {1, 2}})
        with pytest.raises(RuntimeError), outputs.replacing(path) as unfinished:
            unfinished.write_text("half")
            assert json.loads(path.read_text("utf-8")) == {"ä": 1}
            raise RuntimeError
        assert json.loads(path.read_text("utf-8")) == {"ä": 1}
        assert list(tmp_path.iterdir()) == [path]

    def test_prepare_output(self, tmp_path):
        folder = tmp_path / "a" / "b"
        outputs.prepare_output(folder, resume=False)
        assert list(folder.iterdir()) == []
        (folder / outputs.CHECKPOINT).touch()
        (folder / f"{outputs.UNFINISHED}best.keras").touch()
        with pytest.raises(ValueError, match="holds a run"):
            outputs.prepare_output(folder, resume=False)
        outputs.prepare_output(folder, resume=True)
        assert [path.name for path in folder.iterdir()] == [outputs.CHECKPOINT]

    def test_an_output_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").touch()
        for folder in (tmp_path / "file", tmp_path / "file" / "folder"):
            with pytest.raises(ValueError, match="`--output` must be a folder that can be written"):
                outputs.prepare_output(folder, resume=False)

    def test_learning_curves(self, tmp_path):
        history = [
            {"step": 10, "loss": 2.0, "val_loss": 2.5},
            {"step": 20, "loss": 1, "val_loss": 2},
        ]
        path = tmp_path / "curve.png"
        histories = {"one": [history], "other": [history[:1], history]}
        for logarithmic in (False, True):
            outputs.save_learning_curves(path, histories, "loss", "loss (nats)", logarithmic)
            assert path.read_bytes().startswith(b"\x89PNG")
            assert list(tmp_path.iterdir()) == [path]

    def test_read_results(self, tmp_path):
        assert outputs.read_results(tmp_path) is None
        outputs.save_json(tmp_path / "results.json", {"error": float("nan"), "seeds": (0, 1)})
        assert outputs.read_results(tmp_path) == {"error": None, "seeds": [0, 1]}
