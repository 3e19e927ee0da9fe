"""The page of docs/live: its model is the Keras model, and in a browser it writes Python's text."""

import functools
import html.parser
import http.server
import json
import shutil
import subprocess
import tempfile
import threading
import unittest
import unittest.mock
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import onnxruntime
import tensorflow as tf
from random_weights import randomize
from test_char_language_model import small

import live_page
from common.texts import live
from keras_hypernets import export, models, plots

RUNTIME = live_page.ROOT / "build" / "docs" / "live"  # where `make live` puts it
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@functools.cache
def trained():
    return live.load(live_page.CHECKPOINT)


@functools.cache
def written():
    """Returns a folder with the trained model's files."""
    folder = tempfile.TemporaryDirectory()
    unittest.addModuleCleanup(folder.cleanup)
    live.write(live_page.CHECKPOINT, Path(folder.name), "def ", 0.6, "a test")
    return Path(folder.name)


class LiveStep(tf.test.TestCase):
    def check(self, model, text):
        """Compares a text's logits and changes, step by step, with the model's and the plots'."""
        path = Path(self.get_temp_dir()) / "step.onnx"
        live.export_onnx(live.step_with_changes(model), path)
        session = onnxruntime.InferenceSession(path)
        names = [given.name for given in session.get_inputs()]
        sizes = models.sequences.state_sizes(model)
        self.assertEqual(names, ["ids", *sizes])
        ids = model.get_layer("embedding").encode(text)
        states = [np.zeros((1, size), "float32") for size in sizes.values()]
        logits, changes = [], []
        for n in ids:
            given = dict(zip(names, [np.array([n], "int32"), *states], strict=True))
            of_step, change, *states = session.run(None, given)
            logits.append(of_step[0])
            changes.append(change[0])
        self.assertAllClose(logits, model(ids[None])[0], 1e-4, 1e-4)
        self.assertAllClose(changes[1:], plots.weight_changes(model, text), 1e-3, 1e-3)

    def test_step_of_the_trained_model(self):
        self.check(trained(), 'def f(x):\n    """Returns x."""\n    return x\n')

    def test_step_of_any_cell_that_generates_weights(self):
        for model in (
            small("hyper_gru", layers=2),
            small("hyper_simple_rnn", token_embedding_size=3),
            small(weight_generation="full"),
        ):
            randomize(model)
            self.check(model, "a cab\né")

    def test_saved_model_is_loaded_with_its_weights(self):
        read = tf.saved_model.load(str(live_page.CHECKPOINT)).signatures["tokens"]
        ids = trained().get_layer("embedding").encode("class A:\n")[None]
        self.assertAllClose(trained()(ids), read(ids=tf.constant(ids))["logits"], 1e-5, 1e-5)

    def test_saved_model_is_loaded_with_the_options_of_its_cell(self):
        options = {"hyper_units": 3, "embedding_dim": 2, "forget_bias": 0.0, "dropout": 0.1}
        settings = {"cell": "hyper_lstm", "units": 4, "layers": 2, **options}
        model = models.char_language_model("abc", **settings)
        randomize(model)
        folder = Path(self.get_temp_dir()) / "model"
        settings |= {"learning_rate": 0.1, "batch_size": 8}
        export.export_saved_model(model, folder, card={"settings": settings})
        ids = np.array([[0, 2, 1, 1]], "int32")
        self.assertAllClose(live.load(folder)(ids), model(ids), 1e-5, 1e-5)

    def test_files(self):
        folder = written()
        self.assertLess((folder / "model.onnx").stat().st_size, 1e6)
        facts = json.loads((folder / "model.json").read_text("utf-8"))
        self.assertEqual(facts["states"], models.sequences.state_sizes(trained()))
        self.assertEqual([name[0] for name in facts["gates"]], ["i", "f", "c", "o"])
        self.assertTrue(all(1 < largest < 1000 for largest in facts["largest"]))

    def test_errors(self):
        folder = Path(self.get_temp_dir())
        for model, error in (
            (small("lstm"), "must have a cell that generates weights"),
            (small(token_embedding_size=10_000), "at most 2 MB as ONNX. Received: 2[.]"),
        ):
            model.save(folder / "model.keras")
            with self.assertRaisesRegex(ValueError, error):
                live.write(folder / "model.keras", folder, "a", 1.0, "")
            self.assertEqual([path.name for path in folder.iterdir()], ["model.keras"])
        with self.assertRaisesRegex(ValueError, "`--prompt` must be in the vocabulary"):
            live.write(live_page.CHECKPOINT, folder, "é", 1.0, "")
        for wrong in (folder, live_page.CHECKPOINT.parent / "mnist_plain_cnn"):
            with self.assertRaisesRegex(ValueError, "`--checkpoint` must be .* SavedModel"):
                live.load(wrong)

    def test_npm_is_needed(self):
        with unittest.mock.patch.dict("os.environ", {"PATH": ""}):
            with self.assertRaisesRegex(ValueError, "npm must be installed"):
                live_page.main(["--output", self.get_temp_dir()])


