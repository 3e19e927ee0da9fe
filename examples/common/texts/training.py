"""Training a character language model: the work behind `char_lm.py train`."""

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path

from common import sequence_training  # before Keras, so that TensorFlow starts without its notes

# isort: split
import keras
import numpy as np

from common import outputs
from common.texts import batching, datasets, evaluation
from keras_hypernets import models, plots

VALIDATION_STREAMS = 32  # in which the validation text is read during training
DRAWN = 384  # characters of the sample under which the changes of the weights are drawn
WATCHED = 128  # characters of the validation text that TensorBoard shows


class Run(sequence_training.Run):
    """A training of a character language model, to be compiled before `fit`.

    Its metric must be `bits_per_character`.

    Args:
        options: what `common.texts.options.parse(["train", ...])` returns.
        make_model: makes the model of a vocabulary, with further arguments of
            `models.char_language_model`.
    """

    score = card_score = "bits_per_character"
    axis = "bits per character"
    batch = "{batch_size} x {sequence_length} characters"
    may_change = ("data", "epochs", "steps", "early_stopping", "prompt", "length", "temperature")
    may_change += ("train_characters",)

    def __init__(self, options: argparse.Namespace, make_model: Callable[..., keras.Model]):
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
        super().__init__(options, batches.steps_per_pass, {"sha256": text.sha256})
        self.model = make_model(
            text.vocabulary, stateful=batches.carries_state, batch_size=options.batch_size
        )
        portable = make_model(text.vocabulary)  # reads batches of any size, from any states
        self.prompt = text.validation[:40] if options.prompt is None else options.prompt
        evaluation.check_prompt(portable, self.prompt)
        self.prepare(portable, [Validation(portable, encode(text.validation))])

    def fit_model(self, callbacks: list, **arguments) -> None:
        # The metric's variables, which `fit` resets: a step that makes any is traced twice.
        vocabulary = len(self.text.vocabulary)
        self.model.compute_metrics(None, np.zeros((1, 1)), np.zeros((1, 1, vocabulary)))
        self.model.fit(
            (self.batches.batch(step) for step in itertools.count(self.checkpoint.step)),
            shuffle=False,  # states are carried from batch to batch
            callbacks=[CarriedStates(self.batches, self.checkpoint), *callbacks],
            **arguments,
        )

    def watched(self) -> str:
        return self.text.validation[:WATCHED]

    def load(self, path: Path) -> keras.Model:
        return evaluation.load(path)

    def evaluate(self, model: keras.Model) -> dict:
        read = self.options.train_characters
        return {"bits_per_character": evaluation.evaluate_parts(model, self.text, read)}

    def results(self) -> dict:
        results = super().results()
        results["settings"] |= {"prompt": self.prompt}
        return results

    def draw(self, model: keras.Model) -> dict:
        """Lets a model write, and draws what changes its weights meanwhile."""
        options = self.options
        sample = models.char_lm.generate(
            model, self.prompt, options.length, options.temperature, options.seed
        )
        if self.generates_weights:
            with outputs.replacing(self.output / "weight_changes.png") as unfinished:
                plots.plot_weight_changes(model, sample[:DRAWN]).savefig(unfinished)
        return {"sample": sample}


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
