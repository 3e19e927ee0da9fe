"""The experiments of RESULTS.md, as a queue that resumes where it stopped.

    python examples/results.py train                       # what docs/results does not have yet
    python examples/results.py train mnist --again         # what it has too
    python examples/results.py report                      # tables and figures of what is there
    python examples/results.py train --small               # a reduced version of all, then
    python examples/results.py check                       # does it agree with RESULTS.md?

experiments/definitions.py lists what is compared. Each training is a process with its own cores.
Penn Treebank is read from the folder `--ptb`, drawings from `--drawings`, other data as in the
other examples.
"""

import argparse
from pathlib import Path

from common.command_line import ArgumentParser, count, run, seed
from experiments import scheduling
from experiments.definitions import EXPERIMENTS, ONLY_BY_NAME


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads a command line, `sys.argv` unless given."""
    parser = ArgumentParser(prog="results.py", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    train = commands.add_parser("train", help="train what is missing")
    report = commands.add_parser("report", help="write docs/results and RESULTS.md")
    check = commands.add_parser("check", help="compare a reduced version with RESULTS.md")

    # No choices: argparse would check the default of nothing against them.
    train.add_argument(
        "experiments",
        nargs="*",
        metavar="EXPERIMENT",
        help=f"{', '.join(EXPERIMENTS)} (default: all whose data are available, but for "
        f"{', '.join(ONLY_BY_NAME)}, which needs a GPU)",
    )
    train.add_argument("--row", action="append", help="row of their tables; repeat for more rows")
    train.option("--seeds", seed, None, "train only these seeds (default: all)", nargs="+")
    train.option("--ptb", str, "ptb", "folder with ptb.{train,valid,test}.txt")
    train.option("--drawings", str, "drawings", "folder with kanji.rdp100.npz and omniglot.npz")
    train.option(
        "--workers",
        count,
        len(scheduling.AVAILABLE) or 1,
        "training runs at a time, 1 with a GPU; 0: one by one in this process",
    )
    train.add_argument(
        "--again", action="store_true", help="also train what docs/results already has"
    )
    train.add_argument("--small", action="store_true", help="few steps, few seeds")
    for command in (train, report, check):
        command.option("--output", str, "runs/results", "folder of the training runs")
        command.add_argument("--traceback", action="store_true", help="show where an error arose")
    # What this script tells the processes that it starts.
    train.add_argument("--cores", type=int, nargs="*", help=argparse.SUPPRESS)
    train.add_argument("--end-with-stdin", action="store_true", help=argparse.SUPPRESS)

    options = parser.parse_args(arguments)
    if options.command == "train":
        for name in options.experiments:
            if name not in EXPERIMENTS:
                train.error(f"EXPERIMENT must be of {', '.join(EXPERIMENTS)}. Received: {name}")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Carries out one command."""
    options = parse(arguments)
    if options.command == "train":
        scheduling.train(options)
        return
    from experiments import report

    getattr(report, options.command)(Path(options.output))


if __name__ == "__main__":
    run(main, " (the same command goes on)")
