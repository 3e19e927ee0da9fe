"""SavedModels are loaded by plain TensorFlow, in a process that cannot import keras_hypernets."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from test_char_language_model import small

from common import outputs
from keras_hypernets import HyperLSTM
from keras_hypernets.export import export_saved_model, files
from keras_hypernets.models import char_lm

CLIENT = """
import json, sys
sys.modules["keras_hypernets"] = sys.modules["keras"] = None
try:
    import keras_hypernets
except ImportError:
    pass
else:
    raise SystemExit("keras_hypernets could be imported")
import tensorflow as tf

def answers(path):
    signatures = tf.saved_model.load(path).signatures
    results = {"signatures": sorted(signatures)}
    texts = tf.constant(["ab c", "é\\nb"])
    read = signatures["serving_default"](text=texts)
    results["logits"] = read["logits"].numpy().tolist()
    results["lengths"] = read["lengths"].numpy().tolist()
    ids = tf.constant([[0, 1, 3, 2], [5, 4, 1, 0]])
    results["tokens"] = signatures["tokens"](ids=ids)["logits"].numpy().tolist()
    settings = {"temperature": tf.constant(0.8), "seed": tf.constant(5)}
    settings |= {"top_k": tf.constant(5), "top_p": tf.constant(0.9)}

    def generate(prompt, length=12, stop="", **settings):
        given = {"prompt": tf.constant(prompt), "length": tf.constant(length), **settings}
        return signatures["generate"](stop=tf.constant(stop), **given)["text"]

    written = generate(["ab c", "é\\nb"], **settings)
    results["text"] = [text.decode() for text in written.numpy()]
    every = {**settings, "top_k": tf.constant(0), "top_p": tf.constant(1.0)}
    stopped = generate(["ab c", "é\\nb"], 40, "a", **every)
    results["stopped"] = [text.decode() for text in stopped.numpy()]

    step = signatures["step"]
    inputs = step.structured_input_signature[1]
    states = {n: tf.zeros([1, s.shape[1]]) for n, s in inputs.items() if n.startswith("state")}
    ids, drawn, position = [0, 1, 3], [], 0
    while len(drawn) < 12:
        one = {"ids": tf.constant([ids.pop(0)]), "position": tf.constant(position)}
        out = step(**one, **settings, **states)
        states = {n: out[n] for n in states}
        if not ids:
            drawn.append(int(out["next_id"][0]))
            ids, position = [drawn[-1]], position + 1
    results["stepped"] = drawn
    for signature, mistake in {
        "serving_default": {"text": tf.constant(["aXb"])},
        "tokens": {"ids": tf.constant([[0, 7]])},
        "step": {"ids": tf.constant([-1]), "position": tf.constant(0), **settings, **states},
    }.items():
        try:
            signatures[signature](**mistake)
        except tf.errors.InvalidArgumentError as error:
            results[f"bad {signature}"] = str(error)
    for temperature in (float("inf"), float("nan"), -0.1, 2e30):
        one = {"ids": tf.constant([1]), "position": tf.constant(0), **states}
        try:
            step(**one, **{**settings, "temperature": tf.constant(temperature)})
        except tf.errors.InvalidArgumentError as error:
            results[f"step at {temperature}"] = str(error)
    for name, mistake in {
        "empty": {"prompt": [""]},
        "none": {"prompt": tf.zeros([0], tf.string)},
        "length": {"length": 0},
        "long": {"length": 1001},
        "very long": {"length": 2**31 - 1, "prompt": ["a", "b"]},
        "many": {"length": 500, "prompt": ["a", "b", "c"]},
        "stop": {"stop": "aY"},
        "temperature": {"temperature": tf.constant(float("nan"))},
        "hot": {"temperature": tf.constant(float("inf"))},
        "top_k": {"top_k": tf.constant(-1)},
        "top_p": {"top_p": tf.constant(0.0)},
    }.items():
        try:
            generate(**{"prompt": ["a"], **settings, **mistake})
        except tf.errors.InvalidArgumentError as error:
            results[name] = str(error)
    results["most"] = len(generate(["a"], 1000, **settings).numpy()[0].decode())
    return results

print(json.dumps([answers(path) for path in sys.argv[1:]]))
"""


# Exports over a model and is killed before one of the three renames or after all, a process each.
KILLED = """
import itertools, os, shutil, sys
from pathlib import Path
import keras
from keras_hypernets.export import export_saved_model

