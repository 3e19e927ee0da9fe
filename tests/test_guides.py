"""The Python blocks of the README and of every guide run, in order, as a reader types them."""

import itertools
import os
import re
import subprocess
import sys
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent
GUIDES = ROOT / "docs" / "guides"
# What each page prints.
PRINTED = {
    "README": [
        re.compile(r"^mean squared error: 0\.[5-9]\d at first, 0\.0\d after 20 epochs$"),
        "(256, 1)",
        "2,520 weights; plain convolutions would have 6,960",
        "(2, 30, 1)",
    ],
    "recurrent_layers": [
        "(2, 10, 16)",
        "(2, 10, 4, 32)",
        "True",
        "True",
        "{'state_0_h': 16, 'state_0_c': 16, 'state_0_hyper_h': 16, 'state_0_hyper_c': 16}",
        "7 11 11",
    ],
    "generated_convolutions": [
        "(3, 3, 16, 32) (2, 8)",
        "24,234 weights become 3,722",
        "True Conv2D",
    ],
    "hyper_network": [
        "True",
        "Sequential True",
        "{'sequential/dense/kernel': (2, 8, 16), 'sequential/dense/bias': (2, 16), "
        "'sequential/dense_1/kernel': (2, 16, 8), 'sequential/dense_1/bias': (2, 8)}",
        "True",
        "1,360 weights to train",
    ],
    "continual_learning": ["True", "True"],
    "text": ["the quick brown fox jump", "the lazy dog"],
    "strokes": ["(4, 3)", "[[0, 2, 0], [-2, 0, 0], [0, -2, 1]]"],
    "serving": ["{'class_name': (1,), 'probabilities': (1, 3)}", "25", "(1, 9)"],
    "performance": [],
    "devices": ["1448"],
    "custom_cells": ["(2, 10, 32)", "(2, 32) (2, 10, 2, 32)"],
    "how_it_works": ["True"],
    "moving_here": ["True", "True", "(2, 32)", "(2, 32)", "(2, 10, 32)", "(2, 8, 8, 8, 3)"],
}
# All pages in one process, since TensorFlow takes seconds to start; each begins as in a new one.
# Graphs are not optimized, as in conftest.py.
RUNNER = """
import os, pathlib, sys
import keras, tensorflow as tf
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
for page in sys.argv[1:]:
    name = pathlib.Path(page).stem
    os.mkdir(name)
    os.chdir(name)
    print(f"page {name}", flush=True)
    exec(compile(pathlib.Path(page).read_text("utf-8"), page, "exec"), {"__name__": name})
    os.chdir("..")
    keras.utils.clear_session()
"""


class Guides(unittest.TestCase):
    def test_python_blocks_run(self):
        self.assertEqual({path.stem for path in GUIDES.glob("*.md")} | {"README"}, set(PRINTED))
        with TemporaryDirectory() as folder:
            pages = []
            for name in PRINTED:
                page = ROOT / "README.md" if name == "README" else GUIDES / f"{name}.md"
                pages.append(Path(folder) / f"{name}.py")
                pages[-1].write_text(code_of(page.read_text("utf-8")), "utf-8")
            done = subprocess.run(
                [sys.executable, "-c", RUNNER, *map(str, pages)],
                cwd=folder,
                # XLA optimizes what it compiles, which is quicker for runs as long as these.
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "XLA_FLAGS": ""},
                capture_output=True,
                text=True,
            )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("Gradients do not exist", done.stderr)
        self.assertNotIn("retracing", done.stderr)
        expected = [line for name in PRINTED for line in (f"page {name}", *PRINTED[name])]
        for line, wanted in itertools.zip_longest(done.stdout.splitlines(), expected):
            if isinstance(wanted, re.Pattern):
                self.assertRegex(line, wanted)
            else:
                self.assertEqual(line, wanted)


def code_of(text):
    """Returns the Python blocks of a page, each line at its own number."""
    lines, inside = [], False
    for line in text.splitlines():
        begins, ends = line == "```python", line == "```"
        inside = begins or (inside and not ends)
        lines.append("" if begins or not inside else line)
    return "\n".join(lines)
