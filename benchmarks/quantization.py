"""What quantization in LiteRT costs trained networks in accuracy.

    python examples/mnist.py --networks hyper
    python examples/demo.py --steps-per-epoch 250
    python benchmarks/quantization.py

The image classifier is baked, so that its generated kernel is a constant like any other, and reads
all test images. The language model is `step_model` of it, which reads the beginning of the test
text a character at a time with its states in hand. All files are written by Keras' own `export`,
have nothing but builtin operators, and run in TensorFlow's interpreter. "Largest difference" is
that of a logit to the Keras model's.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

from common import training  # noqa: E402  before Keras, so that TensorFlow starts without its notes

# isort: split
import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from common import outputs  # noqa: E402
from common.images import datasets as image_datasets  # noqa: E402
from common.images import training as image_training  # noqa: E402
from common.texts import datasets, evaluation  # noqa: E402
from keras_hypernets import export  # noqa: E402
from keras_hypernets.models import sequences

SMALL = {"optimizations": [tf.lite.Optimize.DEFAULT]}
BATCH = 500
CALIBRATION = 200  # training images


def images_of(checkpoint: Path) -> dict[str, dict]:
    """Measures an image classifier of `examples/mnist.py`."""
    data = image_datasets.load_images("mnist")
    images, labels = data.test()
    model = image_training.load(checkpoint)
    expected = model.predict(images, BATCH, verbose=0)

    def logits_of(run):
        batches = np.split(images, len(images) // BATCH)
        return np.concatenate([run(images=batch)["logits"] for batch in batches])

    def representative_dataset():
        return ([image[np.newaxis]] for image in data.train[0][:CALIBRATION])

    plain = export.bake(model)
    named = keras.Model({"images": plain.input}, {"logits": plain.output})
    int8 = {**SMALL, "representative_dataset": representative_dataset}
    variants = {"float32": {}, "float16": half(), "int8": int8}

    def score(logits):
        answers = logits.argmax(1)
        return {
            "test_error_percent": 100 * float(np.mean(answers != labels)),
            "images_with_another_answer": int(np.sum(answers != expected.argmax(1))),
        }

    return measure(named, variants, logits_of, expected, score)


def text_of(checkpoint: Path, characters: int) -> dict[str, dict]:
    """Measures a language model of `examples/demo.py`."""
    model = evaluation.load(checkpoint)
    text = datasets.load_text("python-stdlib").test[: characters + 1]
    ids = model.get_layer("embedding").encode(text)
    ids, targets = ids[:-1], ids[1:]
    states = [state.numpy() for state in sequences.initial_states(model, 1)]
    expected = evaluation.reader_of(model).predict_on_batch([ids[np.newaxis], *states])[0]

    def logits_of(run):
        states = {
            name: np.zeros((1, n), "float32") for name, n in sequences.state_sizes(model).items()
        }
        logits = []
        for n in range(len(ids)):
            states = run(ids=ids[n : n + 1], **states)
            logits.append(states.pop("logits"))
        return np.concatenate(logits)

    def score(logits):
        bits = evaluation.bits_per_character(targets, logits)
        return {"bits_per_character": float(np.mean(bits, dtype="float64"))}

    variants = {"float32": {}, "float16": half(), "int8 weights": SMALL}
    return measure(sequences.step_model(model), variants, logits_of, expected[0], score)


def half() -> dict:
    """Returns the converter's options for weights in half precision."""
    return {**SMALL, "target_spec": {"supported_types": [tf.float16]}}


def measure(
    model: keras.Model,
    variants: dict[str, dict],
    logits_of: Callable,
    expected: np.ndarray,
    score: Callable[[np.ndarray], dict],
) -> dict[str, dict]:
    """Exports a model with each variant's options, and returns size, score and difference."""
    results = {"Keras": {**score(expected), "largest_logit": float(np.abs(expected).max())}}
    for name, options in variants.items():
        target = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
        options = {**options, "target_spec": {**target, **options.get("target_spec", {})}}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.tflite"
            model.export(path, format="litert", verbose=False, **options)
            logits = logits_of(tf.lite.Interpreter(str(path)).get_signature_runner())
            results[name] = {
                **score(logits),
                "largest_difference": float(np.abs(logits - expected).max()),
                "bytes": path.stat().st_size,
            }
    return results


def main() -> None:
    """Measures, prints and writes `results/quantization.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, default="runs/mnist/hyper-0/best.keras")
    parser.add_argument("--text", type=Path, default="runs/demo/hyperlstm-0.008/best.keras")
    parser.add_argument("--characters", type=int, default=10_000, help="of the test text")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results" / "quantization.json"
    )
    options = parser.parse_args()
    results = {
        "images": images_of(options.images),
        "text": text_of(options.text, options.characters),
        **training.environment(),
    }
    for part in ("images", "text"):
        for name, result in results[part].items():
            values = "  ".join(f"{key} {value:,.6g}" for key, value in result.items())
            print(f"{part:7} {name:13} {values}")
    outputs.save_json(options.output, results)


if __name__ == "__main__":
    main()