def dense(features):
    return keras.Sequential([keras.Input((features,)), keras.layers.Dense(1)])

rename = Path.rename
for kill in range(4):
    process = os.fork()
    if not process:
        path = Path(sys.argv[1], str(kill), "killed", "model")
        export_saved_model(dense(2), path)
        renames = itertools.count()

        def killed(self, target):
            if next(renames) == kill:
                os._exit(9)
            return rename(self, target)

        Path.rename = killed
        shutil.rmtree = lambda folder: os._exit(9)
        export_saved_model(dense(3), path)
    if os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) != 9:
        raise SystemExit(f"not killed: {kill}")
"""


def dense(features):
    return keras.Sequential([keras.Input((features,)), keras.layers.Dense(1)])


def features(path):
    """How many a SavedModel takes, which tells the one from the other."""
    signature = tf.saved_model.load(str(path)).signatures["serving_default"]
    (spec,) = signature.structured_input_signature[1].values()
    return spec.shape[1]


class ExportSavedModel(tf.test.TestCase):
    def folder(self, name="exported"):
        return os.path.join(self.create_folder(), name)

    def create_folder(self):
        path = os.path.join(self.get_temp_dir(), self.id())
        os.makedirs(path, exist_ok=True)
        return path

    def test_another_process_computes_the_same(self):
        made = {}
        for cell in ("layer_norm_lstm", "lstm"):
            options = {"recurrent_dropout": 0.2} if cell == "layer_norm_lstm" else {}
            model = small(cell, layers=2, dropout=0.2, stateful=True, batch_size=3, **options)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile("adam", loss, run_eagerly=True)
            model.fit(np.ones((3, 5), int), np.ones((3, 5), int), batch_size=3, verbose=0)
            free = small(cell, layers=2, dropout=0.2)
            free.set_weights(model.get_weights())
            path = self.folder(cell)
            with warnings.catch_warnings(action="error"):  # its states start from zeros
                export_saved_model(model, path, max_length=1000)
            made[path] = model, free
        run = subprocess.run(
            [sys.executable, "-c", CLIENT, *made], capture_output=True, text=True, check=False
        )
        self.assertEqual(run.returncode, 0, run.stderr)
        for models, results in zip(made.values(), json.loads(run.stdout), strict=True):
            self.check_answers(*models, results)

    def check_answers(self, model, free, results):
        """Those of the client: `free` has the same weights as `model` and no states of its own."""
        self.assertEqual(results["signatures"], ["generate", "serving_default", "step", "tokens"])
        embedding = model.get_layer("embedding")
        self.assertEqual(results["lengths"], [4, 3])
        for text, logits in zip(("ab c", "é\nb"), results["logits"], strict=True):
            expected = free(embedding.encode(text)[None])[0]
            self.assertAllClose(logits[: len(text)], expected, 1e-6, 1e-6)
        self.assertAllClose(
            results["tokens"], free(np.array([[0, 1, 3, 2], [5, 4, 1, 0]])), 1e-6, 1e-6
        )
        texts = char_lm.generate(model, ["ab c", "é\nb"], 12, 0.8, 5, 5, 0.9)
        self.assertEqual(results["text"], texts)
        texts = char_lm.generate(model, ["ab c", "é\nb"], 40, 0.8, 5, stop="a")
        self.assertEqual(results["stopped"], texts)
        alone = char_lm.generate(model, "ab ", 12, 0.8, 5, 5, 0.9)
        self.assertEqual("ab " + embedding.decode(results["stepped"]), alone)
        for key, message in {
            "bad serving_default": "must be in the vocabulary. Unknown:] [X]",
            "bad tokens": "`ids` must be positions in the vocabulary",
            "bad step": "`ids` must be positions in the vocabulary",
            **dict.fromkeys(("temperature", "hot"), "`temperature` must be in [0, 1e30]"),
            **dict.fromkeys(
                [f"step at {temperature}" for temperature in ("inf", "nan", "-0.1", "2e+30")],
                "`temperature` must be in [0, 1e30]",
            ),
            **dict.fromkeys(
                ("long", "very long", "many"),
                "`length` times the number of prompts must be at most 1000",
            ),
            "top_k": "`top_k` must be at least 1, or 0 for all",
            "top_p": "`top_p` must be above 0 and at most 1",
            "stop": "`stop` must be in the vocabulary. Unknown:] [Y]",
            "empty": "`prompt` must have at least one character",
            "none": "`prompt` must have at least one text",
            "length": "`length` must be at least 1",
        }.items():
            self.assertIn(message, results[key])
        self.assertEqual(results["most"], 1001)

    def test_keras_own_export(self):
        def of_keras(model, path):
            model.export(path, verbose=False)

        other = keras.Sequential([keras.Input((None, 3)), HyperLSTM(4, hyper_units=3)])
        ids, vectors = np.ones((2, 5), "int32"), np.ones((2, 5, 3), "float32")
        for model, x, write in (
            (small(), ids, of_keras),
            (other, vectors, of_keras),
            (other, vectors, export_saved_model),
        ):
            path = self.folder()
            write(model, path)
            serve = tf.saved_model.load(path).signatures["serving_default"]
            (name,) = serve.structured_input_signature[1]
            (output,) = serve(**{name: tf.constant(x)}).values()
            self.assertAllClose(output, model(x), 1e-6, 1e-6)

    def test_appears_whole_or_not_at_all(self):
        path = self.folder()
        export_saved_model(dense(2), path)
        before = sorted(os.listdir(path))

        def fail(*_, **__):
            raise OSError("disk full")

        with mock.patch.object(tf.saved_model, "save", fail):
            for target in (path, self.folder("new")):
                with self.assertRaisesRegex(OSError, "disk full"):
                    export_saved_model(dense(3), target)
        self.assertEqual(os.listdir(os.path.dirname(path)), ["exported"])
        self.assertEqual(sorted(os.listdir(path)), before)
        self.assertEqual(features(path), 2)
        export_saved_model(dense(3), path)
        self.assertEqual(features(path), 3)
        self.assertEqual(os.listdir(os.path.dirname(path)), ["exported"])

    def test_a_kill_at_any_rename_leaves_a_model_that_the_next_export_keeps(self):
        folder = self.create_folder()
        run = subprocess.run(
            [sys.executable, "-c", KILLED, folder], capture_output=True, text=True, check=False
        )
        self.assertEqual(run.returncode, 0, run.stderr)
        without = []
        for kill in sorted(os.listdir(folder)):
            killed, resumed = (Path(folder, kill, name) for name in ("killed", "resumed"))
            shutil.copytree(killed, resumed)
            if not (killed / "model").exists():
                without.append(kill)
                self.assertEqual(features(killed / ".replaced-model"), 2)
            outputs.prepare_output(resumed, resume=True)
            self.assertEqual(features(resumed / "model"), 2 if int(kill) < 2 else 3)
            with mock.patch.object(files, "write_card", side_effect=OSError("full")):
                with self.assertRaisesRegex(OSError, "full"):
                    export_saved_model(dense(4), killed / "model")
            self.assertEqual(features(killed / "model"), 2 if int(kill) < 2 else 3)
            export_saved_model(dense(4), killed / "model")
            self.assertEqual(features(killed / "model"), 4)
            self.assertNotIn(".replaced-model", os.listdir(killed))
        self.assertEqual(without, ["1"])  # between the two renames, and only there

    def test_a_rename_that_fails_or_is_interrupted_leaves_a_model(self):
        """Also when nothing can be put back."""
        old, rename = self.folder("old"), Path.rename
        export_saved_model(dense(2), old)
        for first, last in itertools.combinations_with_replacement(range(3), 2):
            folder = Path(self.create_folder(), f"{first}-{last}")
            shutil.copytree(old, folder / "model")
            renames = itertools.count()

            def interrupted(self, target, failing=range(first, last + 1), renames=renames):
                if next(renames) in failing:
                    raise KeyboardInterrupt
                return rename(self, target)

            with mock.patch.object(Path, "rename", interrupted):
                with self.assertRaises(KeyboardInterrupt):
                    export_saved_model(dense(3), folder / "model")
            if (first, last) == (1, 2):
                self.assertEqual(os.listdir(folder), [".replaced-model"])
                outputs.prepare_output(folder, resume=True)
            self.assertEqual(features(folder / "model"), 3 if first == 2 else 2)

    def test_a_model_that_cannot_be_put_in_place_leaves_the_old_one(self):
        path = self.folder()
        export_saved_model(dense(2), path)
        rename = Path.rename

        def fail_for_the_new(self, target):
            if self.name == "new":
                raise OSError("no")
            return rename(self, target)

        with mock.patch.object(Path, "rename", fail_for_the_new):
            with self.assertRaisesRegex(OSError, "no"):
                export_saved_model(dense(3), path)
        self.assertEqual(features(path), 2)
        self.assertEqual(os.listdir(os.path.dirname(path)), ["exported"])

    def test_weights_are_written_once_with_lookup_tables(self):
        words = keras.Input((), dtype="string")
        lookup = keras.layers.StringLookup(vocabulary=["a", "b"])
        model = keras.Model(words, keras.layers.Embedding(3, 1000)(lookup(words)))
        path = export_saved_model(model, self.get_temp_dir() + "/lookup")
        shapes = [shape for _, shape in tf.train.list_variables(f"{path}/variables/variables")]
        self.assertEqual(shapes.count([3, 1000]), 1)
        loaded = tf.saved_model.load(path)
        given = tf.constant(["b", "unknown"])
        (answer,) = loaded.signatures["serving_default"](given).values()
        self.assertAllEqual(answer, model(given))

    def test_a_classifier_of_characters_is_no_language_model(self):
        ids = keras.Input((None,), dtype="int32")
        x = HyperLSTM(4, hyper_units=3)(char_lm.CharacterEmbedding("abc")(ids))
        model = keras.Model(ids, keras.layers.Dense(2)(x))
        path = self.folder()
        export_saved_model(model, path)
        signatures = tf.saved_model.load(path).signatures
        self.assertNotIn("generate", signatures)
        (output,) = signatures["serving_default"](tf.constant([[0, 1, 2]])).values()
        self.assertAllClose(output, model(np.array([[0, 1, 2]])), 1e-6, 1e-6)

    def test_a_stateful_model_says_that_its_states_stay(self):
        def chain(make, stateful, **inner):
            layers = make(stateful=stateful, name="rnn", **inner), keras.layers.Dense(1)
            batch = 2 if stateful else None
            return keras.Sequential([keras.Input(batch_shape=(batch, None, 3)), *layers], name="in")

        def both_ways(**options):
            return keras.layers.Bidirectional(keras.layers.LSTM(4, **options), name="both")

        def nested(stateful, name):
            return chain(keras.layers.LSTM, stateful, units=4)

        x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
        for make, options, layers in (
            (HyperLSTM, {"units": 4, "hyper_units": 3}, r"\['rnn'\]"),
            (both_ways, {}, r"\['both', 'both/forward_rnn', 'both/backward_rnn'\]"),
            (nested, {}, r"\['in/rnn'\]"),
        ):
            model, twin = (chain(make, stateful, **options) for stateful in (True, False))
            twin.set_weights(model.get_weights())
            path, path_of_twin = self.folder("stateful"), self.folder("twin")
            with self.assertWarnsRegex(UserWarning, f"a stateless twin.*layers {layers}") as caught:
                export_saved_model(model, path)
            self.assertEqual(caught.filename, __file__)
            with warnings.catch_warnings(action="error"):
                export_saved_model(twin, path_of_twin)
            for folder, keeps in ((path, True), (path_of_twin, False)):
                serve = tf.saved_model.load(folder).signatures["serving_default"]
                (name,) = serve.structured_input_signature[1]
                (one,), (two,) = (serve(**{name: tf.constant(x)}).values() for _ in range(2))
                self.assertAllClose(one, twin(x), 1e-6, 1e-6)
                self.assertEqual(np.abs(one - two).max() > 1e-3, keeps)

    def test_does_not_replace_what_is_no_saved_model(self):
        path = self.folder()
        os.makedirs(path)
        with self.assertRaisesRegex(ValueError, "`path` must be new, or a SavedModel to replace"):
            export_saved_model(small(), path)
        self.assertEqual(os.listdir(os.path.dirname(path)), ["exported"])

    def test_a_path_that_cannot_be_written(self):
        file = os.path.join(self.create_folder(), "file")
        with open(file, "w") as handle:
            handle.write("a file where a folder should be")
        for path in (os.path.join(file, "exported"), file, ""):
            with self.assertRaisesRegex(ValueError, "`path` must be .* Received: path="):
                export_saved_model(small(), path)
        self.assertEqual(os.listdir(os.path.dirname(file)), ["file"])
