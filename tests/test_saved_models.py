"""The trained models of this repository have their scores."""

import json
import math
import re
import unittest
from pathlib import Path

import numpy as np
import tensorflow as tf

ROOT = Path(__file__).parent.parent
MODELS, DATA = ROOT / "saved_models", ROOT / "tests" / "data" / "saved_models"


def load(name):
    folder = MODELS / name
    return tf.saved_model.load(str(folder)), json.loads((folder / "card.json").read_text("utf-8"))


class SavedModels(unittest.TestCase):
    def test_each_has_a_card_and_a_description(self):
        folders = sorted(path.name for path in MODELS.iterdir() if path.is_dir())
        readme = (MODELS / "README.md").read_text("utf-8")
        self.assertEqual(re.findall(r"^## (\w+)$", readme, re.MULTILINE), folders)
        for name in folders:
            model, card = load(name)
            self.assertEqual(set(card["signatures"]), set(model.signatures))
            self.assertTrue({"command", "settings", "versions"} <= set(card))
            self.assertIn(f"{card['parameters']:,} weights", readme)
        size = sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file())
        self.assertLess(size, 10e6)

    def test_python_in_the_description_runs(self):
        readme = (MODELS / "README.md").read_text("utf-8")
        for block in re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL):
            names = {}
            exec(compile(block.replace("saved_models/", f"{MODELS}/"), "README.md", "exec"), names)
            self.assertEqual(len(names["written"]["text"].numpy()[0]), 204)

    def test_python_stdlib_hyper_lstm(self):
        model, card = load("python_stdlib_hyper_lstm")
        text = (DATA / "python_stdlib_test.txt").read_text("utf-8")
        logits = model.signatures["serving_default"](text=tf.constant([text]))["logits"][0]
        ids = np.array([card["vocabulary"].index(character) for character in text[1:]])
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(ids, logits[:-1])
        bits = float(tf.reduce_mean(nats)) / math.log(2)
        self.assertAlmostEqual(bits, 2.4188, delta=1e-3)  # of this excerpt, when it was exported