class InBrowser(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.browser = next(filter(None, map(shutil.which, BROWSERS)), None)
        if cls.browser is None:
            raise unittest.SkipTest("needs Chromium, such as Debian's package chromium")
        missing = [name for name in live_page.RUNTIME_FILES if not (RUNTIME / name).exists()]
        if missing:
            raise unittest.SkipTest(f"needs {missing[0]}, which `make live` fetches with npm")
        cls.folder = written()
        for file in [*live_page.PAGE.iterdir(), *(RUNTIME / n for n in live_page.RUNTIME_FILES)]:
            shutil.copyfile(file, cls.folder / file.name)

        class Quiet(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_):
                pass

        handler = functools.partial(Quiet, directory=cls.folder)
        cls.server = http.server.ThreadingHTTPServer(("localhost", 0), handler)
        threading.Thread(target=cls.server.serve_forever, daemon=True).start()
        cls.addClassCleanup(cls.server.server_close)
        cls.addClassCleanup(cls.server.shutdown)

    def open(self, page="index.html", flags=(), **query):
        """Opens a page for a minute of its own time and returns what is there then."""
        address = f"http://localhost:{self.server.server_port}/{page}?{urlencode(query)}"
        return self.open_address(address, *flags)

    def open_address(self, address, *flags):
        command = [self.browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]
        command += ["--virtual-time-budget=60000", *flags, address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        return Page(done.stdout)

    def test_writes_what_python_writes(self):
        for prompt, seed, temperature in (("def ", 1, 0.6), ("class <b>&", 2, 1.0)):
            sampling = {"prompt": prompt, "temperature": temperature, "seed": seed, "length": 250}
            page = self.open(**sampling, speed=100)
            self.assertEqual(page.state, "done")
            self.assertEqual(page.texts["message"], "")
            self.assertEqual(page.texts["text"], models.char_lm.generate(trained(), **sampling))
            changes = plots.weight_changes(trained(), page.texts["text"])
            np.testing.assert_allclose(page.changes[1:], changes, 1e-3, 1e-2)
            np.testing.assert_equal(page.changes[0], np.zeros(4))

    def test_unknown_characters_in_the_prompt(self):
        page = self.open(prompt="naïve")
        self.assertEqual(page.texts["message"], "The network does not know ï")
        self.assertEqual(page.texts["text"], "")

    def test_buttons(self):
        (self.folder / "buttons.html").write_text(BUTTONS, "utf-8")
        self.addCleanup((self.folder / "buttons.html").unlink)
        states = json.loads(self.open("buttons.html").texts["states"])
        expected = models.char_lm.generate(trained(), "def ", 40, 0.6, seed=2)
        paused, still_paused, *ends = states
        self.assertEqual(paused, still_paused)
        self.assertEqual(paused[:2], ["paused", "Resume"])
        self.assertLess(10, len(paused[2]))
        self.assertLess(len(paused[2]), 44)
        self.assertEqual(ends, [["done", "Write again", expected]] * 2)

    def test_nothing_moves_for_those_who_want_no_motion(self):
        page = self.open(flags=["--force-prefers-reduced-motion"])
        self.assertEqual((page.state, page.texts["toggle"]), ("ready", "Start"))
        self.assertEqual((page.texts["message"], page.texts["text"]), ("", ""))

    def test_what_cannot_be_loaded(self):
        page = self.open_address((self.folder / "index.html").as_uri())
        self.assertEqual(page.state, "failed")
        self.assertRegex(page.texts["message"], "cannot run here: open it from a server")
        for name in ("model.onnx", *live_page.RUNTIME_FILES):
            away = (self.folder / name).rename(self.folder / "away")
            self.addCleanup(away.rename, self.folder / name)
            page = self.open()
            self.doCleanups()
            self.assertEqual(page.state, "failed")
            self.assertRegex(page.texts["message"], "The network cannot run here: .+")


class Page(html.parser.HTMLParser):
    """What a page holds: its state, the text of each element with an id, and the changes."""

    def __init__(self, source):
        super().__init__()
        self.state, self.texts, self.changes, self.within = None, {}, [], []
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.state = attributes.get("data-state", self.state)
        if "--change" in attributes.get("style", ""):
            lines = attributes["title"].splitlines()
            self.changes.append([float(line.rpartition(": ")[2]) for line in lines])
        if tag not in ("meta", "link", "input", "br"):
            self.within.append(attributes.get("id"))
            self.texts.setdefault(self.within[-1], "")

    def handle_endtag(self, tag):
        self.within.pop()

    def handle_data(self, data):
        for name in filter(None, self.within):
            self.texts[name] += data


# What a person does, by script: pause, wait, go on; then two new texts of the next seed.
BUTTONS = """<!doctype html><p id="states"></p>
<iframe src="index.html?seed=1&length=40&speed=20"></iframe>
<script>
const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const frame = document.querySelector("iframe"), states = [];
function note() {
  const page = frame.contentDocument, at = (id) => page.getElementById(id).textContent;
  states.push([page.body.dataset.state, at("toggle"), at("text")]);
}
async function run() {
  const page = frame.contentDocument, click = (id) => page.getElementById(id).click();
  while (page.getElementById("text").textContent.length < 12) await wait(50);
  click("toggle"); await wait(200); note(); await wait(1000); note();
  click("toggle"); click("toggle"); click("toggle"); await wait(300);
  click("next"); await wait(5000); note();
  click("toggle"); await wait(5000); note();
  document.getElementById("states").textContent = JSON.stringify(states);
}
frame.onload = run;
</script>
"""
