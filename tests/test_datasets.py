import hashlib
import importlib.util
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.texts import datasets
from common.texts.batching import Streams, Windows, evaluation_chunks
from common.texts.datasets import load_text

EXAMPLES = Path(datasets.__file__).parents[2]


def fails(call, *fragments):
    """Checks the rule for every message: one line, the rule, what was received, the fragments."""
    with pytest.raises(ValueError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert "Received: " in message
    for fragment in fragments:
        assert fragment in message
    return message


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def test_import_is_light():
    code = "import common.texts.datasets, sys\n"
    code += "print(*(m for m in sys.modules if m.startswith('tensorflow')))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=EXAMPLES, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == ""


class TestPythonStdlib:
    def test_lists_are_sorted_disjoint_and_described(self):
        lists = (datasets.STDLIB_TRAIN, datasets.STDLIB_VALIDATION, datasets.STDLIB_TEST)
        for names in lists:
            assert names == sorted(names)
        names = list(itertools.chain(*lists))
        assert len(names) == len(set(names))
        assert f"{len(names)} modules" in load_text.__doc__

    def test_splits(self):
        data = load_text("python-stdlib")
        sizes = [len(data.train), len(data.validation), len(data.test)]
        assert 2_000_000 < sum(sizes) < 2_800_000
        assert 0.88 < sizes[0] / sum(sizes) < 0.94
        assert 0.04 < sizes[1] / sum(sizes) < 0.06
        assert 0.04 < sizes[2] / sum(sizes) < 0.06
        assert set(data.vocabulary) <= {"\n", *map(chr, range(32, 127))}
        assert "class ArgumentParser(" in data.train
        assert "class DictReader" in data.validation
        assert "def heappush(" in data.test
        assert "def heappush(" not in data.train + data.validation

    def test_same_text_every_time_whatever_the_share(self):
        first, second = load_text("python-stdlib"), load_text("python-stdlib", 0.2)
        assert first == second
        assert first.name == "python-stdlib"

    def test_modules_are_read_not_imported_and_filtered(self, tmp_path, monkeypatch):
        for name in ("one", "two", "three"):
            write(
                tmp_path / f"{name}.py", f"raise SystemExit  # {name}\r\n\tcafé \x00\x7f\u2019~\n"
            )
        monkeypatch.setattr(datasets.sysconfig, "get_path", lambda name: str(tmp_path))
        monkeypatch.setattr(datasets, "STDLIB_TRAIN", ["one", "two"])
        monkeypatch.setattr(datasets, "STDLIB_VALIDATION", ["three"])
        monkeypatch.setattr(datasets, "STDLIB_TEST", ["three"])
        data = load_text("python-stdlib")
        assert data.train == "".join(
            f"raise SystemExit  # {name}\ncaf ~\n" for name in ("one", "two")
        )
        assert data.validation == "raise SystemExit  # three\ncaf ~\n"

    def test_missing_module_is_named(self, monkeypatch):
        monkeypatch.setattr(datasets, "STDLIB_TEST", ["heapq", "no_such_module", "trace"])
        message = fails(lambda: load_text("python-stdlib"), "`--data`", "no_such_module.py")
        assert "heapq" not in message


class TestFilesAndFolders:
    def test_file_is_cut_in_order(self, tmp_path):
        text = "".join(chr(ord("a") + n % 26) for n in range(1000))
        data = load_text(write(tmp_path / "text.txt", text), 0.1)
        assert data.name == "text.txt"
        assert [len(data.train), len(data.validation), len(data.test)] == [800, 100, 100]
        assert data.train + data.validation + data.test == text

    def test_digest(self, tmp_path):
        data = load_text(write(tmp_path / "text", "ab\u00e9d" * 10), 0.1)
        parts = (data.train, data.validation, data.test)
        expected = hashlib.sha256(b"\xff".join(part.encode() for part in parts)).hexdigest()
        assert data.sha256 == expected
        assert load_text(str(tmp_path / "text"), 0.2).sha256 != expected

    def test_vocabulary_holds_characters_of_every_part(self, tmp_path):
        data = load_text(write(tmp_path / "text", "b" * 80 + "z" * 10 + "\u20ac" * 9 + "a"), 0.1)
        assert data.vocabulary == "abz\u20ac"
        assert "z" not in data.train
        assert data.test == "\u20ac" * 9 + "a"

    def test_line_ends_and_byte_order_mark(self, tmp_path):
        data = load_text(write(tmp_path / "text", b"\xef\xbb\xbfa\r\nb\rc\n" + b"d" * 94), 0.02)
        assert data.train == "a\nb\nc\n" + "d" * 90

    def test_folder_is_read_in_order_without_hidden_files(self, tmp_path):
        folder = tmp_path / "texts"
        write(folder / "b.txt", "2" * 10)
        write(folder / "a" / "z.md", "1" * 10)
        write(folder / "c" / "empty", "")
        write(folder / "c" / "deep" / "x", "3" * 10)
        write(folder / ".hidden", "no")
        write(folder / ".git" / "config", "no")
        write(folder / "c" / ".cache" / "x", b"\xff")
        data = load_text(str(folder) + os.sep, 0.1)
        assert data.name == "texts"
        assert data.train + data.validation + data.test == "1" * 10 + "2" * 10 + "3" * 10

    @pytest.mark.parametrize("share", [0.0, 0.5, -0.1, 1, float("nan")])
    def test_share_out_of_range(self, share):
        fails(lambda: load_text("python-stdlib", share), "`validation_share`", repr(share))

    @pytest.mark.parametrize(
        "source", ["enwik8", "", "no/such\nfile", "a" * 5000, "\0", os.devnull]
    )
    def test_unknown_source(self, source):
        fails(lambda: load_text(source), "'python-stdlib'", "'tiny_shakespeare'", "file or folder")

    def test_empty_text(self, tmp_path):
        write(tmp_path / "folder" / "empty", "")
        for source in (tmp_path / "folder" / "empty", tmp_path / "folder"):
            fails(lambda source=source: load_text(str(source)), "no characters in", str(source))

    def test_text_too_short_to_split(self, tmp_path):
        path = write(tmp_path / "text", "a" * 39)
        fails(lambda: load_text(path), "`validation_share`", "0.05 of 39 characters", path)
        write(tmp_path / "text", "a" * 40)
        assert len(load_text(path).validation) == 2

    def test_undecodable_bytes(self, tmp_path):
        path = write(tmp_path / "folder" / "latin1", b"caf\xe9 noir")
        write(tmp_path / "folder" / "a", "fine")
        for source in (path, str(tmp_path / "folder")):
            fails(lambda source=source: load_text(source), "UTF-8", path, "0xe9", "offset 3")

    def test_offset_counts_the_byte_order_mark(self, tmp_path):
        path = write(tmp_path / "text", b"\xef\xbb\xbfab\xff")
        fails(lambda: load_text(path), "0xff at offset 5")

    def test_unreadable(self, tmp_path, monkeypatch):
        path = write(tmp_path / "folder" / "text", "text")

        def refuse(self):
            raise PermissionError(13, "Permission denied")

        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", refuse)
            fails(lambda: load_text(path), "readable", path, "Permission denied")

        def refuse_listing(folder):
            raise PermissionError(13, "Permission denied", folder)

        monkeypatch.setattr(os, "scandir", refuse_listing)
        fails(lambda: load_text(str(tmp_path)), "readable", str(tmp_path), "Permission denied")

    @pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
    def test_link_that_leads_nowhere(self, tmp_path):
        (tmp_path / "link").symlink_to(tmp_path / "nowhere")
        fails(lambda: load_text(str(tmp_path)), "readable", str(tmp_path / "link"))


class TestPennTreebank:
    @pytest.fixture
    def folder(self, tmp_path):
        write(tmp_path / "ptb.train.txt", " the <unk> of N \n no it was n't \n")
        write(tmp_path / "ptb.valid.txt", " a b \n\n c \n")
        write(tmp_path / "ptb.test.txt", " last & $ N")
        return tmp_path

    def test_characters(self, folder):
        data = load_text(str(folder))
        assert data.train == "the <unk> of N\nno it was n't\n"
        assert data.validation == "a b\n\nc\n"
        assert data.test == "last & $ N"
        assert data.vocabulary == "".join(sorted(set(data.train + data.validation + data.test)))
        assert {"\n", " ", "<", "$"} < set(data.vocabulary)

    def test_share_does_not_matter(self, folder):
        assert load_text(str(folder), 0.3) == load_text(str(folder))

    def test_missing_file_is_named(self, folder):
        (folder / "ptb.valid.txt").unlink()
        message = fails(lambda: load_text(str(folder)), str(folder), "without ptb.valid.txt")
        assert "ptb.test.txt" not in message

    def test_empty_file_is_named(self, folder):
        path = write(folder / "ptb.test.txt", "  ")
        fails(lambda: load_text(str(folder)), "no characters in", path)


class TestTinyShakespeare:
    def test_prepared(self):
        pytest.importorskip("tensorflow_datasets")
        folder = os.environ.get("TFDS_DATA_DIR")
        if not folder or not Path(folder, "tiny_shakespeare").is_dir():
            pytest.skip("tiny_shakespeare is not prepared in TFDS_DATA_DIR")
        data = load_text("tiny_shakespeare")
        assert data.name == "tiny_shakespeare"
        assert [len(data.train), len(data.validation), len(data.test)] == [1003854, 55770, 55770]
        assert data.train.startswith("First Citizen:\nBefore we proceed")
        assert len(data.vocabulary) == 65

    def test_no_network_is_one_quick_error(self, tmp_path, monkeypatch, caplog):
        tfds = pytest.importorskip("tensorflow_datasets")
        import requests

        def unreachable(url, timeout):
            assert timeout <= 10
            raise requests.ConnectionError(f"no route\nto {url}")

        def download(self, **_):
            raise AssertionError("tensorflow-datasets would try again for minutes")

        monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
        monkeypatch.setattr(requests, "head", unreachable)
        monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", download)
        fails(
            lambda: load_text("tiny_shakespeare"),
            "'python-stdlib' or a text file",
            "ConnectionError: no route to https",
        )
        assert not caplog.records
        assert list(tmp_path.iterdir()) == []

    def test_without_tensorflow_datasets(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
        fails(lambda: load_text("tiny_shakespeare"), "needs tensorflow-datasets", "'python-stdlib'")

    def test_file_of_that_name(self, tmp_path, monkeypatch):
        write(tmp_path / "tiny_shakespeare", "x" * 100)
        monkeypatch.chdir(tmp_path)
        assert load_text("./tiny_shakespeare").train == "x" * 90

    @pytest.mark.skipif(
        importlib.util.find_spec("tensorflow_datasets") is None, reason="no tensorflow_datasets"
    )
    def test_cause_is_kept(self, monkeypatch):
        import tensorflow_datasets as tfds

        def broken(*_, **__):
            raise OSError("disk full")

        monkeypatch.setattr(tfds, "builder", broken)
        fails(lambda: load_text("tiny_shakespeare"), "OSError: disk full")


SIZES = [(101, 4, 5), (1000, 3, 7), (64, 1, 63), (65, 1, 64), (500, 499, 1)]


def text_of(length):
    """Each place holds its own number, so that values tell where in the text they come from."""
    return np.arange(length, dtype=np.int32)


@pytest.mark.parametrize("make", [Streams, lambda *args: Windows(*args, seed=3)])
class TestBatches:
    @pytest.mark.parametrize("length, batch_size, sequence_length", SIZES)
    def test_every_step_of_two_passes(self, make, length, batch_size, sequence_length):
        batches = make(text_of(length), batch_size, sequence_length)
        assert batches.steps_per_pass == (length - 1) // (batch_size * sequence_length)
        for number in range(2):
            seen = []
            for position in range(batches.steps_per_pass):
                inputs, targets = batches.batch(number * batches.steps_per_pass + position)
                assert inputs.dtype == targets.dtype == np.int32
                assert inputs.shape == targets.shape == (batch_size, sequence_length)
                np.testing.assert_array_equal(targets, inputs + 1)
                seen.extend(targets.ravel())
            # No prediction twice in a pass, none missing between the first and the last.
            assert sorted(seen) == list(range(min(seen), min(seen) + len(seen)))
            assert length - 1 - len(seen) < batch_size * sequence_length

    def test_resumes_at_any_step(self, make):
        ids = text_of(200)
        run = make(ids, 4, 6)
        wanted = [run.batch(step) for step in range(30)]
        for step in (29, 0, 13, 8, 7):
            for one in (run, make(ids, 4, 6)):
                np.testing.assert_array_equal(one.batch(step), wanted[step])

    @pytest.mark.parametrize("batch_size, sequence_length", [(1, 10), (2, 5), (11, 1), (1, 10**9)])
    def test_text_too_short(self, make, batch_size, sequence_length):
        fails(
            lambda: make(text_of(10), batch_size, sequence_length),
            "`sequence_length`",
            f"batch_size={batch_size}, sequence_length={sequence_length}",
            "10 characters",
        )

    @pytest.mark.parametrize("value", [0, -1, 2.0, True, "2", None])
    def test_sizes(self, make, value):
        fails(lambda: make(text_of(10), value, 1), "`batch_size`", f"batch_size={value!r}")
        fails(
            lambda: make(text_of(10), 1, value), "`sequence_length`", f"sequence_length={value!r}"
        )

    def test_empty_text(self, make):
        fails(lambda: make(text_of(0), 1, 1), "0 characters")


class TestStreams:
    def test_rows_continue_until_the_pass_ends(self):
        streams = Streams(text_of(107), 3, 5)
        assert streams.carries_state
        assert streams.steps_per_pass == 7
        previous = None
        for step in range(21):
            inputs, targets = streams.batch(step)
            assert streams.starts_pass(step) == (step in (0, 7, 14))
            if streams.starts_pass(step):
                assert inputs[:, 0].tolist() == [0, 35, 70]
            else:
                np.testing.assert_array_equal(inputs[:, 0], previous)
            previous = targets[:, -1]


class TestWindows:
    def order(self, number, seed=0, length=1007):
        windows = Windows(text_of(length), 4, 10, seed)
        steps = range(number * windows.steps_per_pass, (number + 1) * windows.steps_per_pass)
        return np.concatenate([windows.batch(step)[0][:, 0] for step in steps])

    def test_new_order_and_cuts_in_every_pass(self):
        passes = [self.order(number) for number in range(6)]
        for order in passes:
            assert order.tolist() != sorted(order)
        ranks = {tuple(np.argsort(order)) for order in passes}
        assert len(ranks) == len(passes)
        assert len({order.min() % 10 for order in passes}) > 2

    def test_seed(self):
        assert self.order(0, seed=1).tolist() == self.order(0, seed=1).tolist()
        assert self.order(0, seed=1).tolist() != self.order(0, seed=2).tolist()
        # Seeds and passes must not be mixed up: seed 1, pass 2 is not seed 2, pass 1.
        assert self.order(2, seed=1).tolist() != self.order(1, seed=2).tolist()

    def test_both_ends_of_the_text_are_used_in_time(self):
        # 25 steps of 4 windows of 10 use 1000 of the 1034 predictions: 34 to spare at either end.
        first = [self.order(number, length=1035).min() for number in range(60)]
        assert 0 <= min(first) <= 3
        assert 31 <= max(first) <= 34

    def test_no_state_is_carried(self):
        windows = Windows(text_of(100), 2, 5, 0)
        assert not windows.carries_state
        assert all(windows.starts_pass(step) for step in range(30))

    @pytest.mark.parametrize("seed", [-1, 0.5, None, True])
    def test_bad_seed(self, seed):
        fails(lambda: Windows(text_of(100), 2, 5, seed), "`seed`", f"seed={seed!r}")


class TestEvaluationChunks:
    @pytest.mark.parametrize("length, chunk_length", [(2, 1), (2, 9), (101, 10), (105, 10), (9, 9)])
    def test_every_character_but_the_first_once(self, length, chunk_length):
        chunks = list(evaluation_chunks(text_of(length), chunk_length))
        for inputs, targets in chunks:
            assert inputs.shape == targets.shape
            assert inputs.shape[0] == 1
            np.testing.assert_array_equal(targets, inputs + 1)
        lengths = [inputs.shape[1] for inputs, _ in chunks]
        assert set(lengths[:-1]) <= {chunk_length}
        assert 1 <= lengths[-1] <= chunk_length
        predicted = np.concatenate([targets[0] for _, targets in chunks])
        assert predicted.dtype == np.int32
        assert predicted.tolist() == list(range(1, length))

    @pytest.mark.parametrize("length", [0, 1])
    def test_nothing_to_predict(self, length):
        fails(lambda: evaluation_chunks(text_of(length), 5), "at least 2", f"{length} characters")

    @pytest.mark.parametrize("chunk_length", [0, -3, 1.5])
    def test_bad_chunk_length(self, chunk_length):
        fails(lambda: evaluation_chunks(text_of(9), chunk_length), f"chunk_length={chunk_length!r}")
