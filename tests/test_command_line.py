import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from common import command_line

# A thread takes 100 MB four times; prints how many pages the system provided for the last.
THREAD = """
import resource, threading
import numpy as np
from common import command_line

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work():
    for _ in range(4):
        before = faults()
        arrays = [np.ones(12_500) for _ in range(1_000)]
        del arrays
    print(faults() - before)

command_line.run(lambda: None)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


class TestCommandLine:
    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (ValueError("bad\n  value"), "bad value"),
            (OSError(28, "No space", "x"), "[Errno 28] No space: 'x'"),
            (tf.errors.ResourceExhaustedError(None, None, "disk full"), "disk full"),
            (
                ImportError("no x"),
                "no x (pip install '.[examples]' installs what the examples need)",
            ),
        ],
    )
    def test_errors_of_users_are_one_line(self, error, expected, capsys, monkeypatch):
        def main():
            raise error

        monkeypatch.setattr(sys, "argv", ["/a/b.py", "train"])
        with pytest.raises(SystemExit) as caught:
            command_line.run(main)
        assert caught.value.code == 2
        assert capsys.readouterr() == ("", f"b.py: error: {expected}\n")
        monkeypatch.setattr(sys, "argv", ["b.py", "train", "--traceback"])
        with pytest.raises(type(error)):
            command_line.run(main)

    @pytest.mark.parametrize("hint", ["", " (it goes on with --resume)"])
    def test_interrupted(self, hint, capsys, monkeypatch):
        def main():
            raise KeyboardInterrupt

        monkeypatch.setattr(sys, "argv", ["/a/b.py"])
        with pytest.raises(SystemExit) as caught:
            command_line.run(main, *filter(None, [hint]))
        assert caught.value.code == 130
        assert capsys.readouterr() == ("", f"\nb.py: interrupted{hint}\n")

    def test_defaults_are_in_the_help(self):
        parser = command_line.ArgumentParser(prog="p")
        parser.option("--share", float, 0.5, "of 100 %%")
        parser.option("--seeds", int, [0, 1], "of the runs", nargs="+")
        assert "of 100 % (default: 0.5)" in parser.format_help()
        assert "of the runs (default: 0 1)" in parser.format_help()

    def test_names_and_values(self):
        read = command_line.name_and_value
        assert read("a=1e-5") == ("a", 1e-5)
        assert read("a_b=null") == ("a_b", None)
        assert read("kind=full=er") == ("kind", "full=er")

    def test_other_errors_are_bugs(self):
        with pytest.raises(ZeroDivisionError):
            command_line.run(lambda: 1 / 0)

    @pytest.mark.parametrize(
        ("kind", "good", "bad"),
        [
            (command_line.positive_integer, "1", ["0", "-1", "1.5", "x", ""]),
            (command_line.count, "0", ["-1", "0.5"]),
            (command_line.seed, "0", ["-1", "2147483648", "1e3"]),
            (command_line.rate, "0", ["1", "-0.1", "nan", "x"]),
            (command_line.factor, "1", ["0", "1.1", "nan"]),
            (command_line.positive, "0.1", ["0", "inf", "nan", "-1"]),
            (command_line.at_least_zero, "0", ["-1", "inf", "nan"]),
        ],
    )
    def test_types(self, kind, good, bad, capsys):
        parser = command_line.ArgumentParser(prog="p")
        parser.option("--size", kind, None, "of it")
        assert parser.parse_args(["--size", good]).size == float(good)
        for text in bad:
            with pytest.raises(SystemExit) as caught:
                parser.parse_args([f"--size={text}"])
            assert caught.value.code == 2
            error = capsys.readouterr().err
            assert error.count("\n") == 1
            assert error.startswith("p: error: argument --size: must be a")
            assert f"Received: {text} (" in error

    @pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="sets glibc's malloc")
    @pytest.mark.parametrize(("own", "kept"), [({}, True), ({"MALLOC_TOP_PAD_": "0"}, False)])
    def test_freed_memory_is_kept(self, own, kept):
        examples = str(Path(command_line.__file__).parent.parent)
        variables = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
        done = subprocess.run(
            [sys.executable, "-c", THREAD],
            env=variables | {"PYTHONPATH": examples} | own,
            capture_output=True,
            text=True,
            check=True,
        )
        assert (int(done.stdout) < 1_000) == kept
