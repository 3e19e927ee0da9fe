"""What the examples' command lines share. It imports nothing heavy: mistakes show at once."""

import argparse
import contextlib
import ctypes
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

HEAP_BYTES = 64 * 2**20  # of the heaps from which glibc's malloc serves threads
M_TOP_PAD = -2  # in malloc.h


class ArgumentParser(argparse.ArgumentParser):
    """argparse's, with errors of one line, and defaults in the help."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (--help shows all options)\n")

    def option(self, name: str, kind: Callable, default: object, text: str, **settings) -> None:
        """Adds an option whose help ends with its default, if it has one."""
        if default is not None:
            shown = " ".join(map(str, default)) if isinstance(default, list | tuple) else default
            text += f" (default: {str(shown).replace('%', '%%')})"
        self.add_argument(name, type=kind, default=default, help=text, **settings)

    def switch(self, name: str, default: object, text: str) -> None:
        """Adds an option that is on with its name, off with `--no-` before it."""
        action = argparse.BooleanOptionalAction
        self.add_argument(name, action=action, default=default, help=text)


def checked(kind: Callable, rule: str, accepts: Callable[..., bool]) -> Callable:
    """Returns a `type` for argparse: text to `kind`, or an error that says the `rule`."""

    def convert(text: str):
        with contextlib.suppress(ValueError):
            value = kind(text)
            if accepts(value):
                return value
        raise argparse.ArgumentTypeError(f"must be {rule}. Received: {text}")

    return convert


positive_integer = checked(int, "a positive integer", lambda value: value > 0)
length = checked(int, "an integer from 1 to 1000000", lambda value: 0 < value <= 10**6)
count = checked(int, "an integer of at least 0", lambda value: value >= 0)
seed = checked(int, "an integer from 0 to 2147483647", lambda value: 0 <= value < 2**31)
rate = checked(float, "a number in [0, 1)", lambda value: 0 <= value < 1)
factor = checked(float, "a number in (0, 1]", lambda value: 0 < value <= 1)
positive = checked(float, "a number above 0", lambda value: 0 < value < math.inf)
at_least_zero = checked(float, "a number of at least 0", lambda value: 0 <= value < math.inf)


def name_and_value(text: str) -> tuple[str, object]:
    """Reads NAME=VALUE; a value that is not JSON is a string."""
    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals):
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE. Received: {text}")
    with contextlib.suppress(ValueError):
        return name, json.loads(value)
    return name, value


def tensorboard_option(parser: ArgumentParser) -> None:
    """Adds `--tensorboard`."""
    parser.option(
        "--tensorboard",
        str,
        None,
        "folder for TensorBoard: figures and spreads of the generated weights after each epoch "
        "(default: none)",
    )


def keep_freed_memory() -> None:
    """Lets glibc keep the memory that a training step frees for the next one.

    Otherwise it returns heaps that are empty to the system, which has to clear their pages again:
    training on a CPU then takes up to twice as long (`benchmarks/allocator.py`). It keeps empty
    heaps of up to M_TOP_PAD bytes. Other C libraries are left as they are.
    """
    if "MALLOC_TOP_PAD_" not in os.environ:
        with contextlib.suppress(AttributeError, OSError, TypeError):
            ctypes.CDLL(None).mallopt(M_TOP_PAD, HEAP_BYTES)


def run(main: Callable[[], object], interrupted: str = "") -> None:
    """Calls `main`; what a user can put right becomes one line on stderr and exit code 2.

    `interrupted` says after Ctrl-C how to go on.

    With `--traceback` on the command line, errors come as Python reports them.
    """
    script = Path(sys.argv[0]).name
    keep_freed_memory()
    try:
        main()
    except KeyboardInterrupt:
        sys.stderr.write(f"\n{script}: interrupted{interrupted}\n")
        sys.exit(130)
    except Exception as error:
        if "--traceback" in sys.argv or not _is_of_users(error):
            raise
        message = " ".join(str(error).split())
        if isinstance(error, ImportError):
            message += " (pip install '.[examples]' installs what the examples need)"
        sys.stderr.write(f"{script}: error: {message}\n")
        sys.exit(2)


def _is_of_users(error: Exception) -> bool:
    # TensorFlow's own errors, of a full disk for one, are known by name: it is not loaded here.
    from_tensorflow = any(kind.__name__ == "OpError" for kind in type(error).__mro__)
    return from_tensorflow or isinstance(error, (ValueError, OSError, ImportError))
