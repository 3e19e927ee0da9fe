import json
import math
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import char_lm
from common import command_line
from common.texts import batching, datasets, evaluation
from common.texts.training import CarriedStates
from keras_hypernets.models.sequences.recurrent_stack import RECURRENT_LAYERS

SCRIPT = char_lm.__file__
SHORT = """--units 6 --sequence-length 10 --batch-size 4 --seed 7 --steps-per-epoch 8
    --learning-rate 0.05 --length 20""".split()
TINY = [*SHORT, *"--hyper-units 4 --embedding-dim 2 --no-jit-compile".split()]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """The path of 3,000 characters that are easy to learn: 74 batches of 4 x 10 in a pass."""
    words = np.random.default_rng(0).choice(["abba ", "cd.\n", "eé "], 1000)
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(words)[:3000], "utf-8")
    return str(path)


def tiny_run(text, output, *options):
    return char_lm.make_run(
        char_lm.parse(["train", "--data", text, *TINY, "--output", str(output), *options])
    )


def without_times(results):
    times = ("milliseconds_per_step", "wall_seconds", "seconds")
    if isinstance(results, list):
        return [without_times(record) for record in results]
    kept = {name: value for name, value in results.items() if name not in times}
    return {**kept, "history": without_times(kept["history"])} if "history" in kept else kept


@pytest.fixture(scope="module")
def trained(text, tmp_path_factory):
    run = tiny_run(text, tmp_path_factory.mktemp("trained"), "--epochs", "4")
    step, traces = run.model.train_step, []
    run.model.train_step = lambda data: traces.append(1) or step(data)
    run.fit()
    assert len(traces) == 1
    return run, run.report()


