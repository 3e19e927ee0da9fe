"""What a run writes: files that are whole or absent."""

import contextlib
import hashlib
import json
import math
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure  # not pyplot, which may look for a screen
from matplotlib.ticker import LogLocator

UNFINISHED = ".unfinished-"
REPLACED = ".replaced-"  # where `export_saved_model` puts the model that it replaces
CHECKPOINT = "checkpoint.npz"


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Gives a path beside `path` to write to, and renames it to `path` once it is written.

    Whoever reads `path` sees the old file or the new one, whenever the writer is killed.
    """
    path = Path(path)
    unfinished = path.with_name(UNFINISHED + path.name)
    try:
        yield unfinished
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def save_json(path: Path, value: object) -> None:
    """Writes JSON that people can read."""
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as unfinished:
        unfinished.write_text(f"{text}\n", "utf-8")


def read_results(folder: Path, name: str = "results.json") -> dict | None:
    """Returns the results of a run, or None if it has none yet.

    Raises:
        ValueError: if there is a file that is not whole.
    """
    path = folder / name
    if not path.exists():
        return None
    try:
        results = json.loads(path.read_text("utf-8"))
        if not isinstance(results, dict):
            raise ValueError("no dictionary")
    except ValueError as error:  # of which JSON's and Unicode's errors are kinds
        raise ValueError(
            "The results must be as they were written. Without this file they are made again. "
            f"Received: {path} ({error})"
        ) from error
    return results


def results_of(model: Path) -> dict | None:
    """Returns the results beside a model if they are of this very file, else None.

    Training that goes on writes the next best model long before its results.

    Raises:
        ValueError: if the results are damaged.
    """
    results = read_results(model.parent)
    if results is None or not model.exists() or results.get("model_sha256") != sha256_of(model):
        return None
    return results


def warn_of_other_data(model: str | Path, sha256: str, other: str) -> None:
    """Says so on standard error if the results beside a model are of other data.

    Args:
        model: file of a trained model.
        sha256: of the data that are there.
        other: what the data are if they are not those of the training, such as "another text".
    """
    try:
        results = read_results(Path(model).parent)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"warning: it is not known what the model was trained on. {error}\n")
        return
    trained_on = (results or {}).get("settings", {}).get("sha256", sha256)
    if trained_on != sha256:
        sys.stderr.write(f"warning: the model was trained on {other}, with SHA-256 {trained_on}\n")


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _finite(value: object) -> object:
    """Replaces NaN and infinity, which JSON lacks, with None."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def prepare_output(folder: Path, resume: bool) -> None:
    """Makes the folder of a run, so that what cannot be written is known before any work.

    Raises:
        ValueError: if the folder cannot be written, holds a run that is not to be resumed, or
            damaged results.
    """
    if (folder / CHECKPOINT).exists() and not resume:
        raise ValueError(
            "`--output` holds a run: continue it with --resume, or name another folder. "
            f"Received: --output {folder}"
        )
    read_results(folder)  # what is damaged is not silently replaced
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(UNFINISHED + "*"):  # of a run that was killed while writing
            if leftover.is_file():
                leftover.unlink()
        for old in folder.glob(f"{REPLACED}*"):  # of an export that was killed between two renames
            model = folder / old.name.removeprefix(REPLACED)
            if not model.exists():
                old.rename(model)
        for leftover in folder.glob(".export-*"):  # holds nothing that is needed
            shutil.rmtree(leftover)
        trial = folder / f"{UNFINISHED}trial"
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise ValueError(
            f"`--output` must be a folder that can be written. Received: --output {folder} "
            f"({error.strerror})"
        ) from error


def save_learning_curves(
    path: Path,
    histories: dict[str, list[list[dict]]],
    metric: str,
    y_label: str,
    logarithmic: bool = False,
) -> None:
    """Draws training (dashed) and validation (solid) of one or more runs over the steps.

    Args:
        path: PNG file to write.
        histories: for each name the `history` of the `ExactCheckpoint` of each of its runs, which
            share a colour.
        metric: drawn are `metric` and `val_` + `metric`.
        y_label: the metric's name for people, with its unit.
        logarithmic: whether the metric's axis is logarithmic.
    """
    colours = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # Okabe and Ito's, safe for all eyes
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    axes = figure.subplots()
    for (name, runs), colour in zip(histories.items(), colours, strict=False):
        for number, history in enumerate(runs):
            steps = [record["step"] for record in history]
            for key, part, style in (
                (f"val_{metric}", "validation", "-"),
                (metric, "training", "--"),
            ):
                values = [record[key] for record in history]
                label = None if number else f"{name}, {part}"
                marker = "." if len(history) <= 50 else None
                axes.plot(steps, values, style, color=colour, marker=marker, label=label, lw=1)
    if logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")  # 20, where the default has 2 x 10^1
        axes.yaxis.set_minor_formatter("")
    axes.set_xlabel("training steps")
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    axes.legend()
    with replacing(path) as unfinished:
        figure.savefig(unfinished)
