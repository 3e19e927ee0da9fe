"""Training a character language model: the work behind `char_lm.py train`."""

import argparse
import itertools
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from common import training  # before Keras, so that TensorFlow starts without its notes

# isort: split
import keras
import numpy as np

from common import outputs
from common.texts import batching, datasets, evaluation
from keras_hypernets import callbacks, export, models, plots

VALIDATION_STREAMS = 32  # in which the validation text is read during training
NOT_SETTINGS = ("command", "output", "resume", "tensorboard", "traceback", "cell_options")
DRAWN = 384  # characters of the sample under which the changes of the weights are drawn
WATCHED = 128  # characters of the validation text that TensorBoard shows
MAY_CHANGE = (
    "data",
    "epochs",
    "steps",
    "prompt",
    "length",
    "temperature",
    "train_characters",
)  # to resume a run


class Run:
    """A training run, new or resumed. Making it checks all input; `fit` and `report` do the work.

    Args:
        options: what `common.texts.options.parse(["train", ...])` returns.
        make_model: makes the model of a vocabulary, with further arguments of
            `models.char_language_model`.

    Attributes:
        model: the model in training, to be compiled before `fit` with the metric
            `bits_per_character`.
    """

    def __init__(self, options: argparse.Namespace, make_model: Callable[..., keras.Model]):
        self.options = options
        self.output = Path(options.output)
        self.text = text = datasets.load_text(options.data, options.validation_share)
        encode = models.char_lm.CharacterEmbedding(text.vocabulary).encode
        ids = encode(text.train)
        if options.batching == "streams":
            batches = batching.Streams(ids, options.batch_size, options.sequence_length)
        else:
            batches = batching.Windows(
                ids, options.batch_size, options.sequence_length, options.seed
            )
        self.batches = batches
        self.steps_per_epoch = options.steps_per_epoch or batches.steps_per_pass
        self.steps = options.steps or options.epochs * self.steps_per_epoch
        self.settings = {name: v for name, v in vars(options).items() if name not in NOT_SETTINGS}
        self.settings |= options.cell_options
        self.settings |= {"steps_per_epoch": self.steps_per_epoch, "sha256": text.sha256}

        keras.utils.clear_session()
        keras.utils.set_random_seed(options.seed)
        self.model = make_model(
            text.vocabulary, stateful=batches.carries_state, batch_size=options.batch_size
        )
        portable = make_model(text.vocabulary)  # reads batches of any size, from any states
        self.prompt = text.validation[:40] if options.prompt is None else options.prompt
        evaluation.check_prompt(portable, self.prompt)
        outputs.prepare_output(self.output, options.resume)
        validation = Validation(portable, encode(text.validation))
        self.best = training.BestModel(
            portable, self.output / "best.keras", "val_bits_per_character"
        )
        schedule = training.learning_rate_schedule(options, "val_bits_per_character")
        self.callbacks = [validation, self.best, *schedule]
        self.checkpoint = training.ExactCheckpoint(
            self.output,
            {name: value for name, value in self.settings.items() if name not in MAY_CHANGE},
            self.callbacks,
            options.resume,
        )
        self.monitors = []
        if options.tensorboard is not None:
            monitor = callbacks.GeneratedWeightsMonitor(
                options.tensorboard, text.validation[:WATCHED]
            )
            self.monitors = [monitor]

    @property
    def generates_weights(self) -> bool:
        """Whether the cell is one with a hypernetwork."""
        return "hyper_units" in self.options.cell_options

    def fit(self) -> list[dict]:
        """Trains up to the last step, unless that is done already, and returns the history."""
        options, checkpoint = self.options, self.checkpoint
        print(
            f"{options.cell}, {self.model.count_params():,} parameters, into {self.output}: "
            f"{self.steps:,} steps of {options.batch_size} x {options.sequence_length} characters, "
            f"{min(checkpoint.step, self.steps):,} of them done"
        )
        if checkpoint.step < self.steps:
            # The metric's variables, which `fit` resets: a step that makes any is traced twice.
            vocabulary = len(self.text.vocabulary)
            self.model.compute_metrics(None, np.zeros((1, 1)), np.zeros((1, 1, vocabulary)))
            left = self.steps - checkpoint.step
            epochs = math.ceil(left / self.steps_per_epoch)
            self.model.fit(
                (self.batches.batch(step) for step in itertools.count(checkpoint.step)),
                shuffle=False,  # states are carried from batch to batch
                steps_per_epoch=min(left, self.steps_per_epoch),
                initial_epoch=checkpoint.epoch,
                epochs=checkpoint.epoch + epochs,
                verbose=1 if sys.stdout.isatty() else 2,
                callbacks=[
                    training.LastStep(checkpoint, self.steps),
                    CarriedStates(self.batches, checkpoint),
                    *self.callbacks,
                    checkpoint,
                    *self.monitors,
                ],
            )
        return checkpoint.history

    def score(self) -> dict:
        """Evaluates the best model and returns all that is known of the run in numbers."""
        history = self.checkpoint.history
        bits = [record["val_bits_per_character"] for record in history]
        model = evaluation.load(self.best.path)
        train_characters = self.options.train_characters
        return {
            "bits_per_character": evaluation.evaluate_parts(model, self.text, train_characters),
            "parameters": model.count_params(),
            "best_step": history[bits.index(min(bits))]["step"],
            "milliseconds_per_step": training.milliseconds_per_step(history),
            "wall_seconds": self.checkpoint.seconds,
            "settings": {**self.settings, "steps": self.steps, "prompt": self.prompt},
            **training.environment(),
            "history": history,
        }

    def report(self) -> dict:
        """Evaluates the best model, lets it write, writes all results and returns them."""
        options = self.options
        model = evaluation.load(self.best.path)
        sample = models.char_lm.generate(
            model, self.prompt, options.length, options.temperature, options.seed
        )
        results = {
            **self.score(),
            "sample": sample,
            "model_sha256": outputs.sha256_of(self.best.path),
        }
        outputs.save_json(self.output / "results.json", results)
        outputs.save_learning_curves(
            self.output / "curve.png",
            {options.cell: [results["history"]]},
            "bits_per_character",
            "bits per character",
        )
        if self.generates_weights:
            with outputs.replacing(self.output / "weight_changes.png") as unfinished:
                plots.plot_weight_changes(model, sample[:DRAWN]).savefig(unfinished)
        card = training.card_of(results, "bits_per_character")
        export.export_saved_model(model, self.output / "saved_model", card=card)
        return results


