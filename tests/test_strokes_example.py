import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from figures import assert_complete

import results
import strokes
from common import command_line, outputs
from common.strokes import batching, datasets, evaluation, pictures
from experiments import training as experiment_training
from experiments.definitions import Drawings
from keras_hypernets import models

TINY = """--cell hyper_simple_rnn --units 6 --hyper-units 4 --embedding-dim 2 --mixtures 2 --seed 7
    --batch-size 4 --steps-per-epoch 5 --learning-rate 0.03 --train-drawings 8
    --dropout 0.1""".split()


def zigzag(points, rng):
    """A drawing whose pen is lifted after every third point and the last."""
    drawing = np.zeros((points, 3))
    drawing[:, 0] = rng.normal(20, 2, points)
    drawing[:, 1] = 30 * (-1) ** np.arange(points)
    drawing[2::3, 2] = 1
    drawing[-1, 2] = 1
    return drawing


def save_drawings(path, **changed):
    rng = np.random.default_rng(0)
    for name, count in (("train", 30), ("valid", 6), ("test", 5)):
        array = np.empty(count, object)
        array[:] = [zigzag(n, rng) for n in rng.choice([4, 5, 9], count)]  # few shapes to compile
        changed.setdefault(name, array)
    np.savez(path, **changed)
    return str(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return save_drawings(tmp_path_factory.mktemp("data") / "zigzag.npz")


def tiny_run(data, output, *options):
    arguments = ["train", "--data", data, *TINY, "--output", str(output), *options]
    return strokes.make_run(strokes.parse(arguments))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    output = tmp_path_factory.mktemp("trained")
    strokes.main(["train", "--data", data, *TINY, "--output", str(output), "--epochs", "4"])
    return output, json.loads((output / "results.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def model(trained):
    return evaluation.load(trained[0] / "best.keras")


class TestTrain:
    def test_writes_everything_and_learns(self, trained, data):
        output, found = trained
        assert sorted(path.name for path in output.iterdir()) == [
            "best.keras", "checkpoint.npz", "curve.png", "drawings.png", "results.json",
            "saved_model", "weight_changes.png",
        ]  # fmt: skip
        history = found["history"]
        assert [record["step"] for record in history] == [5, 10, 15, 20]
        best = min(record["val_nats_per_point"] for record in history)
        assert best < history[0]["nats_per_point"] - 0.2
        assert found["nats_per_point"]["validation"] == pytest.approx(best, rel=1e-5)
        settings, loaded = found["settings"], datasets.load_drawings(data)
        assert settings["scale"] == loaded.scale and settings["sha256"] == loaded.sha256
        assert settings["hyper_units"] == 4 and settings["resolution"] == 0
        per_drawing = found["nats_per_drawing"]["test"] / found["nats_per_point"]["test"]
        assert per_drawing == pytest.approx(np.mean([len(one) - 1 for one in loaded.test]))

    def test_a_stopped_run_continues_as_if_it_had_not_been_stopped(self, trained, data, tmp_path):
        class Stop(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                if run.checkpoint.step == 13:
                    raise KeyboardInterrupt

        run = tiny_run(data, tmp_path, "--epochs", "4")
        run.monitors.append(Stop())
        with pytest.raises(KeyboardInterrupt):
            run.fit()
        board = tmp_path / "board"
        resume = ["--epochs", "4", "--resume", "--tensorboard", str(board)]
        run = tiny_run(data, tmp_path, *resume)
        assert run.checkpoint.epoch == 2
        run.fit()
        (events,) = board.iterdir()
        assert b"spread/recurrent_0/d_h" in events.read_bytes()
        whole = trained[0]
        files = [np.load(path / "checkpoint.npz") for path in (tmp_path, whole)]
        for name in files[0].files:
            if name != "record":
                np.testing.assert_array_equal(*(file[name] for file in files))
        records = [json.loads(str(file["record"]))["history"] for file in files]
        for one, other in zip(*records, strict=True):
            assert {**one, "seconds": 0} == {**other, "seconds": 0}

    def test_each_part_costs_what_its_points_cost(self, trained, model, data):
        """Without padding, one drawing after the other, in float64."""
        _, found = trained
        loaded = datasets.load_drawings(data)
        nats = []
        for drawing in loaded.test:
            points = drawing[None] / [loaded.scale, loaded.scale, 1]
            parameters = model(points[:, :-1].astype("float32"))
            nats.append(np.array(models.stroke_loss(points[:, 1:], parameters), "float64")[0])
        expected = np.mean(np.concatenate(nats))
        assert found["nats_per_point"]["test"] == pytest.approx(expected, rel=1e-4)
        expected = np.mean([one.sum() for one in nats])
        assert found["nats_per_drawing"]["test"] == pytest.approx(expected, rel=1e-4)


def test_commands_on_a_trained_model(trained, data, tmp_path, capsys):
    output, found = trained
    checkpoint = ["--checkpoint", str(output / "best.keras")]
    strokes.main(["evaluate", "--data", data, "--train-drawings", "8", *checkpoint])
    out, err = capsys.readouterr()
    for name, count in (("train", 8), ("validation", 6), ("test", 5)):
        point, drawing = (found[f"nats_per_{what}"][name] for what in ("point", "drawing"))
        line = f"{point:.4f} nats per point, {drawing:.2f} per drawing ({count} drawings)\n"
        assert f"{name:10}  {line}" in out
    assert err == ""
    fewer = ["--max-points", "8", "--train-drawings", "8"]
    strokes.main(["evaluate", "--data", data, *fewer, *checkpoint])
    err = capsys.readouterr().err
    assert "the model was trained on other drawings" in err and found["settings"]["sha256"] in err

    drawings = ["--output", str(tmp_path / "new" / "drawn"), "--count", "3", "--length", "9"]
    strokes.main(["generate", *drawings, *checkpoint])
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["drawn.png", "drawn.svg"]
    assert (tmp_path / "new" / "drawn.svg").read_text().count("LineCollection") == 3

    strokes.main(["export", "--output", str(tmp_path / "saved_model"), *checkpoint])
    signatures = tf.saved_model.load(tmp_path / "saved_model").signatures
    assert {"serving_default", "step", "generate"} <= set(signatures)
    for path in (tmp_path / "saved_model", output / "saved_model"):
        card = json.loads((path / "card.json").read_text("utf-8"))
        assert card["nats_per_drawing"] == found["nats_per_drawing"]
        assert card["settings"] == found["settings"]


def test_generated_drawings_begin_at_a_point_without_offset(model):
    drawings = evaluation.generate(model, [2, 9, 5], 0.5, seed=1)
    assert [len(drawing) for drawing in drawings] == [2, 9, 5]
    expected = models.generate_strokes(model, 8, 0.5, 1, count=3)
    for drawing, one in zip(drawings, expected, strict=True):
        np.testing.assert_array_equal(drawing[0], 0)
        np.testing.assert_array_equal(drawing[1:], one[: len(drawing) - 1])


@pytest.mark.slow
def test_a_training_of_the_experiments(data, tmp_path, monkeypatch):
    options = "--batch-size 4 --train-drawings 8 --mixtures 2"
    rows = {"A": "--cell lstm --units 4"}
    experiment = Drawings("Title", Path(data).name, options, rows, 2, 1, rates=(0.03,), seeds=(3,))
    monkeypatch.setattr(experiment_training, "EXPERIMENTS", {"drawings": experiment})
    command = ["train", "--drawings", str(Path(data).parent), "--output", str(tmp_path)]
    experiment_training.train("drawings", "A", 3, results.parse(command))
    folder = tmp_path / "drawings" / "A" / "3"
    found = outputs.read_results(folder)
    assert len(found["history"]) == 2 and set(found["nats_per_drawing"]) == {*datasets.PARTS}
    settings = found["settings"]
    assert (settings["seed"], settings["data"], settings["diverged"]) == (3, "zigzag.npz", False)
    rates = found["short_runs"]
    assert settings["learning_rate"] == float(min(rates, key=rates.get))
    assert (folder / str(settings["learning_rate"]) / "drawings.png").exists()


class TestBatches:
    def batches(self, drawings, size=3, resolution=0.0):
        return batching.StrokeBatches(drawings, size, 1, 2.0, resolution)

    @pytest.fixture
    def drawings(self):
        rng = np.random.default_rng(0)
        return [zigzag(n, rng).astype("float32") for n in (2, 3, 9, 14, 20, 21, 30, 31)]

    def test_a_step_is_always_the_same_and_stretched_by_a_tenth(self, drawings):
        batches, others = self.batches(drawings), self.batches(drawings)
        assert batches.steps_per_pass == 2
        seen = set()
        for step in range(40):
            inputs, targets, weights = batch = batches.batch(step)
            for one, other in zip(batch, others.batch(step), strict=True):
                np.testing.assert_array_equal(one, other)
            np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
            for row, weight in zip(targets, weights, strict=True):
                points = int(weight.sum())
                seen.add(points)
                np.testing.assert_array_equal(weight, np.arange(len(weight)) < points)
                (drawing,) = (one for one in drawings if len(one) == points + 1)
                factors = 2 * row[:points, :2] / drawing[1:, :2]
                np.testing.assert_allclose(factors, factors[:1].repeat(points, 0), rtol=1e-5)
                assert np.all(np.abs(factors - 1) <= 0.1001)
                np.testing.assert_array_equal(row[:points, 2], drawing[1:, 2])
        assert seen == {len(drawing) - 1 for drawing in drawings}
        lengths = {batches.batch(step)[0].shape[1] for step in range(40)}
        assert lengths <= {5, 10, 15, 20, 25, 30}

    def test_evaluation_reads_every_drawing_once(self, drawings):
        batches = self.batches(drawings)
        parts = list(batches.evaluation_batches())
        assert len(parts) == batches.evaluation_steps
        found = []
        for _, targets, weights in parts:
            found += [row[weight > 0] for row, weight in zip(targets, weights, strict=True)]
        for one, drawing in zip(sorted(found, key=len), drawings, strict=True):
            np.testing.assert_allclose(one * [2, 2, 1], drawing[1:], rtol=1e-6)

    def test_noise_moves_coordinates_within_the_grid(self, drawings):
        batches = self.batches(drawings, resolution=4.0)
        ((_, targets, _),) = (
            part for part in batches.evaluation_batches() if part[1].shape[1] == 30
        )
        for row, drawing in zip(targets, drawings[-2:], strict=True):
            moved = np.cumsum(2 * row[: len(drawing) - 1, :2] - drawing[1:, :2], axis=0)
            assert 3 < np.ptp(moved) <= 8  # relative to the first point, which moves too

    def test_more_in_a_batch_than_there_are(self, drawings):
        with pytest.raises(ValueError, match="exceed the 8 training .*--batch-size 9"):
            self.batches(drawings, size=9)


def test_pictures(model, data):
    drawings = datasets.load_drawings(data).test
    dots = np.array([[0, 0, 1], [5, 5, 1], [2, 0, 0], [1, 9, 1]], "float32")
    figure = pictures.draw_grid([*drawings, dots], columns=2)
    assert len(figure.axes) == 6
    lines, points = figure.axes[-1].collections
    np.testing.assert_array_equal(lines.get_segments(), [[[7, 5], [8, 14]]])
    np.testing.assert_array_equal(points.get_offsets(), [[0, 0], [5, 5]])
    bottom, top = figure.axes[-1].get_ylim()
    assert bottom > top  # y is downward
    beside = pictures.draw_beside(drawings, drawings[::-1])
    assert_complete(beside)
    changes = pictures.draw_weight_changes(model, drawings[:3])
    assert_complete(changes)
    assert len(changes.axes) == 3 + 1  # one gate, and the colour bar
    coloured = changes.axes[0].collections[0]
    assert len(coloured.get_colors()) == len(coloured.get_segments())


class TestMistakes:
    @pytest.mark.parametrize(
        ("options", "fragment"),
        [
            (["--mixtures", "0"], "--mixtures: must be a positive integer. Received: 0"),
            (["--min-points", "1"], "--min-points: must be an integer of at least 2"),
            (["--min-points", "9", "--max-points", "8"], "`--min-points` must not exceed"),
            (["--min-points", "100"], "zigzag.npz, without one for train"),
            (["--resolution", "-1"], "--resolution: must be a number of at least 0"),
            (["--batch-size", "31"], "exceed the 30 training drawings"),
            (["--data", "missing"], "Received: 'missing'"),
            (["--cell", "gru"], "`cell` must be one of"),
            (["--cell-option", "units=5"], "--cell-option units: other options decide that"),
        ],
    )
    def test_train(self, options, fragment, data, tmp_path, capsys, monkeypatch):
        output = tmp_path / "new"
        arguments = ["train", "--data", data, *TINY, "--output", str(output), *options]
        self.fails(capsys, monkeypatch, arguments, fragment)
        assert not output.exists()

    def test_runs_and_checkpoints(self, trained, data, tmp_path, capsys, monkeypatch):
        train = ["train", "--data", data, *TINY, "--output", str(trained[0])]
        self.fails(capsys, monkeypatch, train, "`--output` holds a run")
        fewer = [*train, "--resume", "--epochs", "1"]
        self.fails(capsys, monkeypatch, fewer, "Received: 5 steps, 20 of which are done")
        more = [*train, "--resume", "--epochs", "4", "--min-points", "4"]
        self.fails(capsys, monkeypatch, more, "min_points=4 (was 2)")
        keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]).save(tmp_path / "other.keras")
        for name in ("other.keras", "missing.keras"):
            for command in ("evaluate", "generate", "export"):
                arguments = [command, "--checkpoint", str(tmp_path / name)]
                arguments += ["--data", data] if command == "evaluate" else []
                self.fails(capsys, monkeypatch, arguments, "`--checkpoint` must be a .keras file")

    def fails(self, capsys, monkeypatch, arguments, fragment):
        monkeypatch.setattr("sys.argv", ["strokes.py", *arguments])
        with pytest.raises(SystemExit) as caught:
            command_line.run(strokes.main)
        assert caught.value.code == 2
        err = capsys.readouterr().err
        assert fragment in err and err.count("\n") == 1
