"""What training a model of texts and one of drawings share: a run, and its learning rate."""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from common import training  # before Keras, so that TensorFlow starts without its notes

# isort: split
import keras

from common import outputs
from keras_hypernets import callbacks, export

NOT_SETTINGS = ("command", "output", "resume", "tensorboard", "traceback", "cell_options")


class Run:
    """A training run, new or resumed. Making it checks all input; `fit` and `report` do the work.

    A subclass reads its data, calls `__init__`, makes its model and calls `prepare`. It fits the
    model in `fit_model`, and says in `evaluate` and `draw` what comes of it.

    Args:
        options: of the command line.
        steps_per_pass: over the training data.
        settings: of the run, besides `options`.

    Attributes:
        model: the model in training.
        score: name of what is to become less, in the logs (there after `val_`) and in the results.
        axis: the same in words.
        verbose: what Keras shows of training: 0 nothing, 1 a bar, 2 a line for each epoch.
        card_score: name in the results of what the card of the SavedModel quotes.
        batch: what a batch holds, in words.
        may_change: the settings that a run may have others of when it is resumed.
    """

    score: str
    axis: str
    card_score: str
    batch: str
    may_change: tuple[str, ...]

    def __init__(self, options: argparse.Namespace, steps_per_pass: int, settings: dict):
        self.options = options
        self.output = Path(options.output)
        self.steps_per_epoch = options.steps_per_epoch or steps_per_pass
        self.steps = options.steps or options.epochs * self.steps_per_epoch
        self.settings = {name: v for name, v in vars(options).items() if name not in NOT_SETTINGS}
        self.settings |= options.cell_options | settings
        self.settings |= {"steps_per_epoch": self.steps_per_epoch}
        self.verbose = 1 if sys.stdout.isatty() else 2
        keras.utils.clear_session()
        keras.utils.set_random_seed(options.seed)

    def prepare(self, portable: keras.Model, first: Sequence[keras.callbacks.Callback] = ()):
        """Prepares the folder, what keeps the best model, and the checkpoint.

        Args:
            portable: the model to save, which has the weights of the one in training by then.
            first: callbacks that come before all others.
        """
        options = self.options
        outputs.prepare_output(self.output, options.resume)
        self.best = training.BestModel(portable, self.output / "best.keras", self.validation)
        schedule = training.learning_rate_schedule(options, self.validation)
        self.callbacks = [*first, self.best, *schedule]
        settings = {k: value for k, value in self.settings.items() if k not in self.may_change}
        self.checkpoint = training.ExactCheckpoint(
            self.output, settings, self.callbacks, options.resume
        )
        self.early_stopping = training.EarlyStopping(
            self.checkpoint, self.validation, options.early_stopping
        )
        self.monitors = []
        if options.tensorboard is not None:
            monitor = callbacks.GeneratedWeightsMonitor(options.tensorboard, self.watched())
            self.monitors = [monitor]

    @property
    def validation(self) -> str:
        """The name of the score of the validation data in the logs."""
        return f"val_{self.score}"

    @property
    def generates_weights(self) -> bool:
        """Whether the cell is one with a hypernetwork."""
        return "hyper_units" in self.options.cell_options

    def fit(self) -> list[dict]:
        """Trains to the end, unless that is done already, and returns the history."""
        checkpoint = self.checkpoint
        print(
            f"{self.options.cell}, {self.model.count_params():,} parameters, into {self.output}: "
            f"{self.steps:,} steps of {self.batch.format(**vars(self.options))}, "
            f"{min(checkpoint.step, self.steps):,} of them done"
        )
        left = self.steps - checkpoint.step
        if left > 0 and not self.early_stopping.finished:
            self.fit_model(
                steps_per_epoch=min(left, self.steps_per_epoch),
                initial_epoch=checkpoint.epoch,
                epochs=checkpoint.epoch + math.ceil(left / self.steps_per_epoch),
                verbose=self.verbose,
                callbacks=[
                    training.LastStep(checkpoint, self.steps),
                    *self.callbacks,
                    checkpoint,
                    self.early_stopping,
                    *self.monitors,
                ],
            )
        return checkpoint.history

    def fit_model(self, **arguments) -> None:
        """Fits the model with these arguments of `fit`, on the batches from `checkpoint.step`."""
        raise NotImplementedError

    def watched(self):
        """Returns the input whose weights TensorBoard shows."""
        raise NotImplementedError

    def results(self) -> dict:
        """Evaluates the best model and returns all that is known of the run in numbers."""
        history = self.checkpoint.history
        scores = [record[self.validation] for record in history]
        model = self.load(self.best.path)
        return {
            **self.evaluate(model),
            "parameters": model.count_params(),
            "best_step": history[scores.index(min(scores))]["step"],
            "milliseconds_per_step": training.milliseconds_per_step(history),
            "wall_seconds": self.checkpoint.seconds,
            "settings": {**self.settings, "steps": self.steps},
            **training.environment(),
            "history": history,
        }

    def load(self, path: Path) -> keras.Model:
        """Loads a model of this kind."""
        raise NotImplementedError

    def evaluate(self, model: keras.Model) -> dict:
        """Returns the scores of a model on all parts of the data."""
        raise NotImplementedError

    def draw(self, model: keras.Model) -> dict:
        """Lets a model generate and draws that; returns what belongs into the results."""
        raise NotImplementedError

    def report(self) -> dict:
        """Evaluates the best model, lets it generate, writes all results and returns them.

        A SavedModel is among them on the TensorFlow backend only.
        """
        model = self.load(self.best.path)
        results = self.results() | self.draw(model)
        results["model_sha256"] = outputs.sha256_of(self.best.path)
        outputs.save_json(self.output / "results.json", results)
        outputs.save_learning_curves(
            self.output / "curve.png",
            {self.options.cell: [results["history"]]},
            self.score,
            self.axis,
        )
        if keras.backend.backend() == "tensorflow":
            card = training.card_of(results, self.card_score)
            export.export_saved_model(model, self.output / "saved_model", card=card)
        return results


def choose_learning_rate(
    make_run: Callable[[float, int], Run], rates: Sequence[float], epochs: int
) -> tuple[float, dict[float, float], dict[float, float]]:
    """Finds the learning rate that is best after some epochs, as far as that is not done.

    Args:
        make_run: makes the `Run` of a learning rate and a number of epochs.
        rates: the learning rates to try; while the highest is the best, twice that too, and while
            the lowest is the best, half of it.
        epochs: of each run.

    Returns:
        The best rate; the validation score of each rate, infinite where training diverged; and the
        seconds of each run.
    """
    scores, seconds = {}, {}
    left = list(rates)
    while left:
        rate = left.pop(0)
        print(f"\nLearning rate {rate}, short run")
        run = make_run(rate, epochs)
        try:
            scores[rate] = run.fit()[epochs - 1][run.validation]
        except training.Diverged as error:
            print(error)
            scores[rate] = math.inf
        seconds[rate] = run.checkpoint.seconds
        best = min(scores, key=scores.get)
        if not left and math.isfinite(scores[best]):  # the best may lie beyond
            left = [2 * best] if best == max(scores) else [best / 2] if best == min(scores) else []
    print(f"\nLearning rate {best} does best so far")
    return best, scores, seconds
