"""What RESULTS.md compares: experiments, and their rows as options of the other examples.

What docs/results and the folder of runs have of a row counts as done. Whoever changes a row
here deletes it in both.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from common import outputs

RESULTS = Path(__file__).parents[2] / "docs" / "results"


@dataclass(frozen=True)
class Sequences:
    """Training runs on the same batches, each row at the learning rate best for it.

    Args:
        title: of the figure.
        data: what the script's `--data` takes, or what of it is in a folder that the user has.
        shared: options of all rows.
        rows: for each name the options that make the difference.
        epochs: of the whole training.
        small: epochs of `--small`.
        short: epochs after which learning rates are compared.
        rate: the learning rate of all rows; without it the first seed chooses one for each row.
        rates: from which, and from twice the highest or half the lowest while that is the best.
        starts: for some rows what is done to the recurrent layer's cell before training.
        seeds: of the training runs.
        small_seeds: those of `seeds` that `--small` trains.
    """

    title: str
    data: str
    shared: str
    rows: dict[str, str]
    epochs: int
    small: int
    short: int = 1
    rate: float | None = None
    rates: tuple[float, ...] = (0.004, 0.008, 0.016)
    starts: dict[str, Callable] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)
    small_seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Text(Sequences):
    """Training runs of `char_lm.py`; of its data "ptb" is wherever the user has it.

    Args:
        singular_values: whether the table shows those of the scale maps.
        published: for some rows the bits per character of the validation text that the paper
            reports, which the figure shows as lines.
    """

    singular_values: bool = False
    published: dict[str, float] = field(default_factory=dict)

    validation = "val_bits_per_character"
    y_label = "bits per character of the validation text"


@dataclass(frozen=True)
class Drawings(Sequences):
    """Training runs of `strokes.py`; its data are a file in the folder `--drawings`."""

    validation = "val_nats_per_point"
    y_label = "nats per point of the validation drawings"


@dataclass(frozen=True)
class Images:
    """Training runs of `mnist.py` or `cifar10.py`.

    Args:
        title: of the figure.
        data: `"mnist"` or `"cifar10"`, which is the script too.
        shared: options of all rows.
        rows: for each name the network, `"hyper"` or `"plain"`, and its options.
        small: options that `--small` adds.
        seeds: of the training runs.
        small_seeds: those of `seeds` that `--small` trains.
    """

    title: str
    data: str
    shared: str
    rows: dict[str, tuple[str, str]]
    small: str
    seeds: tuple[int, ...] = (0, 1, 2)
    small_seeds: tuple[int, ...] = (0,)

    validation = "val_error"
    y_label = "validation error, %"


@dataclass(frozen=True)
class Sizes:
    """Experiments with the same two rows at different sizes.

    Args:
        title: of the figure.
        experiments: names of the experiments, smallest first.
        better: the row that should need fewer bits.
        other: the row that it is compared with.
    """

    title: str
    experiments: tuple[str, ...]
    better: str
    other: str


def with_larger_deviation(cell) -> None:
    """Four times the initial values of all projections to embeddings."""
    cell.embedding_kernel.assign(4 * cell.embedding_kernel)


def with_random_scale_maps(cell) -> None:
    """Scale maps with a deviation as large as their mean, which stays."""
    import keras

    _, dim, units = cell.scale_kernel.shape
    scales = keras.random.normal((2 * cell.gates, dim, units), 0.1 / dim, 0.1 / dim)
    shifts = cell.scale_kernel[2 * cell.gates :]
    cell.scale_kernel.assign(keras.ops.concatenate([scales, shifts]))


def with_forget_bias_before_layer_norm(cell) -> None:
    """1 in the bias of both forget gates, for cells that add nothing to them."""
    import numpy as np

    for bias in (cell.bias, cell.hyper_bias):
        value = np.zeros(bias.shape)
        value[1] = 1.0  # gates are i, f, c, o
        bias.assign(value)


STEPS = "--batch-size 32 --sequence-length 100 --patience 0 --learning-rate-decay 0.75"
LONG = f"{STEPS} --steps-per-epoch 500"
SHORT = f"{STEPS} --steps-per-epoch 250"
LN_LSTM = "--cell layer_norm_lstm --units 190"
HYPER_LSTM = "--cell hyper_lstm --units {} --hyper-units 32 --embedding-dim 8"
LN_HYPER_LSTM = HYPER_LSTM.format(160)
SMALL_HYPER_LSTM = "--cell hyper_lstm --units 128 --hyper-units 32"
HYPER_RATE = 0.016  # which the layer-norm HyperLSTM of tiny_shakespeare has chosen
OF_NORM = (
    "--cell-option layer_norm_epsilon={0} --cell-option forget_bias={1} "
    "--cell-option hyper_forget_bias={1}"
)
# Dropout and clipping are the paper's; there batches are of 100, at a learning rate of 0.0001.
DRAWINGS = (
    "--batch-size 32 --dropout 0.05 --recurrent-dropout 0.05 --clip-norm 5 --patience 0 "
    "--train-drawings 1000"
)
DRAWING_CELLS = {
    "LSTM": "--cell layer_norm_lstm --no-layer-norm --units 257",
    "layer-norm LSTM": "--cell layer_norm_lstm --units 256",
    "HyperLSTM": HYPER_LSTM.format(229) + " --no-layer-norm",
    "layer-norm HyperLSTM": HYPER_LSTM.format(228),
}

# The paper's section 4.3: dropout on input, output and candidates, its initial values, no schedule.
PAPER = (
    "--sequence-length 100 --clip-norm 1 --dropout 0.1 --recurrent-dropout 0.1 "
    "--train-characters 100000"
)
PAPER_BATCH = "--batch-size 128"
UNSCHEDULED = "--learning-rate-decay 1"
PAPER_LN_LSTM = "--cell layer_norm_lstm --cell-option kernel_initializer=orthogonal --units {}"
PAPER_HYPER_LSTM = (
    "--cell hyper_lstm --cell-option hyper_initializer=paper --units {} --hyper-units {} "
    "--embedding-dim {}"
)


# Those of the layer-norm HyperLSTM of 160 units.
OF_EQUAL_WEIGHTS = {"layer-norm LSTM of equal weights": PAPER_LN_LSTM.format(177)}
# Its Table 3: bits per character of the validation text after training to convergence.
PAPER_VALIDATION = {
    "layer-norm LSTM": 1.300,
    "layer-norm HyperLSTM": 1.281,
    "LSTM": 1.347,
    "HyperLSTM": 1.296,
    "layer-norm HyperLSTM, embedding 16": 1.263,
}
PAPER_MORE_ROWS = {
    "LSTM": f"{PAPER_LN_LSTM.format(1000)} --no-layer-norm",
    "HyperLSTM": f"{PAPER_HYPER_LSTM.format(1000, 128, 4)} --no-layer-norm",
    "layer-norm HyperLSTM, embedding 16": PAPER_HYPER_LSTM.format(1000, 128, 16),
}


def of_the_paper(units: int, hyper_units: int, seeds: tuple[int, ...]) -> Text:
    """Returns the paper's comparison on Penn Treebank at a number of units.

    Args:
        units: of both networks.
        hyper_units: of the hyper cell.
        seeds: of the training runs.
    """
    return Text(
        title=f"Penn Treebank, {units:,} units",
        data="ptb",
        shared=f"{PAPER} {PAPER_BATCH} {UNSCHEDULED}",
        rows={
            "layer-norm LSTM": PAPER_LN_LSTM.format(units),
            "layer-norm HyperLSTM": PAPER_HYPER_LSTM.format(units, hyper_units, 4),
        },
        epochs=8,
        small=1,
        rate=0.001,
        seeds=seeds,
        small_seeds=(),
    )


def at_the_papers_size(title: str, epochs: int, more: str = "") -> Text:
    """Returns the paper's comparison on Penn Treebank at its size, with all rows.

    Args:
        title: of the figure.
        epochs: of each training run.
        more: options of all rows.
    """
    experiment = of_the_paper(1000, 128, seeds=(0,))
    return replace(
        experiment,
        title=title,
        shared=f"{experiment.shared} {more}",
        rows=experiment.rows | PAPER_MORE_ROWS,
        epochs=epochs,
        published=PAPER_VALIDATION,
    )


EXPERIMENTS = {
    "ptb": Text(
        title="Penn Treebank",
        data="ptb",
        shared=f"{LONG} --dropout 0.1 --recurrent-dropout 0.1",
        rows={
            "LSTM": "--cell layer_norm_lstm --no-layer-norm --units 191",
            "layer-norm LSTM": LN_LSTM,
            "HyperLSTM": HYPER_LSTM.format(161) + " --no-layer-norm",
            "layer-norm HyperLSTM": LN_HYPER_LSTM,
            "layer-norm HyperLSTM, full weights": "--cell hyper_lstm --units 80 --hyper-units 32 "
            "--embedding-dim 4 --cell-option weight_generation=full",
        },
        epochs=11,
        small=4,
    ),
    "tiny_shakespeare": Text(
        title="tiny_shakespeare",
        data="tiny_shakespeare",
        shared=SHORT,
        rows={"layer-norm LSTM": LN_LSTM, "layer-norm HyperLSTM": LN_HYPER_LSTM},
        epochs=8,
        small=2,
        short=2,
    ),
    "python_stdlib": Text(
        title="Python's standard library",
        data="python-stdlib",
        shared=SHORT,
        rows={"layer-norm LSTM": LN_LSTM, "layer-norm HyperLSTM": LN_HYPER_LSTM},
        epochs=8,
        small=2,
        short=2,
    ),
    "symmetry": Text(
        title="Initial values and the size of the embedding",
        data="tiny_shakespeare",
        shared=f"{SHORT} {SMALL_HYPER_LSTM}",
        rows={
            **{
                f"{kind}, {dim}": f"--embedding-dim {dim} --cell-option hyper_initializer={kind}"
                for kind in ("paper", "default")
                for dim in (1, 4, 16)
            },
            "larger deviation, 16": "--embedding-dim 16",
            "random scale maps, 16": "--embedding-dim 16",
        },
        epochs=8,
        small=2,
        small_seeds=(0, 1, 2),  # one does not show what is as small as that
        rate=HYPER_RATE,
        starts={
            "larger deviation, 16": with_larger_deviation,
            "random scale maps, 16": with_random_scale_maps,
        },
        singular_values=True,
    ),
    "layer_norm": Text(
        title="Epsilon and forget bias",
        data="tiny_shakespeare",
        shared=f"{SHORT} {SMALL_HYPER_LSTM} --embedding-dim 4",
        rows={
            "epsilon 1e-3, forget bias after": OF_NORM.format(1e-3, 1),
            "epsilon 1e-5, forget bias after": OF_NORM.format(1e-5, 1),
            "epsilon 1e-3, forget bias before": OF_NORM.format(1e-3, 0),
            "epsilon 1e-5, forget bias before": OF_NORM.format(1e-5, 0),
        },
        epochs=8,
        small=3,
        rate=HYPER_RATE,
        starts={
            "epsilon 1e-3, forget bias before": with_forget_bias_before_layer_norm,
            "epsilon 1e-5, forget bias before": with_forget_bias_before_layer_norm,
        },
    ),
    "ptb_paper": at_the_papers_size("Penn Treebank, the paper's size", epochs=8),
    "ptb_converged": at_the_papers_size(
        "Penn Treebank, the paper's size, to convergence", 200, "--early-stopping 10"
    ),
    "ptb_400": of_the_paper(400, 50, seeds=(0, 1)),
    "ptb_160": of_the_paper(160, 20, seeds=(0, 1, 2)),
    "ptb_64": of_the_paper(64, 8, seeds=(0, 1, 2)),
    "ptb_160_tuned": replace(
        of_the_paper(160, 20, seeds=(0,)),
        title="Penn Treebank, 160 units, tuned learning rates",
        rows=of_the_paper(160, 20, seeds=()).rows | OF_EQUAL_WEIGHTS,
        rate=None,
    ),
    # Each row of `ptb_160` with one thing as in `ptb`.
    "ptb_160_changes": Text(
        title="Penn Treebank, 160 units, one setting changed",
        data="ptb",
        shared=PAPER,
        rows={
            "layer-norm LSTM, batch 32": f"{PAPER_LN_LSTM.format(160)} {UNSCHEDULED} "
            "--batch-size 32",
            "layer-norm HyperLSTM, batch 32": f"{PAPER_HYPER_LSTM.format(160, 20, 4)} "
            f"{UNSCHEDULED} --batch-size 32",
            "layer-norm LSTM, schedule": f"{PAPER_LN_LSTM.format(160)} {PAPER_BATCH} "
            "--patience 0 --learning-rate-decay 0.75",
            "layer-norm HyperLSTM, schedule": f"{PAPER_HYPER_LSTM.format(160, 20, 4)} "
            f"{PAPER_BATCH} --patience 0 --learning-rate-decay 0.75",
            "layer-norm HyperLSTM, hyper cell of a fifth": PAPER_HYPER_LSTM.format(160, 32, 4)
            + f" {PAPER_BATCH} {UNSCHEDULED}",
            **{row: f"{own} {PAPER_BATCH} {UNSCHEDULED}" for row, own in OF_EQUAL_WEIGHTS.items()},
        },
        epochs=8,
        small=1,
        rate=0.001,
        seeds=(0,),
        small_seeds=(),
    ),
    "kanji": Drawings(
        title="Kanji",
        data="kanji.rdp100.npz",
        shared=f"{DRAWINGS} --learning-rate-decay 0.87",
        rows=DRAWING_CELLS,
        epochs=14,
        small=4,
        short=4,
    ),
    "omniglot": Drawings(
        title="Omniglot",
        data="omniglot.npz",
        # The files' grid, but for rounding.
        shared=f"{DRAWINGS} --learning-rate-decay 0.65 --resolution 6",
        rows=DRAWING_CELLS,
        epochs=6,
        small=2,
    ),
    "mnist": Images(
        title="MNIST",
        data="mnist",
        shared="",
        rows={"hyper": ("hyper", ""), "plain": ("plain", "")},
        small="--epochs 5",
    ),
    "cifar10": Images(
        title="CIFAR-10, 16-1",
        data="cifar10",
        shared="--depth 16 --width 1 --steps 14040",
        rows={"hyper": ("hyper", ""), "plain": ("plain", "")},
        small="--steps 1053",
        seeds=(0,),
    ),
    "tiles": Images(
        title="CIFAR-10, 10-1: tiles and embeddings",
        data="cifar10",
        shared="--depth 10 --width 1 --steps 3510",
        rows={
            **{
                f"tiles of {tile}, embedding of {dim}": (
                    "hyper",
                    f"--tile-size {tile} --embedding-dim {dim}",
                )
                for tile in (16, 8)
                for dim in (4, 16, 64)
            },
            "plain": ("plain", ""),
        },
        small="--steps 702",
        seeds=(0,),
    ),
}

# What needs a GPU, or days: `results.py train` takes it only if it is named.
ONLY_BY_NAME = ("ptb_converged",)

# Comparisons over several sizes, by the names of their figures.
SIZES = {
    "ptb_sizes": Sizes(
        title="Penn Treebank: gain of the layer-norm HyperLSTM",
        experiments=("ptb_64", "ptb_160", "ptb_400", "ptb_paper"),
        better="layer-norm HyperLSTM",
        other="layer-norm LSTM",
    )
}


def kept_results(name: str) -> dict[str, list[dict]]:
    """Returns what docs/results has of an experiment: for each row the results of its seeds."""
    return outputs.read_results(RESULTS, f"{name}.json") or {}


def folder_of(output: str | Path, name: str, row: str, seed: int, small: bool = False) -> Path:
    """Returns the folder of a training run."""
    return Path(output, *["small"] * small, name, re.sub(r"[^\w.-]+", "_", row), str(seed))
