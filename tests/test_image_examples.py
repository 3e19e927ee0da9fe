"""`mnist.py` and `cifar10.py` from the command line to the SavedModel."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import cifar10
import mnist
from common import command_line
from common.images import datasets as image_datasets
from common.images import training as image_training
from common.images.datasets import ImageData

EXAMPLES = Path(mnist.__file__).parent


def small_images(name="cifar10", shape=(8, 8, 3)):
    """Classes that a colour tells apart."""
    rng = np.random.default_rng(0)

    def part(count):
        labels = rng.integers(0, 3, count).astype("int32")
        images = rng.integers(0, 120, (count, *shape)).astype("uint8")
        images[np.arange(count), :, :, labels] += 60
        return images, labels

    test = part(30)
    return ImageData(name, part(64), part(20), lambda: test, ("a", "b", "c"), "0" * 64)


@pytest.fixture
def no_tensorflow_datasets(monkeypatch):
    monkeypatch.setattr(image_datasets, "load_images", lambda name: small_images())


def train_cifar10(output, *more):
    options = "--depth 10 --width 1 --steps 12 --batch-size 16 --no-jit-compile".split()
    cifar10.main([*options, "--output", str(output), *more])
    return json.loads(Path(output, "results.json").read_text())


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    with pytest.MonkeyPatch.context() as context:
        context.setattr(image_datasets, "load_images", lambda name: small_images())
        train_cifar10(folder, "--networks", "plain", "--seeds", "3")
    return folder


@pytest.fixture
def trained(trained_once, tmp_path, no_tensorflow_datasets):
    """A folder in which the ordinary network has been trained with seed 3."""
    return shutil.copytree(trained_once, tmp_path / "plain")


class Stop(keras.callbacks.Callback):
    """Interrupts in the middle of an epoch, as a killed process would."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch, logs=None):
        self.step -= 1
        if self.step == 0:
            raise KeyboardInterrupt


def interrupt_at(monkeypatch, step):
    fit = keras.Model.fit

    def fit_and_stop(*arguments, callbacks, **options):
        return fit(*arguments, callbacks=[Stop(step), *callbacks], **options)

    monkeypatch.setattr(keras.Model, "fit", fit_and_stop)


def without_times(results):
    for runs in results.values():
        for run in runs:
            for name in ("milliseconds_per_step", "wall_seconds", "model_sha256"):
                del run[name]  # the model's file says when it was written
            for record in run["history"]:
                del record["seconds"]
    return results


def arrays(folder):
    with np.load(folder / "checkpoint.npz") as file:
        return {name: file[name] for name in file.files if name != "record"}


