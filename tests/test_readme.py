"""Every Python example of the README runs, in order, as a reader would type them."""

import os
import re
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory

README = Path(__file__).parent.parent / "README.md"


class Readme(unittest.TestCase):
    def test_linked_files_exist(self):
        links = re.findall(r"\]\(([^)#:\s]+)\)", README.read_text())
        self.assertIn("docs/demo_curves.png", links)
        for link in links:
            self.assertTrue((README.parent / link).exists(), link)

    def test_python_blocks_run(self):
        blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
        self.assertGreater(len(blocks), 4)
        names = {}
        with TemporaryDirectory() as folder:
            before = os.getcwd()
            os.chdir(folder)
            try:
                for block in blocks:
                    exec(compile(block, "README.md", "exec"), names)
            finally:
                os.chdir(before)
        self.assertEqual(tuple(names["d_x"].shape), (256, 30, 4, 64))
        self.assertEqual(len(names["written"]["text"].numpy()[0]), 24)
