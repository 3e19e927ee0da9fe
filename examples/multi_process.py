"""Trains a character language model in several processes, on one machine or on many.

    python examples/multi_process.py --address HOST:PORT --processes 2 --process 0
    python examples/multi_process.py --address HOST:PORT --processes 2 --process 1

All processes must reach process 0 at the address. Each batch is split among the processes, then
among the devices of each; all hold the same weights at any time. When training ends, process 0
saves the model, which also loads on TensorFlow. There are no checkpoints before that. Keras does
this on JAX: `pip install '.[examples,jax]'`.
"""

import importlib.util
import os
import signal
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"
if importlib.util.find_spec("jax") is None:
    sys.exit("multi_process.py: error: Keras does this on JAX: install '.[examples,jax]'")

import keras

from common import command_line, outputs
from common.texts import batching, datasets
from keras_hypernets import models


def parse(arguments):
    parser = command_line.ArgumentParser(
        prog="multi_process.py", description=__doc__.splitlines()[0]
    )
    parser.option("--address", str, None, "host and port of process 0", required=True)
    parser.option(
        "--processes", command_line.positive_integer, None, "number of processes", required=True
    )
    parser.option("--process", command_line.count, None, "which of them this is", required=True)
    parser.option("--data", str, "python-stdlib", "text, as for char_lm.py")
    parser.option("--units", command_line.positive_integer, 160, "of the HyperLSTM")
    parser.option("--batch-size", command_line.positive_integer, 32, "of all processes together")
    parser.option("--sequence-length", command_line.length, 100, "characters in a row of a batch")
    parser.option("--steps-per-epoch", command_line.positive_integer, 250, "training steps")
    parser.option("--epochs", command_line.positive_integer, 4, "number of epochs")
    parser.option("--learning-rate", command_line.positive, 0.008, "of Adam")
    parser.option("--output", str, "runs/multi_process/model.keras", "file for the model")
    parser.add_argument("--traceback", action="store_true", help="show where an error arose")
    options = parser.parse_args(arguments)
    if options.process >= options.processes:
        parser.error(f"argument --process: must be below {options.processes}")
    if not options.output.endswith(".keras"):
        parser.error(f"argument --output: must end in .keras. Received: {options.output}")
    if options.batch_size % options.processes:
        parser.error(f"argument --batch-size: must be a multiple of {options.processes}")
    return options


def main(arguments=None):
    options = parse(arguments)
    keras.distribution.initialize(options.address, options.processes, options.process)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # JAX waits for a checkpoint that never comes
    text = datasets.load_text(options.data)
    ids = models.char_lm.CharacterEmbedding(text.vocabulary).encode(text.train)
    batches = batching.Windows(ids, options.batch_size, options.sequence_length, seed=0)
    steps = options.steps_per_epoch * options.epochs
    rows = slice(options.process, None, options.processes)  # of a batch: the share of this process

    keras.utils.set_random_seed(0)  # the same initial weights everywhere
    with keras.distribution.DataParallel(auto_shard_dataset=False).scope():
        model = models.char_language_model(
            text.vocabulary, options.units, hyper_units=32, embedding_dim=8
        )
        model.compile(
            keras.optimizers.Adam(options.learning_rate, global_clipnorm=1.0),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        model.fit(
            (tuple(part[rows] for part in batches.batch(step)) for step in range(steps)),
            shuffle=False,  # the batches are shuffled already
            steps_per_epoch=options.steps_per_epoch,
            epochs=options.epochs,
            verbose=2 if options.process == 0 else 0,
        )
    # Within the scope every process would have to save, or this one would wait for them.
    if options.process == 0:
        Path(options.output).parent.mkdir(parents=True, exist_ok=True)
        with outputs.replacing(options.output) as unfinished:
            model.save(unfinished)
        print(f"wrote {options.output}")


if __name__ == "__main__":
    command_line.run(main)
