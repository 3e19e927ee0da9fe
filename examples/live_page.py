"""Makes a page on which a HyperLSTM writes in the browser, while bars show its weights change.

    python examples/live_page.py
    python examples/live_page.py --checkpoint runs/char_lm/best.keras --output my_page
    python -m http.server --directory my_page          # or any other file server

The folder has all that the page needs: the model as ONNX, and ONNX Runtime Web, which npm fetches.
"""

import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from common.command_line import ArgumentParser, run
from common.texts.options import temperature

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "live"
CHECKPOINT = ROOT / "saved_models" / "python_stdlib_hyper_lstm"
RUNTIME = "onnxruntime-web@1.30.0"
RUNTIME_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")


def fetch_runtime(folder: Path) -> None:
    """Writes the files of ONNX Runtime Web that the page needs to a folder.

    Raises:
        ValueError: if npm is missing or fails.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError(
            f"npm must be installed, which comes with Node.js: it fetches {RUNTIME}. "
            "Received: no npm in PATH"
        )
    with tempfile.TemporaryDirectory() as packed:
        command = [npm, "pack", RUNTIME, "--prefer-offline", "--pack-destination", packed]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            error = done.stderr.partition("\n")[0]
            raise ValueError(f"npm must be able to fetch {RUNTIME}. Received: {error}")
        (archive,) = Path(packed).glob("*.tgz")
        with tarfile.open(archive) as package:
            for name in RUNTIME_FILES:
                file = package.extractfile(f"package/dist/{name}")
                (folder / name).write_bytes(file.read())


def main(arguments: list[str] | None = None) -> None:
    """Writes all files of the page."""
    parser = ArgumentParser(prog="live_page.py", description=__doc__.splitlines()[0])
    parser.option(
        "--checkpoint",
        Path,
        CHECKPOINT.relative_to(ROOT),
        "model to show: a .keras file or SavedModel of char_lm.py",
    )
    parser.option("--output", Path, Path("build/docs/live"), "folder to write")
    parser.option("--prompt", str, "def ", "initial prompt")
    parser.option("--temperature", temperature, 0.6, "initial temperature of the sampling")
    parser.option("--about", str, "", "what the page says about the model")
    parser.add_argument("--traceback", action="store_true", help="show where an error arose")
    options = parser.parse_args(arguments)

    options.output.mkdir(parents=True, exist_ok=True)
    fetch_runtime(options.output)
    for file in PAGE.iterdir():
        shutil.copyfile(file, options.output / file.name)
    from common.texts import live  # here, since TensorFlow takes seconds to load

    live.write(
        options.checkpoint, options.output, options.prompt, options.temperature, options.about
    )
    print(f"page  {options.output / 'index.html'}")


if __name__ == "__main__":
    run(main)
