"""Every Python example of the README runs, in order, as a reader would type them."""

import json
import os
import re
import subprocess
import sys
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

    def test_tables_of_images_are_those_of_the_results(self):
        for heading in ("MNIST", "CIFAR-10, 16-1"):
            path = f"docs/results/{heading.split(',')[0].replace('-', '').lower()}.json"
            results = json.loads((README.parent / path).read_text())
            self.assertIn(path, README.read_text())
            table = README.read_text().split(f"| {heading} |")[1].split("\n\n")[0]
            for network, runs in results.items():
                row = re.search(rf"^\| {network} \|(.*)\|$", table, re.MULTILINE).group(1)
                cells = [cell.strip() for cell in row.split("|")]
                self.assertEqual(cells[0], f"{runs[0]['parameters']:,}")
                for part in ("validation", "test"):
                    mean = sum(run["error"][part] for run in runs) / len(runs)
                    self.assertIn(f"{mean:.2f}", cells)
                if len(runs) > 1:
                    self.assertIn(", ".join(f"{run['error']['test']:.2f}" for run in runs), cells)

    def test_python_blocks_run(self):
        """In a process of its own: TensorFlow warns of retracing by all that a process has done."""
        blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
        self.assertGreater(len(blocks), 4)
        blocks.append("print(loss_of_sums < 1, tuple(generated['d_x'].shape))")
        blocks[0] += "loss_of_sums = loss[-1]\n"
        with TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, "-c", "\n".join(blocks)],
                cwd=folder,
                # XLA optimizes what it compiles, which is quicker for trainings as long as these.
                env={**os.environ, "PYTHONPATH": str(README.parent), "XLA_FLAGS": ""},
                capture_output=True,
                text=True,
            )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("retracing", done.stderr)
        lines = done.stdout.splitlines()
        self.assertEqual(lines.count("the quick brown fox jump"), 2)  # also by the SavedModel
        self.assertIn("the lazy dog", lines)
        self.assertEqual(lines[-1], "True (256, 30, 4, 64)")