class TestTrain:
    def test_writes_everything_and_learns(self, trained, text):
        run, results = trained
        assert sorted(path.name for path in run.output.iterdir()) == [
            "best.keras", "checkpoint.npz", "curve.png", "results.json", "saved_model",
            "weight_changes.png",
        ]  # fmt: skip
        assert json.loads((run.output / "results.json").read_text("utf-8")) == results
        history, bits = results["history"], results["bits_per_character"]
        assert [record["step"] for record in history] == [8, 16, 24, 32]
        assert history[0]["bits_per_character"] == pytest.approx(history[0]["loss"] / np.log(2))
        assert bits["validation"] < history[0]["bits_per_character"] < np.log2(11) + 0.5
        assert results["parameters"] == run.model.count_params()
        settings = results["settings"]
        assert settings["hyper_units"] == 4 and settings["embedding_dim"] == 2
        assert settings["sha256"] == datasets.load_text(text).sha256
        assert {"python", "keras", "tensorflow", "numpy"} < set(results["versions"])
        assert len(results["sample"]) == 40 + 20

    def test_steps_end_within_an_epoch_and_may_grow(self, text, tmp_path):
        """And TensorBoard gets the generated weights of every run."""
        output, board = tmp_path / "run", tmp_path / "board"

        def steps(*options):
            options += ("--cell", "hyper_simple_rnn")  # takes the least time to compile
            options += ("--tensorboard", str(board))
            return [record["step"] for record in tiny_run(text, output, *options).fit()]

        assert steps("--steps", "10") == [8, 10]
        assert steps("--steps", "20", "--resume") == [8, 10, 18, 20]
        first, second = (file.read_bytes() for file in sorted(board.iterdir()))
        before = {path: path.stat().st_mtime_ns for path in output.iterdir()}
        assert steps("--steps", "20", "--resume") == [8, 10, 18, 20]
        assert before == {path: path.stat().st_mtime_ns for path in output.iterdir()}
        for name in (b"spread/recurrent_0/d_h", b"weight_changes/recurrent_0"):
            assert name in first and name in second

    @pytest.mark.parametrize("cell", RECURRENT_LAYERS)
    def test_every_cell_without_options(self, cell, text, tmp_path):
        arguments = ["train", "--data", text, "--cell", cell, "--layers", "2", "--units", "5"]
        arguments += ["--sequence-length", "30", "--output", str(tmp_path), "--no-jit-compile"]
        run = char_lm.make_run(char_lm.parse([*arguments, "--epochs", "3"]))
        assert run.steps == 3 * run.batches.steps_per_pass
        config = run.model.get_layer("recurrent_1").get_config()
        config = config["cell"]["config"] if "cell" in config else config
        assert run.options.cell_options.items() <= config.items()
        assert config.get("hyper_units") == (32 if run.generates_weights else None)

    def test_other_arguments_of_the_layer(self, text, tmp_path):
        arguments = ["--cell-option", "weight_generation=full"]
        arguments += ["--cell-option", "layer_norm_epsilon=1e-5"]
        run = tiny_run(text, tmp_path, *arguments)
        cell = run.model.get_layer("recurrent_0").cell
        assert (cell.weight_generation, cell.layer_norm_epsilon) == ("full", 1e-5)
        assert run.checkpoint.settings["layer_norm_epsilon"] == 1e-5

    def test_states_are_carried_within_a_pass_and_forgotten_between_two(self, text, tmp_path):
        run = tiny_run(text, tmp_path)
        callback = CarriedStates(run.batches, run.checkpoint)
        callback.set_model(run.model)
        one_pass, states = run.batches.steps_per_pass, run.model.get_layer("recurrent_0").states
        for step, expected in ((0, 0), (1, 1), (one_pass - 1, 1), (one_pass, 0), (one_pass + 1, 1)):
            for state in states:
                state.assign(np.ones(state.shape))
            run.checkpoint.step = step
            callback.on_train_batch_begin(0)
            assert {float(np.mean(state)) for state in states} == {expected}

    def test_only_a_better_model_replaces_the_best(self, text, tmp_path):
        run = tiny_run(text, tmp_path)
        validation = run.callbacks[0]
        validation.set_model(run.model)
        for best, written in ((0.0, False), (math.nan, False), (math.inf, True)):
            run.best.best, logs = best, {}
            for callback in (validation, run.best):
                callback.on_epoch_end(0, logs)
            assert run.best.path.exists() == written
        assert run.best.best == logs["val_bits_per_character"] == pytest.approx(3.2, abs=0.5)

    def test_the_learning_rate_decays(self, text, tmp_path):
        for patience, expected in (("0", [0.5, 0.25, 0.125]), ("1", [0.5, 0.5, 0.25])):
            run = tiny_run(text, tmp_path / patience, "--patience", patience)
            rates = []
            model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
            model.compile(keras.optimizers.SGD(0.5), "mse")

            class Worse(keras.callbacks.Callback):
                def on_epoch_end(self, epoch, logs=None, model=model, rates=rates):
                    logs["val_bits_per_character"] = 1.0 + epoch
                    rates.append(float(model.optimizer.learning_rate))

            x = np.zeros((1, 1))
            model.fit(x, x, epochs=3, verbose=0, callbacks=[Worse(), *run.callbacks[2:]])
            assert rates == expected

    def test_early_stopping(self, text, tmp_path):
        """Ends the run, which is then finished: resumed, it does not train on."""
        options = ["--early-stopping", "2", "--learning-rate", "1e-9", "--steps-per-epoch", "2"]
        options += ["--cell", "hyper_simple_rnn"]  # takes the least time to compile
        run = tiny_run(text, tmp_path, "--epochs", "9", *options)
        run.best.on_epoch_end = lambda epoch, logs: logs.update(val_bits_per_character=2.0 + epoch)
        assert [record["epoch"] for record in run.fit()] == [1, 2, 3]
        resumed = tiny_run(text, tmp_path, "--epochs", "9", *options, "--resume")
        assert len(resumed.fit()) == 3
        patient = tiny_run(text, tmp_path, "--epochs", "4", *options[2:], "--resume")
        assert len(patient.fit()) == 4


KILLED_WHILE_WRITING = """
import os, signal, sys
import char_lm
from common import command_line, training

save, calls = training.np.savez, []

def save_or_die(path, **arrays):
    calls.append(path)
    save(path, **arrays)
    if len(calls) == 3:
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)

training.np.savez = save_or_die
command_line.run(char_lm.main)
"""


