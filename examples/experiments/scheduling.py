"""The runs of RESULTS.md, each a process of its own: the work behind `results.py train`."""

import argparse
import os
import queue
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from experiments.definitions import (
    EXPERIMENTS,
    ONLY_BY_NAME,
    Drawings,
    Sequences,
    folder_of,
    kept_results,
)

SCRIPT = Path(__file__).parents[1] / "results.py"
AVAILABLE = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def experiments_of(options: argparse.Namespace) -> list[str]:
    """Returns the names of the experiments that are asked for."""
    if options.experiments:
        return options.experiments
    names = [name for name in EXPERIMENTS if name not in ONLY_BY_NAME]
    if not Path(options.ptb).is_dir():
        print(f"Without Penn Treebank: {options.ptb} is not a folder (see --ptb)")
        names = [name for name in names if EXPERIMENTS[name].data != "ptb"]
    if not Path(options.drawings).is_dir():
        print(f"Without drawings: {options.drawings} is not a folder (see --drawings)")
        names = [name for name in names if not isinstance(EXPERIMENTS[name], Drawings)]
    return names


def jobs_of(options: argparse.Namespace) -> list[tuple[str, str, int]]:
    """Returns experiment, row and seed of each training run: first those of the first seeds."""
    jobs = []
    for name in experiments_of(options):
        experiment = EXPERIMENTS[name]
        seeds = experiment.small_seeds if options.small else experiment.seeds
        jobs += [(name, row, number) for number in seeds for row in experiment.rows]
    for argument, place in (("row", 1), ("seeds", 2)):
        wanted = getattr(options, argument)
        known = {job[place] for job in jobs}
        if not set(wanted or ()) <= known:
            raise ValueError(
                f"`--{argument}` must be of {', '.join(map(repr, sorted(known)))}. "
                f"Received: {', '.join(map(repr, wanted))}"
            )
        jobs = [job for job in jobs if wanted is None or job[place] in wanted]
    if not (options.again or options.small):
        known = set()
        for name in {job[0] for job in jobs}:
            for row, runs in kept_results(name).items():
                known |= {(name, row, run["settings"]["seed"]) for run in runs}
        if known.intersection(jobs):
            print(
                f"{len(known.intersection(jobs))} training runs are in docs/results (see --again)"
            )
        jobs = [job for job in jobs if job not in known]
    return sorted(jobs, key=lambda job: EXPERIMENTS[job[0]].seeds.index(job[2]))


def train(options: argparse.Namespace) -> None:
    """Trains what is missing, `--workers` at a time."""
    jobs = jobs_of(options)
    if options.workers == 0:
        train_here(jobs, options)
        return
    done = [job for job in jobs if has_results(job, options)]
    if done:
        print(f"{len(done)} of {len(jobs)} training runs are done in {options.output}")
    prepare_data({EXPERIMENTS[name].data for name, *_ in jobs})
    shares = queue.SimpleQueue()
    for n in range(options.workers):
        shares.put([str(core) for core in AVAILABLE[n :: options.workers]])
    trainings = []
    first = {}  # of each row that has to choose its learning rate
    with ThreadPoolExecutor(options.workers) as pool:
        try:
            for name, row, number in jobs:
                arguments = name, row, number, options, shares, first.get((name, row))
                trainings.append(pool.submit(train_apart, *arguments))
                if isinstance(EXPERIMENTS[name], Sequences) and EXPERIMENTS[name].rate is None:
                    first.setdefault((name, row), trainings[-1])
            pool.shutdown()
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    failed = dict.fromkeys(str(one.exception()) for one in trainings if one.exception())
    if failed:
        raise ValueError(" ".join(failed))


def has_results(job: tuple[str, str, int], options: argparse.Namespace) -> bool:
    """Returns whether the folder of training runs has the results of one."""
    return (folder_of(options.output, *job, options.small) / "results.json").exists()


def prepare_data(sources: set[str]) -> None:
    """Downloads what is not there yet, before two training runs do that in one folder."""
    from common.images import datasets as image_datasets
    from common.prepared_data import prepared_builder
    from common.texts import datasets

    hosts = {"tiny_shakespeare": datasets.TINY_SHAKESPEARE_HOST, **image_datasets.HOSTS}
    for name in sources & set(hosts):
        with prepared_builder(name, hosts[name], ""):
            pass


def train_here(jobs: list[tuple[str, str, int]], options: argparse.Namespace) -> None:
    """Trains in this process, and ends it afterwards if another one has started it."""
    if options.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, options.cores)
    if options.end_with_stdin:
        threading.Thread(target=end_with_stdin, daemon=True).start()
    from experiments import training  # here, since TensorFlow counts the cores when it starts

    for job in jobs:
        training.train(*job, options)
    if options.end_with_stdin:
        # At once: on one core TensorFlow can wait half a minute for a thread of tf.data to end.
        sys.stdout.flush()
        os._exit(0)


def end_with_stdin() -> None:
    """Ends this process when the one that started it has ended, however that was."""
    sys.stdin.read()
    os._exit(1)


def train_apart(
    name: str,
    row: str,
    number: int,
    options: argparse.Namespace,
    shares: queue.SimpleQueue,
    after: Future | None,
) -> None:
    """Trains in a process of its own, on a share of the cores, once another run is done."""
    if after is not None:
        after.result()
    if has_results((name, row, number), options):
        return
    folder = folder_of(options.output, name, row, number, options.small)
    folder.mkdir(parents=True, exist_ok=True)
    cores = shares.get()
    command = [sys.executable, SCRIPT, "train", name, "--row", row, "--seeds", str(number)]
    command += ["--output", options.output, "--ptb", options.ptb]
    command += ["--drawings", options.drawings]
    command += ["--again"] * options.again + ["--small"] * options.small
    command += ["--workers", "0", "--end-with-stdin", "--cores", *cores]
    began = time.perf_counter()
    try:
        with (
            open(folder / "log.txt", "a") as log,
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT
            ) as process,
        ):
            status = process.wait()
    finally:
        shares.put(cores)
    minutes = (time.perf_counter() - began) / 60
    print(f"{name}, {row}, seed {number}: {minutes:.1f} minutes", flush=True)
    if status:
        raise ValueError(f"{folder / 'log.txt'} says why a training run failed.")
