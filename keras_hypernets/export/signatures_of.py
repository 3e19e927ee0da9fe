"""Which signatures a model gets."""

from collections.abc import Sequence

import keras

from keras_hypernets.export.model_signatures import signatures_of_classifier, signatures_of_model
from keras_hypernets.export.signature import Signature
from keras_hypernets.export.stroke_signatures import signatures_of_stroke_model
from keras_hypernets.export.text_signatures import signatures_of_language_model
from keras_hypernets.models.char_lm.char_language_model import (
    embedding_of,
    is_character_language_model,
)
from keras_hypernets.models.sequences.stepping import layers_of
from keras_hypernets.models.strokes.stroke_model import is_stroke_model
from keras_hypernets.validation import positive_integer

MAX_LENGTH = 100_000


def signatures_of(
    model: keras.Model,
    class_names: Sequence[str] | None,
    from_logits: bool,
    max_length: int | None,
) -> tuple[dict[str, Signature], dict]:
    """Returns the signatures of a model, and the card's entries about them."""
    if max_length is not None:
        positive_integer("max_length", max_length)
    if class_names is None:
        most = int(max_length or MAX_LENGTH)
        if is_character_language_model(model):
            facts = {"vocabulary": embedding_of(model).vocabulary, "max_length": most}
            return signatures_of_language_model(model, most), facts
        if is_stroke_model(model):
            facts = {"mixtures": layers_of(model)[-1].mixtures, "max_length": most}
            return signatures_of_stroke_model(model, most), facts
    if max_length is not None:
        raise ValueError(
            "`max_length` is for character language models and stroke models. "
            f"Received: max_length={max_length!r}"
        )
    if not getattr(model, "inputs", None):
        if class_names is not None:
            raise ValueError(
                "`class_names` is for functional and sequential models. "
                f"Received: class_names={class_names!r}"
            )
        return {}, {}
    if class_names is not None:
        signatures = signatures_of_classifier(model, class_names, from_logits)
        return signatures, {"class_names": list(class_names)}
    return signatures_of_model(model), {}
