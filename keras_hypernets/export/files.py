"""The files in a SavedModel besides TensorFlow's."""

import json
from pathlib import Path
from typing import Any

import keras

from keras_hypernets.export.signature import Signature
from keras_hypernets.version import __version__


def facts_of(model: keras.Model, signatures: dict[str, Any]) -> dict:
    """Returns the default entries of a card; `signatures` must be traced."""
    import tensorflow as tf

    def described(specs):
        return {name: f"{spec.dtype.name} {tuple(spec.shape)}" for name, spec in specs.items()}

    return {
        "name": model.name,
        "parameters": model.count_params(),
        "signatures": {
            name: {
                "inputs": described({spec.name: spec for spec in graph.input_signature}),
                "outputs": described(graph.get_concrete_function().structured_outputs),
            }
            for name, graph in signatures.items()
        },
        "versions": {
            "keras_hypernets": __version__,
            "keras": keras.version(),
            "tensorflow": tf.version.VERSION,
        },
    }


def check_card(card: Any) -> dict:
    """Returns the card as a dictionary, or raises ValueError if JSON cannot hold it."""
    try:
        if card is not None and not isinstance(card, dict):
            raise TypeError("not a dictionary")
        _as_json(card)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`card` must be a dictionary of JSON values. Received: card={card!r} ({error})"
        ) from error
    return dict(card or {})


def write_card(folder: Path, card: dict) -> None:
    """Writes `card.json`."""
    (folder / "card.json").write_bytes(_as_json(card))


def _as_json(value):
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def prediction_logs() -> Any:
    """Returns the module with TensorFlow Serving's messages.

    Raises:
        ImportError: if tensorflow-serving-api is not installed.
    """
    try:
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError as error:
        raise ImportError(
            "`warm_up` needs tensorflow-serving-api: pip install tensorflow-serving-api. "
            f"Received: warm_up=True ({error})"
        ) from error
    return prediction_log_pb2


def write_warm_up_requests(folder: Path, signatures: dict[str, Signature]) -> None:
    """Writes the example of each signature for TensorFlow Serving to read at startup.

    Source: https://www.tensorflow.org/tfx/serving/saved_model_warmup
    """
    import tensorflow as tf

    messages = prediction_logs()
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as file:
        for name, signature in signatures.items():
            log = messages.PredictionLog()
            request = log.predict_log.request
            request.model_spec.signature_name = name
            for argument, (dtype, _, example) in signature.inputs.items():
                tensor = tf.make_tensor_proto(example, dtype)
                request.inputs[argument].CopyFrom(tensor)
            file.write(log.SerializeToString())