class TestMnist:
    def test_digits_end_to_end(self, tmp_path, capsys):
        arguments = ["--dataset", "digits", "--epochs", "6", "--seeds", "0", "1"]
        mnist.main([*arguments, "--output", str(tmp_path)])
        printed = capsys.readouterr().out
        results = json.loads((tmp_path / "results.json").read_text())
        table = printed[printed.index("network") :].splitlines()[1:3]
        weights_of = (["5,710", "4,244"], ["14,010", "12,544"])
        for (name, runs), weights, line in zip(results.items(), weights_of, table, strict=True):
            assert len(runs) == 2
            mean = np.mean([run["error"]["test"] for run in runs])
            assert line.split()[:3] == [name, *weights]
            assert f" {mean:.2f} " in line
            for seed, run in enumerate(runs):
                assert run["settings"]["seed"] == seed
                assert run["error"]["test"] < 30  # 90 by guessing
                best = min(record["val_error"] for record in run["history"])
                assert run["error"]["validation"] == pytest.approx(best, abs=1e-4)
                first = next(r for r in run["history"] if r["val_error"] == best)
                assert run["best_epoch"] == first["epoch"]
        for name in ("curves.png", "hyper_filters.png", "plain_filters.png"):
            assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
            assert str(tmp_path / name) in printed
        images, labels = image_datasets.load_images("digits").test()
        served = tf.saved_model.load(str(tmp_path / "hyper-0" / "saved_model"))
        outputs = served.signatures["serving_default"](images=tf.constant(images))
        error = 100 * np.mean(outputs["class_name"].numpy().astype(int) != labels)
        assert error == pytest.approx(results["hyper"][0]["error"]["test"])
        card = json.loads((tmp_path / "hyper-0" / "saved_model" / "card.json").read_text())
        assert card["error"] == results["hyper"][0]["error"]
        assert card["settings"]["seed"] == 0 and card["class_names"] == list("0123456789")

    def test_patience_ends_training(self, tmp_path, monkeypatch):
        worse = itertools.count(1)

        def on_epoch_end(callback, epoch, logs):
            logs |= {"error": 0.0, "val_error": float(next(worse))}

        monkeypatch.setattr(image_training.ErrorRates, "on_epoch_end", on_epoch_end)
        arguments = "--dataset digits --epochs 50 --patience 1 --networks plain --seeds 3".split()
        mnist.main([*arguments, "--output", str(tmp_path)])
        (run,) = json.loads((tmp_path / "results.json").read_text())["plain"]
        assert (run["best_epoch"], run["epochs"]) == (1, 2)
        before = (tmp_path / "plain-3" / "checkpoint.npz").stat().st_mtime_ns
        mnist.main([*arguments, "--output", str(tmp_path), "--resume"])
        assert (tmp_path / "plain-3" / "checkpoint.npz").stat().st_mtime_ns == before

    def test_nothing_is_traced_again_and_again(self, tmp_path):
        """In a process of its own: TensorFlow warns by all that a process has done."""
        arguments = "--dataset digits --networks plain --epochs 1 --seeds 0 1 2".split()
        done = subprocess.run(
            [sys.executable, mnist.__file__, *arguments, "--output", tmp_path],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "retracing" not in done.stderr

    def test_results_of_a_training_before_are_not_taken_for_this_one(self, tmp_path, monkeypatch):
        """Without its checkpoint a run begins again; killed at its end, it is still evaluated."""

        def train(epochs):
            arguments = f"--dataset digits --networks plain --epochs {epochs} --resume".split()
            mnist.main([*arguments, "--output", str(tmp_path)])

        def killed(run):
            raise KeyboardInterrupt

        train(1)
        (tmp_path / "plain-0" / "checkpoint.npz").unlink()
        with monkeypatch.context() as context:
            context.setattr(image_training.Run, "report", killed)
            with pytest.raises(KeyboardInterrupt):
                train(2)
        train(2)
        results = json.loads((tmp_path / "plain-0" / "results.json").read_text())
        card = json.loads((tmp_path / "plain-0" / "saved_model" / "card.json").read_text())
        assert len(results["history"]) == 2
        assert card["error"] == results["error"] and card["settings"]["epochs"] == 2

    def test_a_run_that_diverges_is_reported_and_the_next_one_trained(
        self, tmp_path, monkeypatch, capsys
    ):
        def train(folder, *more):
            arguments = "--dataset digits --networks plain --epochs 2".split()
            mnist.main([*arguments, "--output", str(tmp_path / folder), *more])
            return json.loads((tmp_path / folder / "results.json").read_text())["plain"]

        make, rates = mnist.make_optimizer, [1e30]
        monkeypatch.setattr(
            mnist,
            "make_optimizer",
            lambda s: keras.optimizers.SGD(rates.pop()) if rates else make(s),
        )
        with pytest.raises(ValueError, match="^plain-0: .* is nan at step 2. .* Nothing was saved"):
            train("at_once", "--seeds", "0", "1")
        assert [*(tmp_path / "at_once" / "plain-0").iterdir()] == []
        (run,) = json.loads((tmp_path / "at_once" / "results.json").read_text())["plain"]
        assert [run["settings"]["seed"], run["diverged"], run["epochs"]] == [1, False, 2]

        rates += [keras.optimizers.schedules.PiecewiseConstantDecay([12], [1e-3, 1e30])] * 2
        results = train("later")
        assert [results[0][name] for name in ("diverged", "epochs")] == [True, 1]
        printed = capsys.readouterr().out
        assert "at step 15." in printed and "where training diverged" in printed
        assert train("later", "--resume") == results

    def test_schedules(self):
        paper, notebook = mnist.parse([]), mnist.parse(["--schedule", "notebook"])
        assert (paper.epochs, paper.patience, paper.batch_size) == (300, 30, 1000)
        assert (notebook.epochs, notebook.patience, notebook.batch_size) == (50, 0, 1000)
        assert mnist.parse(["--schedule", "notebook", "--patience", "4"]).patience == 4
        assert mnist.parse(["--dataset", "digits"]).batch_size == 100
        assert float(mnist.make_optimizer("paper").learning_rate) == pytest.approx(1e-3)
        optimizer = mnist.make_optimizer("notebook")
        for step, rate in ((0, 5e-3), (1000, 5e-3 * 0.999**1000), (10_000, 1e-4)):
            optimizer.iterations.assign(step)
            assert float(optimizer.learning_rate) == pytest.approx(rate, rel=1e-4)
        again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
        assert again.get_config() == optimizer.get_config()
        assert optimizer.clipvalue == 100


class TestCifar10:
    @pytest.mark.usefixtures("no_tensorflow_datasets")
    @pytest.mark.slow  # that of char_lm.py, with the same callbacks, is not
    def test_a_killed_run_continues_exactly(self, tmp_path, monkeypatch):
        whole = train_cifar10(tmp_path / "whole", "--seeds", "5")
        with monkeypatch.context() as context:
            interrupt_at(context, 6)
            with pytest.raises(KeyboardInterrupt):
                train_cifar10(tmp_path / "killed", "--seeds", "5")
        resumed = train_cifar10(tmp_path / "killed", "--seeds", "5", "--resume")
        assert without_times(resumed) == without_times(whole)
        for network in ("hyper", "plain"):
            one = arrays(tmp_path / "whole" / f"{network}-5")
            other = arrays(tmp_path / "killed" / f"{network}-5")
            assert one.keys() == other.keys()
            for name, value in one.items():
                np.testing.assert_array_equal(value, other[name])

    def test_results(self, trained, tmp_path):
        board = tmp_path / "board"
        options = "--networks hyper --seeds 3 --resume --tensorboard".split()
        results = train_cifar10(trained, *options, str(board))
        assert (trained / "hyper_embedding_similarity.png").read_bytes().startswith(b"\x89PNG")
        assert [path.name for path in board.iterdir()] == ["hyper-3"]
        assert len([*(board / "hyper-3").iterdir()]) == 1
        for network, weights in (("hyper", 81_635), ("plain", 77_395)):
            (run,) = results[network]
            assert run["parameters"] == weights
            assert [record["step"] for record in run["history"]] == [4, 8, 12]
            model = keras.models.load_model(trained / f"{network}-3" / "best.keras")
            images, labels = small_images().test()
            assert image_training.error_rate(model, images, labels) == run["error"]["test"]
            served = tf.saved_model.load(str(trained / f"{network}-3" / "saved_model"))
            outputs = served.signatures["serving_default"](images=tf.constant(images))
            probabilities = keras.ops.softmax(model(images))
            np.testing.assert_allclose(outputs["probabilities"], probabilities, 1e-4, 1e-4)

    def test_another_depth_is_not_resumed(self, trained):
        options = ("--networks", "plain", "--seeds", "3", "--resume")
        with pytest.raises(ValueError, match=re.escape("depth=16 (was 10)")):
            train_cifar10(trained, *options, "--depth", "16")

    def test_all_folders_are_checked_before_training(self, trained):
        with pytest.raises(ValueError, match="plain-3"):
            train_cifar10(trained, "--seeds", "3")
        assert not (trained / "hyper-3" / "checkpoint.npz").exists()

    def test_results_of_earlier_calls_stay(self, trained):
        first = json.loads((trained / "results.json").read_text())
        results = train_cifar10(trained, "--networks", "plain", "--seeds", "1", "--resume")
        assert [run["settings"]["seed"] for run in results["plain"]] == [1, 3]
        assert results["plain"][1] == first["plain"][0]

    @pytest.mark.usefixtures("no_tensorflow_datasets")
    def test_mixed_precision(self, tmp_path):
        options = "--precision mixed_float16 --networks hyper".split()
        try:
            (run,) = train_cifar10(tmp_path, *options)["hyper"]
        finally:
            keras.config.set_dtype_policy("float32")
        assert run["history"][-1]["loss"] < run["history"][0]["loss"]
        model = keras.models.load_model(tmp_path / "hyper-0" / "best.keras")
        assert model.output.dtype == "float32"

    def test_the_papers_schedule(self):
        hyper = {0: 2e-3, 168_000: 1e-3, 335_999: 1e-3, 504_000: 5e-5, 671_999: 5e-5}
        plain = {0: 0.1, 27_999: 0.1, 28_000: 0.02, 112_000: 1.6e-4, 139_999: 1.6e-4}
        for network, steps, points in (
            ("hyper", 672_000, hyper),
            ("plain", 140_000, plain),
            ("plain", 14_000, {2_799: 0.1, 2_800: 0.02, 11_200: 1.6e-4}),
        ):
            optimizer = cifar10.make_optimizer(network, steps)
            for step, rate in points.items():
                optimizer.iterations.assign(step)
                assert float(optimizer.learning_rate) == pytest.approx(rate), (network, step)
        options = cifar10.parse([])
        assert (options.depth, options.width, options.batch_size) == (40, 2, 128)

    def test_the_papers_model(self):
        options = cifar10.parse([])
        model = cifar10.make_model(options, small_images(shape=(32, 32, 3)), "hyper", 672_000)
        network = next(x for x in model.layers if isinstance(x, keras.Model))
        assert network.name == "hyper_resnet_40_2"
        stem = network.get_layer("hyper_network").target.get_layer("stem")
        regularizer = stem.kernel_regularizer
        assert float(regularizer(np.ones((2, 2)))) == pytest.approx(5e-4 / 2 * 4)

    def test_other_embeddings_and_tiles(self, tmp_path):
        options = cifar10.parse(
            "--depth 10 --width 1 --embedding-dim 4 --tile-size 8 --batch-size 2".split()
        )
        run = cifar10.make_run(options, small_images(shape=(8, 8, 3)), "hyper", 0, tmp_path)
        network = next(x for x in run.model.layers if isinstance(x, keras.Model))
        generator = network.get_layer("hyper_network").generator
        assert tuple(generator.tile_shape) == (3, 3, 8, 8)
        assert generator.embedding_dim == 4
        assert (run.settings["embedding_dim"], run.settings["tile_size"]) == (4, 8)


@pytest.mark.slow  # that models train alike on several devices, tests/compatibility says at once
def test_several_devices(tmp_path):
    """Two devices do what one does, and what they save can be resumed."""
    code = """
import sys
import cifar10
from common.images import datasets, training
import numpy as np
import keras
import tensorflow as tf
sys.path.insert(0, sys.argv[1])
from test_image_examples import Stop, small_images, train_cifar10

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
datasets.load_images = lambda name: small_images()
cifar10.make_optimizer = lambda network, steps: keras.optimizers.SGD(0.05)
output, options = sys.argv[2], ("--networks", "plain")
train_cifar10(output + "/one", *options)
both = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
training.distribution = lambda: both
train_cifar10(output + "/two", *options)
fit = keras.Model.fit
keras.Model.fit = lambda *a, callbacks, **k: fit(*a, callbacks=[Stop(6), *callbacks], **k)
try:
    train_cifar10(output + "/killed", *options)
except KeyboardInterrupt:
    keras.Model.fit = fit
    train_cifar10(output + "/killed", *options, "--resume")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path)],
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    one, two, killed = (
        json.loads((tmp_path / name / "results.json").read_text())["plain"][0]["history"]
        for name in ("one", "two", "killed")
    )
    for other in (two, killed):
        assert [record["step"] for record in other] == [4, 8, 12]
        for a, b in zip(one, other, strict=True):
            assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)
            assert a["val_loss"] == pytest.approx(b["val_loss"], rel=1e-2)


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        (mnist, ["--dataset", "svhn"], "argument --dataset: invalid choice: 'svhn'"),
        (mnist, ["--epochs", "0"], "must be a positive integer. Received: 0"),
        (mnist, ["--dataset", "digits", "--batch-size", "9999"], "must not exceed the 1258"),
        (mnist, ["--dataset", "digits", "--output", "/dev/null/x"], "can be written"),
        (cifar10, ["--networks", "big"], "argument --networks: invalid choice"),
        (cifar10, ["--depth", "17"], "must be 6n + 4"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(script, arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [script.__file__, *arguments])
    with pytest.raises(SystemExit) as caught:
        command_line.run(script.main)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error


@pytest.mark.parametrize(
    ("script", "prepared", "message"),
    [
        ("mnist.py --dataset fashion_mnist", None, "--dataset digits needs no download"),
        ("cifar10.py", "cifar10", "must not exceed the 45000 training images"),
    ],
)
def test_data_that_cannot_be_had_or_used_is_one_line(script, prepared, message, tmp_path):
    """Of processes of their own, since TensorFlow writes to stderr as well."""
    script, *more = script.split()
    environment = {**os.environ, "HTTPS_PROXY": "http://127.0.0.1:9"}
    environment |= {"https_proxy": environment["HTTPS_PROXY"]}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    if prepared is None:
        environment["TFDS_DATA_DIR"] = str(tmp_path)
    elif not os.path.isdir(os.path.join(os.environ.get("TFDS_DATA_DIR", ""), prepared)):
        pytest.skip(f"TFDS_DATA_DIR has no {prepared}")
    done = subprocess.run(
        [sys.executable, EXAMPLES / script, *more, "--batch-size", "99999", "--output", tmp_path],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert message in done.stderr