@pytest.mark.parametrize("batching", ["streams", pytest.param("windows", marks=pytest.mark.slow)])
def test_a_killed_run_continues_as_if_it_had_not_been_killed(batching, text, tmp_path):
    options = ["--data", text, *SHORT, "--no-jit-compile", "--cell", "layer_norm_lstm"]
    options += ["--batching", batching, "--dropout", "0.2", "--recurrent-dropout", "0.2"]
    options += ["--epochs", "6", "--steps-per-epoch", "31", "--patience", "1"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, "train", *options]
    process = subprocess.run(
        [*command, "--output", str(killed)],
        cwd=Path(SCRIPT).parent,
        capture_output=True,
        text=True,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert (killed / ".unfinished-checkpoint.npz").exists()
    assert not (killed / "results.json").exists()

    resumed, run = (
        char_lm.make_run(char_lm.parse(["train", *options, "--output", str(output), "--resume"]))
        for output in (killed, whole)
    )
    assert resumed.checkpoint.epoch == 2
    assert without_times(resumed.fit()) == without_times(run.fit())
    best = [evaluation.load(one.best.path).get_weights() for one in (resumed, run)]
    for one, other in zip(*best, strict=True):
        np.testing.assert_array_equal(one, other)
    with np.load(killed / "checkpoint.npz") as one, np.load(whole / "checkpoint.npz") as other:
        names = [name for name in one.files if name.startswith("variable_")]
        states = 2 if batching == "streams" else 0
        assert len(names) == len(run.model.variables + run.model.optimizer.variables) + states
        for name in names:
            np.testing.assert_array_equal(one[name], other[name])
    assert sorted(p.name for p in killed.iterdir()) == sorted(p.name for p in whole.iterdir())


def test_resume_of_what_the_demo_runs(text, tmp_path):
    """XLA, a plain LSTM of two layers, a learning rate that decays each epoch."""
    options = ["--jit-compile", "--patience", "0", "--cell", "lstm", "--layers", "2"]
    options += ["--dropout", "0.2"]

    def run(folder, epochs):
        arguments = ["train", "--data", text, *SHORT, *options, "--output", str(tmp_path / folder)]
        run = char_lm.make_run(char_lm.parse([*arguments, "--epochs", str(epochs), "--resume"]))
        return without_times(run.fit()), run.model.get_weights()

    run("resumed", 2)
    history, weights = run("resumed", 4)
    expected, expected_weights = run("whole", 4)
    assert history == expected
    for a, b in zip(weights, expected_weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_step_n_learns_from_batch_n(text, tmp_path):
    """`fit` on a generator, compiled with XLA, against one step after the other by hand."""
    cell = ("--cell", "hyper_simple_rnn")  # takes the least time to compile
    options = ("--steps", "3", "--steps-per-epoch", "3", "--jit-compile", *cell)
    run = tiny_run(text, tmp_path, *options)
    run.fit()
    other = tiny_run(text, tmp_path / "other", *cell)
    other.model.compile(
        keras.optimizers.Adam(0.05, global_clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,
    )
    for step in range(3):
        other.model.train_on_batch(*other.batches.batch(step))
    for a, b in zip(run.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, 1e-4, 1e-6)


class TestEvaluation:
    def test_one_stream_predicts_every_character_but_the_first_once(self, trained, capsys):
        run, results = trained
        model = evaluation.load(run.best.path)
        for name in ("validation", "test"):
            ids = model.get_layer("embedding").encode(getattr(run.text, name))
            probabilities = keras.ops.softmax(model(ids[None, :-1]))[0]
            bits = -np.log2(np.take_along_axis(np.array(probabilities), ids[1:, None], axis=1))
            expected = results["bits_per_character"][name]
            assert bits.mean(dtype="float64") == pytest.approx(expected, rel=1e-5)
            chunks = list(batching.evaluation_chunks(ids, 7))  # the last one is shorter
            bits = evaluation.mean_bits(evaluation.reader_of(model), chunks)
            assert bits == pytest.approx(expected, rel=1e-5)

    def test_commands_on_a_trained_model(self, trained, text, tmp_path, capsys):
        run, results = trained
        checkpoint = ["--checkpoint", str(run.best.path)]
        char_lm.main(["evaluate", "--data", text, *checkpoint])
        out, err = capsys.readouterr()
        assert run.text.description in out and err == ""
        other = ["--validation-share", "0.1", "--train-characters", "50"]
        char_lm.main(["evaluate", "--data", text, *other, *checkpoint])
        out_of_other, err = capsys.readouterr()
        assert "(49 predicted)" in out_of_other and run.text.sha256 in err
        for name, part in (("train", 2699), ("validation", 149), ("test", 149)):
            bits = results["bits_per_character"][name]
            assert f"{name:10}  {bits:.4f} bits per character ({part:,} predicted)\n" in out
        options, sample = ["--length", "20", "--seed", "7"], results["sample"]
        options += ["--prompt", run.prompt]
        written = sample[len(run.prompt) :]
        stop = max(written, key=written.index)  # the one that comes last for the first time
        char_lm.main(["generate", *options, "--stop", stop, *checkpoint])
        end = sample.index(stop, len(run.prompt)) + 1
        assert capsys.readouterr().out == sample[:end] + "\n"
        char_lm.main(["generate", *options, "--top-k", "2", "--top-p", "0.9", *checkpoint])
        few = capsys.readouterr().out
        assert few.startswith(run.prompt) and few != sample + "\n"
        char_lm.main(["export", "--output", str(tmp_path / "new"), *checkpoint])
        for path in (tmp_path / "new", run.output / "saved_model"):
            signatures = tf.saved_model.load(path).signatures
            assert {"serving_default", "tokens", "step", "generate"} <= set(signatures)
            card = json.loads((path / "card.json").read_text("utf-8"))
            assert card["bits_per_character"] == results["bits_per_character"]
            assert card["settings"] == results["settings"]
            assert card["vocabulary"] == run.text.vocabulary
        assert capsys.readouterr().err == ""

    def test_a_card_has_no_scores_of_a_model_before(self, trained, tmp_path, capsys):
        """As if training had found a better model and had been killed before it was evaluated."""
        folder, saved_model = tmp_path / "run", tmp_path / "saved_model"
        shutil.copytree(trained[0].output, folder)
        model = keras.models.load_model(folder / "best.keras")
        model.set_weights([0.9 * weight for weight in model.get_weights()])
        model.save(folder / "best.keras")
        checkpoint = ["--checkpoint", str(folder / "best.keras")]
        char_lm.main(["export", *checkpoint, "--output", str(saved_model)])
        card = json.loads((saved_model / "card.json").read_text("utf-8"))
        error = capsys.readouterr().err
        assert "bits_per_character" not in card and "settings" not in card
        assert error.count("\n") == 1 and str(folder) in error and "--resume" in error


class TestBadInput:
    """Each is one line on stderr and exit code 2, and nothing is written."""

    def fails(self, capsys, monkeypatch, arguments, *fragments):
        # Looks for garbage, which takes long in a process as full as that of all tests.
        monkeypatch.setattr(keras.utils, "clear_session", lambda: None)
        monkeypatch.setattr(sys, "argv", ["char_lm.py", *arguments])
        with pytest.raises(SystemExit) as caught:
            command_line.run(char_lm.main)
        assert caught.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("char_lm.py") and error.count("\n") == 1, error
        for fragment in fragments:
            assert fragment in error

    @pytest.mark.parametrize(
        ("options", "fragment"),
        [
            (["--units", "0"], "--units: must be a positive integer. Received: 0"),
            (["--layers", "1.5"], "--layers: must be a positive integer. Received: 1.5"),
            (["--dropout", "1"], "--dropout: must be a number in [0, 1). Received: 1"),
            (["--recurrent-dropout", "-0.1"], "--recurrent-dropout: must be a number in [0, 1)"),
            (["--cell", "gru"], "`cell` must be one of 'hyper_lstm', "),
            (["--batching", "x"], "invalid choice: 'x'"),
            (["--cell", "lstm"], "passed to LSTM: {'hyper_units': 4, 'embedding_dim': 2}"),
            (["--cell", "hyper_simple_rnn", "--recurrent-dropout", "0.1"], "dropout` must be 0"),
            (["--cell-option", "forget_bias"], "must be NAME=VALUE. Received: forget_bias"),
            (["--cell-option", "forget_bais=1"], "forget_bais"),
            (["--cell-option", "layer_norm_epsilon=-1"], "`layer_norm_epsilon` must be"),
            (["--cell-option", "units=5"], "--cell-option units: other options decide that"),
            (["--cell-option", "embedding_dim=5"], "--cell-option embedding_dim: other options"),
            (["--cell-option", "stateful=false"], "--cell-option stateful: other options"),
            (["--epochs", "1", "--steps", "1"], "not allowed with"),
            (["--data", "missing"], "'missing'"),
            (["--validation-share", "0.5"], "validation_share=0.5"),
            (["--validation-share", "x"], "--validation-share"),
            (["--sequence-length", "3000"], "sequence_length=3000"),
            (["--prompt", ""], "`--prompt` must have at least one character"),
            (["--prompt", "aé\U0001f600"], "unknown '\U0001f600'"),
            (["--learning-rate-decay", "2"], "--learning-rate-decay: must be a number in (0, 1]"),
            (["--temperature", "-1"], "--temperature: must be a number in [0, 1e30]"),
            (["--unknown"], "unrecognized arguments: --unknown"),
        ],
    )
    def test_train(self, options, fragment, text, tmp_path, capsys, monkeypatch):
        output = tmp_path / "new"
        arguments = ["train", "--data", text, *TINY, "--output", str(output), *options]
        self.fails(capsys, monkeypatch, arguments, fragment)
        assert not output.exists()

    def test_texts(self, tmp_path, capsys, monkeypatch):
        for content, fragment in ((b"", "no characters"), (b"a\xff" * 99, "UTF-8")):
            (tmp_path / "text").write_bytes(content)
            arguments = ["train", "--data", str(tmp_path / "text"), "--output", str(tmp_path / "o")]
            self.fails(capsys, monkeypatch, arguments, fragment)
        assert [path.name for path in tmp_path.iterdir()] == ["text"]

    def test_outputs(self, trained, text, tmp_path, capsys, monkeypatch):
        (tmp_path / "file").touch()
        arguments = ["train", "--data", text, *TINY, "--output"]
        self.fails(capsys, monkeypatch, [*arguments, str(tmp_path / "file")], "can be written")
        used = str(trained[0].output)
        self.fails(capsys, monkeypatch, [*arguments, used], "`--output` holds a run")
        fewer = [*arguments, used, "--resume", "--epochs", "1"]
        self.fails(capsys, monkeypatch, fewer, "Received: 8 steps, 32 of which are done")
        more = [*arguments, used, "--resume", "--epochs", "4", "--units", "7"]
        self.fails(capsys, monkeypatch, more, "Received: units=7 (was 6)")
        export = ["export", "--checkpoint", str(trained[0].best.path), "--output"]
        self.fails(capsys, monkeypatch, [*export, str(tmp_path / "file")], "`path` must be new")

    def test_checkpoints(self, trained, text, tmp_path, capsys, monkeypatch):
        other = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        other.save(tmp_path / "other.keras")
        (tmp_path / "damaged.keras").write_bytes(trained[0].best.path.read_bytes()[:5000])
        for name in ("other.keras", "damaged.keras", "missing.keras", "."):
            for command in (
                ["evaluate", "--data", text],
                ["generate", "--prompt", "a"],
                ["export"],
            ):
                arguments = [*command, "--checkpoint", str(tmp_path / name)]
                self.fails(capsys, monkeypatch, arguments, "`--checkpoint` must be", name)

    def test_texts_and_prompts_for_another_model(self, trained, tmp_path, capsys, monkeypatch):
        checkpoint = ["--checkpoint", str(trained[0].best.path)]
        (tmp_path / "text").write_text("xyz" * 99)
        arguments = ["evaluate", "--data", str(tmp_path / "text"), *checkpoint]
        self.fails(capsys, monkeypatch, arguments, "'x', 'y', 'z'")
        self.fails(capsys, monkeypatch, ["generate", "--prompt", "x", *checkpoint], "unknown 'x'")
        self.fails(capsys, monkeypatch, ["generate", "--prompt", "", *checkpoint], "at least one")

    def test_as_a_script_there_is_nothing_else_on_stderr(self, text, tmp_path):
        arguments = ["train", "--data", text, *TINY, "--prompt", "\U0001f600"]
        process = subprocess.run(
            [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, cwd=tmp_path
        )
        assert process.returncode == 2
        assert process.stderr.startswith("char_lm.py: error: Every character of `--prompt` must")
        assert process.stderr.count("\n") == 1
        assert process.stdout == ""
        assert list(tmp_path.iterdir()) == []


def test_mistakes_show_before_tensorflow_loads(text):
    code = "import sys, char_lm; char_lm.parse(['train']); print('tensorflow' in sys.modules)"
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(SCRIPT).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout == "False\n"
