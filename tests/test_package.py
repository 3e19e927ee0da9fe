"""Rules of the package that no single module can hold."""

import ast
import doctest
import inspect
import pkgutil
import re
import subprocess
import sys
import tempfile
import unittest
from importlib import import_module
from pathlib import Path

import keras
from mkdocs.commands.build import build
from mkdocs.config import load_config

import keras_hypernets

ROOT = Path(keras_hypernets.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
# Imports point from higher to lower ranks; `static` and `dynamic` do not know each other.
RANKS = {
    "initializers": 0,
    "static": 1,
    "dynamic": 1,
    "network": 2,
    "models": 3,
    "export": 4,
    "plots": 4,
    "callbacks": 5,
}
HEAVY = ("tensorflow", "tensorflow_datasets", "matplotlib", "jax", "torch")
FREE = ("constructor_arguments", "layers_within", "summaries", "validation", "version")


def imports(path):
    """The dotted names a module imports, with whether it does so at its top level."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        top = node in tree.body
        if isinstance(node, ast.Import):
            yield from ((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module}.{alias.name}", top) for alias in node.names)


def layer_of(dotted):
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 else ""


class Package(unittest.TestCase):
    def test_no_private_name_of_keras(self):
        for path in MODULES:
            for name, _ in imports(path):
                parts = name.split(".")
                if parts[0] == "keras":
                    private = [p for p in parts if p == "src" or p.startswith("_")]
                    self.assertEqual(private, [], f"{path} imports {name}")
            self.assertNotIn("keras.src", path.read_text(), str(path))

    def test_backends_and_examples_are_imported_where_used(self):
        for path in MODULES:
            for name, top in imports(path):
                if top and "recurrence" not in path.parts:
                    self.assertNotIn(name.split(".")[0], HEAVY, str(path))

    def test_imports_point_one_way(self):
        for path in MODULES:
            own = path.relative_to(ROOT).with_suffix("").parts[0]
            if own == "__init__":
                continue
            for name, _ in imports(path):
                other = layer_of(name)
                if not name.startswith("keras_hypernets.") or other in FREE:
                    continue
                self.assertNotIn(own, FREE, f"{path} imports {name}")
                if own in RANKS and other in RANKS:
                    allowed = other == own or RANKS[other] < RANKS[own]
                    self.assertTrue(allowed, f"{path} imports {name}")
                else:  # converters: nothing imports them, they may know every cell
                    self.assertNotEqual(other, "converters", f"{path} imports {name}")

    def test_no_operator_that_may_change_a_tensor(self):
        """PyTorch's `x *= y` changes the tensor that a caller or a gradient still needs."""
        for path in MODULES:
            if path.relative_to(ROOT).parts[0] not in ("static", "dynamic", "network", "models"):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                line = getattr(node, "lineno", None)
                self.assertNotIsInstance(node, ast.AugAssign, f"{path}, line {line}")

    def test_no_assert(self):
        for path in MODULES:
            for node in ast.walk(ast.parse(path.read_text())):
                self.assertNotIsInstance(node, ast.Assert, str(path))

    def test_examples_in_docstrings_run(self):
        tried = 0
        for info in pkgutil.walk_packages([str(ROOT)], "keras_hypernets."):
            if ".recurrence." in info.name:  # each needs its backend, and has nothing public
                continue
            module = import_module(info.name)
            names = {"keras": keras, "keras_hypernets": keras_hypernets}
            result = doctest.testmod(module, extraglobs=names)
            self.assertEqual(result.failed, 0, info.name)
            tried += result.attempted
        self.assertGreater(tried, 20)

    def test_site_builds_strictly_and_has_every_public_name(self):
        with tempfile.TemporaryDirectory() as folder:
            build(load_config(str(ROOT.parent / "mkdocs.yml"), site_dir=folder, strict=True))
            pages = {
                page.stem: page.read_text("utf-8") for page in Path(folder, "api").glob("*.html")
            }
        entries = set(re.findall(r' id="(keras_hypernets\.[\w.]+)"', "".join(pages.values())))
        public = set(public_names(keras_hypernets))
        self.assertEqual(public - entries, set())
        for entry in entries - public:  # members of classes
            self.assertIn(entry.rpartition(".")[0], public)
        cells, layers = (re.sub("<[^>]*>", "", pages[p]) for p in ("cells", "recurrent_layers"))
        self.assertIn("c_t = sigma(f + forget_bias) c_{t-1} + sigma(i) dropout(phi(c~))", cells)
        self.assertIn("hyper_recurrent_dropout=0.0,", layers)
        self.assertNotIn("<blockquote>", "".join(pages.values()))  # what `>>>` is in Markdown

    def test_public_classes_are_registered_and_documented(self):
        for module in (keras_hypernets, keras_hypernets.models, keras_hypernets.initializers):
            for name in getattr(module, "__all__", dir(module)):
                one = getattr(module, name)
                if not inspect.isclass(one) or not one.__module__.startswith("keras_hypernets"):
                    continue
                self.assertIn(">>> ", one.__doc__, name)
                if one not in (keras_hypernets.GatedCell, keras_hypernets.HyperCell):  # abstract
                    registered = keras.saving.get_registered_name(one)
                    self.assertEqual(registered, f"keras_hypernets>{name}")

    def test_import_does_not_load_more_than_keras_does(self):
        code = (
            "import sys, keras; before = set(sys.modules); import keras_hypernets;"
            "print([m for m in set(sys.modules) - before if not m.startswith('keras_hypernets')"
            " and '.' not in m])"
        )
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        self.assertEqual(run.stdout.strip(), "[]")


def public_names(module):
    """Yields the dotted names of what a module offers, and so on for its public modules."""
    own = [name for name, one in vars(module).items() if is_own(module, name, one)]
    for name in getattr(module, "__all__", own):
        one = getattr(module, name)
        if name != "__version__":
            yield f"{module.__name__}.{name}"
        if inspect.ismodule(one):
            yield from public_names(one)


def is_own(module, name, one):
    return not name.startswith("_") and getattr(one, "__module__", None) == module.__name__