def choose_learning_rate(
    make_run: Callable, rates: Sequence[float], epochs: int
) -> tuple[float, dict[float, float], dict[float, float]]:
    """Finds the learning rate that is best after some epochs, as far as that is not done.

    Args:
        make_run: makes the `Run` of a learning rate and a number of epochs.
        rates: the learning rates to try, ascending; while the highest is the best, twice that too.
        epochs: of each run.

    Returns:
        The best rate; the bits per character on the validation text of each rate, infinite where
        training diverged; and the seconds of each run.
    """
    bits, seconds = {}, {}
    rates = list(rates)
    for rate in rates:
        print(f"\nLearning rate {rate}, short run")
        run = make_run(rate, epochs)
        try:
            bits[rate] = run.fit()[epochs - 1]["val_bits_per_character"]
        except training.Diverged as error:
            print(error)
            bits[rate] = math.inf
        seconds[rate] = run.checkpoint.seconds
        best = min(bits, key=bits.get)
        if rate == rates[-1] == best:  # the best may lie beyond
            rates.append(2 * rate)
    print(f"\nLearning rate {best} does best so far")
    return best, bits, seconds


class CarriedStates(keras.callbacks.Callback):
    """Forgets carried states where a pass over the text begins."""

    def __init__(self, batches: batching.Streams | batching.Windows, checkpoint):
        super().__init__()
        self.batches = batches
        self.checkpoint = checkpoint

    def on_train_batch_begin(self, batch, logs=None):
        if self.batches.starts_pass(self.checkpoint.step):
            for layer in self.model.layers:
                if getattr(layer, "stateful", False):
                    layer.reset_state()


class Validation(keras.callbacks.Callback):
    """Adds the bits per character of the validation text to the logs.

    The text is read in contiguous streams side by side, which is quick: every character is
    predicted once, but for the first and a rest that does not fill the last batch.

    Args:
        portable: the model to evaluate: as the one in training, but for any batch size. It gets
            the weights of the one in training.
        ids: the validation text.
    """

    def __init__(self, portable: keras.Model, ids: np.ndarray):
        super().__init__()
        self.portable = portable
        self.reader = evaluation.reader_of(portable)
        length = min(100, len(ids) - 1)
        streams = min(VALIDATION_STREAMS, (len(ids) - 1) // length)
        self.streams = batching.Streams(ids, streams, length)

    def on_epoch_end(self, epoch, logs=None):
        self.portable.set_weights(self.model.get_weights())
        batches = map(self.streams.batch, range(self.streams.steps_per_pass))
        logs["val_bits_per_character"] = evaluation.mean_bits(self.reader, batches)
