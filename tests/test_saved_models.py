"""The trained models of this repository have their scores."""

import contextlib
import io
import json
import math
import re
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tensorflow as tf

from keras_hypernets.models.strokes import stroke_loss

ROOT = Path(__file__).parent.parent
MODELS, DATA = ROOT / "saved_models", ROOT / "tests" / "data" / "saved_models"


def load(name):
    folder = MODELS / name
    return tf.saved_model.load(str(folder)), json.loads((folder / "card.json").read_text("utf-8"))


class SavedModels(unittest.TestCase):
    def test_each_has_a_card_and_a_description(self):
        folders = sorted(path.name for path in MODELS.iterdir() if path.is_dir())
        readme = (MODELS / "README.md").read_text("utf-8")
        self.assertCountEqual(re.findall(r"^## (\w+)$", readme, re.MULTILINE), folders)
        for name in folders:
            model, card = load(name)
            self.assertEqual(set(card["signatures"]), set(model.signatures))
            self.assertTrue({"command", "settings", "versions"} <= set(card))
            self.assertIn(f"{card['parameters']:,} weights", readme)
        size = sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file())
        self.assertLess(size, 10e6)

    def test_python_in_the_description_runs(self):
        readme = (MODELS / "README.md").read_text("utf-8").replace("saved_models/", f"{MODELS}/")
        readme = readme.replace(f"tests/data/{MODELS}", str(DATA))
        text, kanji, *images = re.findall(
            r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL
        )
        self.assertEqual(len(self.printed_by(text)), len("def ") + 200 + len("\n"))
        with TemporaryDirectory() as folder:
            picture = Path(folder, "kanji.png")
            self.printed_by(kanji.replace("kanji.png", str(picture)))
            self.assertGreater(picture.stat().st_size, 5_000)
        for block in images:
            self.assertRegex(self.printed_by(block), r"^(b'\w+' [\d.]+ %\n){3}$")

    def printed_by(self, block):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(block, "README.md", "exec"), {})
        return printed.getvalue()

    def check_images(self, name, sample, wrong):
        """How many of a sample's images are taken for something else."""
        model, card = load(name)
        data = np.load(DATA / sample)
        answers = model.signatures["serving_default"](images=tf.constant(data["images"]))
        names = np.array([name.encode() for name in card["class_names"]])
        found = np.sum(answers["class_name"].numpy() != names[data["labels"]])
        self.assertAlmostEqual(int(found), wrong, delta=1)  # rounding may decide one

    def test_mnist_hyper_cnn(self):
        self.check_images("mnist_hyper_cnn", "mnist_test.npz", 3)

    def test_mnist_plain_cnn(self):
        self.check_images("mnist_plain_cnn", "mnist_test.npz", 1)

    def test_cifar10_hyper_resnet(self):
        self.check_images("cifar10_hyper_resnet", "cifar10_test.npz", 27)

    def test_kanji_hyper_lstm(self):
        model, card = load("kanji_hyper_lstm")
        data = np.load(DATA / "kanji_test.npz")
        parameters = model.signatures["serving_default"]
        scale = [card["settings"]["scale"]] * 2 + [1]
        nats = []
        for points in np.split(data["points"], np.cumsum(data["lengths"])[:-1]):
            strokes = tf.constant(points[None] / scale, tf.float32)
            read = parameters(strokes=strokes[:, :-1])["parameters"]
            nats += stroke_loss(strokes[:, 1:], read).numpy().ravel().tolist()
        # The mean of the first 40 drawings of the test, when it was exported.
        self.assertAlmostEqual(np.mean(nats), -2.0500, delta=1e-3)

    def test_python_stdlib_hyper_lstm(self):
        model, card = load("python_stdlib_hyper_lstm")
        text = (DATA / "python_stdlib_test.txt").read_text("utf-8")
        logits = model.signatures["serving_default"](text=tf.constant([text]))["logits"][0]
        ids = np.array([card["vocabulary"].index(character) for character in text[1:]])
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(ids, logits[:-1])
        bits = float(tf.reduce_mean(nats)) / math.log(2)
        self.assertAlmostEqual(bits, 2.4188, delta=1e-3)  # of this excerpt, when it was exported
