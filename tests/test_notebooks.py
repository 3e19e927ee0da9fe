"""The notebooks: what they name exists, what they print is stored, and they run."""

import ast
import json
import os
import re
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import keras_hypernets

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# The pictures of each, in the cells of these ids.
PICTURES = {"any_model": ["look", "curves", "weights"], "first_look": ["changes"]}


class Notebooks(unittest.TestCase):
    def test_every_cell_compiles_and_every_name_of_the_package_exists(self):
        for name, cells in notebooks():
            modules = {}
            for cell in cells:
                for node in ast.walk(ast.parse(code_of(cell), f"{name}, {cell['id']}")):
                    modules |= imported(node)
                    path = dotted(node)
                    if path and path[0] in modules:
                        found = modules[path[0]]
                        for attribute in path[1:]:
                            self.assertTrue(hasattr(found, attribute), ".".join(path))
                            found = getattr(found, attribute)
            self.assertIn("keras_hypernets", modules, name)

    def test_outputs_are_stored_without_times(self):
        self.assertEqual([path.stem for path in NOTEBOOKS], list(PICTURES))
        for name, cells in notebooks():
            pictures = []
            for number, cell in enumerate(cells, 1):
                self.assertEqual(cell["execution_count"], number, cell["id"])
                self.assertEqual(cell["metadata"], {}, cell["id"])
                for output in cell["outputs"]:
                    self.assertNotEqual(output["output_type"], "error")
                    self.assertNotEqual(output.get("name"), "stderr")
                    if "image/png" in output.get("data", {}):
                        pictures.append(cell["id"])
            self.assertEqual(pictures, PICTURES[name])

    def test_cells_have_names_of_their_own(self):
        for path in NOTEBOOKS:
            book = json.loads(path.read_text("utf-8"))
            self.assertGreaterEqual((book["nbformat"], book["nbformat_minor"]), (4, 5))
            ids = [cell["id"] for cell in book["cells"]]
            self.assertEqual(len(ids), len(set(ids)))
            for name in ids:
                self.assertRegex(name, r"^[a-z0-9-]+$")

    def test_links_lead_somewhere(self):
        for name, cells in notebooks("markdown"):
            text = "".join("".join(cell["source"]) for cell in cells)
            for link in re.findall(r"\]\(([^)#]+)", text):
                if not link.startswith(("https://", "attachment:")):
                    self.assertTrue((NOTEBOOKS[0].parent / link).exists(), f"{name}: {link}")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    monkeypatch.setenv("XLA_FLAGS", "")  # optimized, which is quicker for training runs
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    with TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(book, timeout=900, kernel_name="python3", resources=resources).execute()
    printed = "".join(
        output.get("text", "")
        for cell in book.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    if path.stem == "any_model":
        assert "same outputs: True" in printed
    else:
        assert float(re.search(r"([\d.]+) bits per character", printed)[1]) < 3


def notebooks(kind="code"):
    """Yields the name of each notebook and its cells of one kind."""
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        yield path.stem, [cell for cell in cells if cell["cell_type"] == kind]


def code_of(cell):
    """Returns the Python of a cell, without IPython's commands."""
    return re.sub(r"^( *)%.*$", r"\1pass", "".join(cell["source"]), flags=re.MULTILINE)


def imported(node):
    """Returns what a node imports from the package, by the name it gets."""
    if isinstance(node, ast.Import):
        return {a.name: keras_hypernets for a in node.names if a.name == "keras_hypernets"}
    if isinstance(node, ast.ImportFrom) and node.module == "keras_hypernets":
        return {a.asname or a.name: getattr(keras_hypernets, a.name) for a in node.names}
    return {}


def dotted(node):
    """Returns the names of a node such as `a.b.c`, or nothing."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return before and [*before, node.attr]
    return []
