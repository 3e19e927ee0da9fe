"""Text for the examples: where it comes from and how it is split."""

import hashlib
import os
import re
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from common.prepared_data import prepared_builder

# Single-file modules that Python 3.11, 3.12 and 3.13 all have on every platform; no tables of data.
STDLIB_TRAIN = """
    abc argparse ast base64 bdb bisect bz2 cmd code codecs codeop colorsys compileall configparser
    contextlib copy copyreg dataclasses dis enum filecmp fileinput fractions ftplib functools getopt
    glob graphlib gzip hashlib hmac imaplib ipaddress linecache lzma mailbox mimetypes modulefinder
    numbers operator optparse os pickle pkgutil plistlib poplib pprint profile pstats py_compile
    pyclbr queue quopri random reprlib rlcompleter runpy sched selectors shelve shlex shutil smtplib
    socket socketserver subprocess tabnanny tarfile textwrap threading timeit tokenize traceback
    tracemalloc types uuid weakref zipapp
""".split()
STDLIB_VALIDATION = "csv gettext netrc statistics wave".split()
STDLIB_TEST = "calendar fnmatch heapq tempfile trace".split()

PTB_FILES = ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt")

TINY_SHAKESPEARE_HOST = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class TextData:
    """A text in three parts, with a digest that tells whether two runs saw the same text."""

    name: str
    train: str
    validation: str
    test: str
    sha256: str

    @cached_property
    def vocabulary(self) -> str:
        """The sorted characters of all three parts, so that none is unknown in evaluation."""
        return "".join(sorted({*self.train, *self.validation, *self.test}))

    @property
    def description(self) -> str:
        """Two lines for people."""
        return (
            f"{self.name}: {len(self.vocabulary)} different characters, {len(self.train):,} to "
            f"train, {len(self.validation):,} to validate, {len(self.test):,} to test\n"
            f"SHA-256 {self.sha256}"
        )


def load_text(source: str, validation_share: float = 0.05) -> TextData:
    r"""Loads a text and splits it into training, validation and test text.

    Args:
        source: One of
            - `"python-stdlib"`: 88 modules of the running Python's own standard library, split by
              module; characters outside printable ASCII and newline are dropped. About
              2,156,000 / 114,000 / 113,000 characters in Python 3.11, 96 different ones. Another
              version of Python gives another text and digest.
            - `"tiny_shakespeare"`: through tensorflow-datasets, in its own split. `TFDS_DATA_DIR`
              is honoured; the text is downloaded only if it has not been prepared there.
            - A folder with `ptb.train.txt`, `ptb.valid.txt` and `ptb.test.txt`: Penn Treebank by
              character. Spaces at the ends of lines are dropped, which leaves the 5,017k / 393k /
              442k characters of the literature, 50 different ones (`<unk>` is five characters,
              the end of a line one).
            - Any other UTF-8 file, or a folder whose files (at any depth, sorted by relative path,
              hidden ones left out) are read as one text: cut into training, validation and test
              text, in this order. Write `./tiny_shakespeare` for a file of that name.

            All line ends are read as `\n`, and a byte order mark is dropped.
        validation_share: Share of a file's or folder's text that becomes the validation text, and
            as much again the test text; between 0 and 0.5. The other sources have their own split.

    Returns:
        The text.

    Raises:
        ValueError: If `source` is unknown, incomplete, unreadable, not UTF-8, empty or too short,
            or `validation_share` is not between 0 and 0.5.
    """
    if not 0 < validation_share < 0.5:
        raise ValueError(
            "`validation_share` must be greater than 0 and less than 0.5. "
            f"Received: validation_share={validation_share!r}"
        )
    name = source
    if source == "python-stdlib":
        parts = _python_stdlib()
    elif source == "tiny_shakespeare":
        parts = _tiny_shakespeare()
    elif os.path.isdir(source) or os.path.isfile(source):
        name = Path(source).resolve().name
        if any(os.path.exists(os.path.join(source, file)) for file in PTB_FILES):
            parts = [_penn_treebank(path) for path in _paths(source, PTB_FILES)]
        else:
            files = _files(source) if os.path.isdir(source) else [source]
            parts = _split("".join(map(_read, files)), source, validation_share)
    else:
        raise ValueError(
            "`--data` must be 'python-stdlib', 'tiny_shakespeare' or the path of an existing text "
            f"file or folder. Received: {source!r}"
        )
    if min(map(len, parts)) < 2:
        raise ValueError(
            "`--data` must have at least 2 characters to train, to validate and to test. "
            f"Received: {', '.join(str(len(part)) for part in parts)} in {source!r}"
        )
    # 0xff never occurs in UTF-8: a character moved from one part to the next changes the digest.
    digest = hashlib.sha256(b"\xff".join(part.encode() for part in parts)).hexdigest()
    return TextData(name, *parts, digest)


def _python_stdlib() -> list[str]:
    folder = sysconfig.get_path("stdlib")
    parts = []
    for modules in (STDLIB_TRAIN, STDLIB_VALIDATION, STDLIB_TEST):
        text = "".join(map(_read, _paths(folder, [f"{module}.py" for module in modules])))
        parts.append(re.sub(r"[^\n -~]", "", text))
    return parts


def _tiny_shakespeare() -> list[str]:
    alternatives = "; use 'python-stdlib' or a text file instead"
    with prepared_builder("tiny_shakespeare", TINY_SHAKESPEARE_HOST, alternatives) as builder:
        import tensorflow_datasets as tfds

        splits = (builder.as_dataset(split=name) for name in ("train", "validation", "test"))
        return [next(iter(tfds.as_numpy(split)))["text"].decode() for split in splits]


def _penn_treebank(path: str) -> str:
    text = re.sub(" *\n *", "\n", _read(path)).strip(" ")
    if not text:
        raise _empty(path)
    return text


def _split(text: str, source: str, share: float) -> list[str]:
    if not text:
        raise _empty(source)
    size = int(len(text) * share)
    if size < 2:
        raise ValueError(
            "`validation_share` must leave at least 2 characters for validation. "
            f"Received: validation_share={share!r} of {len(text)} characters in {source!r}"
        )
    end = len(text) - size
    return [text[: end - size], text[end - size : end], text[end:]]


def _empty(path: str) -> ValueError:
    return ValueError(f"`--data` must hold text. Received: no characters in {path!r}")


def _unreadable(path: str, error: OSError) -> ValueError:
    return ValueError(f"`--data` must be readable. Received: {path!r} ({error.strerror})")


def _paths(folder: str, names: Sequence[str]) -> list[str]:
    paths = [os.path.join(folder, name) for name in names]
    missing = [name for name, path in zip(names, paths, strict=True) if not os.path.isfile(path)]
    if missing:
        raise ValueError(
            f"`--data` must have all of its {len(names)} files. "
            f"Received: {folder!r} without {', '.join(missing)}"
        )
    return paths


def _files(folder: str) -> list[str]:
    # No text may shrink silently: os.walk passes over what it cannot list unless told otherwise,
    # and a link that leads nowhere is kept here, to fail when it is read.
    def stop(error: OSError):
        raise _unreadable(error.filename, error) from error

    paths = []
    for parent, folders, names in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [os.path.join(parent, name) for name in names if not name.startswith(".")]
    paths = [path for path in paths if os.path.isfile(path) or not os.path.exists(path)]
    return sorted(paths, key=lambda path: Path(path).relative_to(folder).as_posix())


def _read(path: str) -> str:
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise ValueError(
            "`--data` must be UTF-8 text. Received: "
            f"{path!r} with byte 0x{error.object[error.start]:02x} at offset {error.start}"
        ) from error
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
