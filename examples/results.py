"""The experiments of RESULTS.md, as a queue that goes on where it was stopped.

    python examples/results.py train                       # all of them: many hours
    python examples/results.py train symmetry --seeds 0    # some
    python examples/results.py report                      # tables and figures of what is there
    python examples/results.py train --small               # a reduced version of all, then
    python examples/results.py check                       # does it agree with RESULTS.md?

What is compared stands in experiments.py. Each training is a process with cores of its own. Penn
Treebank is read from the folder `--ptb`, other data as in the examples that train.
"""

import argparse
import os
import queue
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from command_line import ArgumentParser, count, run, seed
from experiments import EXPERIMENTS, folder_of

OUTPUT, SMALL_OUTPUT = "runs/results", "runs/results_small"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads a command line, `sys.argv` unless given."""
    parser = ArgumentParser(prog="results.py", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    train = commands.add_parser("train", help="train what is missing")
    report = commands.add_parser("report", help="write tables and figures")
    check = commands.add_parser("check", help="compare a reduced version with RESULTS.md")

    # No choices: argparse would check the default of nothing against them.
    train.add_argument(
        "experiments",
        nargs="*",
        metavar="EXPERIMENT",
        help=f"{', '.join(EXPERIMENTS)} (default: all)",
    )
    train.option("--rows", str, None, "rows of their tables (default: all)", nargs="+")
    train.option("--seeds", seed, None, "of those of RESULTS.md (default: all)", nargs="+")
    train.option("--ptb", str, "ptb", "folder with ptb.{train,valid,test}.txt")
    train.option(
        "--workers", count, os.cpu_count(), "trainings at a time; 0: one by one in this process"
    )
    train.option("--cores", count, [], "to run on (default: all, divided)", nargs="+")
    train.add_argument("--small", action="store_true", help="few steps, one seed")
    train.option("--output", str, None, f"folder (default: {OUTPUT}, {SMALL_OUTPUT})")
    report.option("--output", str, OUTPUT, "folder of the trainings")
    check.option("--output", str, SMALL_OUTPUT, "folder of the trainings with --small")
    for command in (train, report, check):
        command.add_argument("--traceback", action="store_true", help="show where an error arose")
    options = parser.parse_args(arguments)
    if options.command == "train":
        for name in options.experiments:
            if name not in EXPERIMENTS:
                train.error(f"EXPERIMENT must be of {', '.join(EXPERIMENTS)}. Received: {name}")
        options.experiments = options.experiments or list(EXPERIMENTS)
        options.output = options.output or (SMALL_OUTPUT if options.small else OUTPUT)
    return options


def jobs_of(options: argparse.Namespace) -> list[tuple[str, str, int]]:
    """Returns experiment, row and seed of each training: first those of the first seeds."""
    jobs = []
    for name in options.experiments:
        experiment = EXPERIMENTS[name]
        seeds = experiment.seeds[:1] if options.small else experiment.seeds
        jobs += [
            (seeds.index(number), name, row, number)
            for number in seeds
            for row in experiment.rows
            if (options.rows is None or row in options.rows)
            and (options.seeds is None or number in options.seeds)
        ]
    if not jobs:
        raise ValueError(
            "`--rows` and `--seeds` must be of those in experiments.py. "
            f"Received: --rows {options.rows} --seeds {options.seeds}"
        )
    return [job for _, *job in sorted(jobs, key=lambda job: job[0])]


def train(options: argparse.Namespace) -> None:
    """Trains what is missing, `--workers` at a time."""
    jobs = jobs_of(options)
    if options.workers == 0:
        use_cores(options.cores)
        import results_training  # here, since TensorFlow counts the cores when it starts

        for job in jobs:
            results_training.train(*job, options)
        return
    shares = queue.SimpleQueue()
    for share in shares_of_cores(options.workers):
        shares.put(share)
    # The first seed of a row chooses the learning rate of the others.
    first = {}
    with ThreadPoolExecutor(options.workers) as pool:
        try:
            for name, row, number in jobs:
                job = pool.submit(
                    train_apart, name, row, number, options, shares, first.get((name, row))
                )
                first.setdefault((name, row), job)
            pool.shutdown()
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    failed = [job for job in first.values() if job.exception()]
    if failed:
        raise ValueError(" ".join(str(job.exception()) for job in failed))


def train_apart(name, row, number, options, shares, first) -> None:
    """Trains in a process of its own, after the training `first` unless that is None."""
    if first is not None:
        first.result()
    folder = folder_of(options.output, name, row, number)
    folder.mkdir(parents=True, exist_ok=True)
    cores = shares.get()
    command = [sys.executable, __file__, "train", name, "--rows", row, "--seeds", str(number)]
    command += ["--workers", "0", "--cores", *cores]
    command += ["--output", options.output, "--ptb", options.ptb, *["--small"] * options.small]
    began = time.perf_counter()
    try:
        with open(folder / "log.txt", "a") as log:
            status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode
    finally:
        shares.put(cores)
    minutes = (time.perf_counter() - began) / 60
    print(f"{name}, {row}, seed {number}: {minutes:.1f} minutes", flush=True)
    if status:
        raise ValueError(f"{folder / 'log.txt'} says why a training failed.")


def shares_of_cores(workers: int) -> list[list[str]]:
    """Returns the numbers of the cores of each worker."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return [[str(core) for core in cores[n::workers]] for n in range(workers)]


def use_cores(cores: list[int]) -> None:
    """Keeps this process on some of the cores, where the system can."""
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def main(arguments: list[str] | None = None) -> None:
    """Carries out one command."""
    options = parse(arguments)
    if options.command == "train":
        train(options)
        return
    import results_report

    getattr(results_report, options.command)(Path(options.output))


if __name__ == "__main__":
    run(main)
