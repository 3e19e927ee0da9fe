"""One SavedModel, three clients that are not ours, the same numbers."""

import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import keras_hypernets
from keras_hypernets import export, models
from keras_hypernets.export import files
from keras_hypernets.models import char_lm, sequences

NAMES = ["cat", "dog", "é"]
VOCABULARY = "abc é\n"
WITHOUT_KERAS = "import sys; sys.modules['keras_hypernets'] = sys.modules['keras'] = None\n"
LOADED = """
import json, tensorflow as tf
results = []
for path, requests in json.load(sys.stdin):
    signatures = tf.saved_model.load(path).signatures
    results.append([])
    for name, inputs in requests:
        specs = signatures[name].structured_input_signature[1]
        outputs = signatures[name](**{k: tf.constant(v, specs[k].dtype) for k, v in inputs.items()})
        results[-1].append({
            k: [t.decode() for t in v.numpy()] if v.dtype == tf.string else v.numpy().tolist()
            for k, v in outputs.items()
        })
print(json.dumps(results))
"""
# What the command saved_model_cli runs; TensorFlow is imported once for all commands.
COMMAND_LINE = """
import os
from tensorflow.python.tools import saved_model_cli
for command in sys.argv[1:]:
    print(command, flush=True)
    process = os.fork()
    if not process:
        sys.argv = ["saved_model_cli", *command.split("|")]
        saved_model_cli.main()
    if os.waitpid(process, 0)[1]:
        raise SystemExit(f"failed: {command}")
"""


def text_requests(model):
    """A request of every signature of a language model."""
    sizes = sequences.state_sizes(model).items()
    rng = np.random.default_rng(0)
    states = {name: rng.normal(size=(2, n)).round(2).tolist() for name, n in sizes}
    drawing = {"seed": 3, "temperature": 0.5, "top_k": 4, "top_p": 0.75}
    return [
        ("serving_default", {"text": ["ab c", "é"]}),
        ("tokens", {"ids": [[0, 3, 5], [1, 1, 2]]}),
        ("step", {"ids": [1, 4], "position": 7, **drawing, **states}),
        ("generate", {"prompt": ["ab", "é\n"], "length": 30, "stop": "c", **drawing}),
    ]


def stroke_requests(model):
    """A request of every signature of a stroke model."""
    sizes = sequences.state_sizes(model).items()
    rng = np.random.default_rng(0)
    states = {name: rng.normal(size=(2, n)).round(2).tolist() for name, n in sizes}
    drawings = rng.normal(size=(2, 4, 3)).round(2)
    drawings[..., 2] = drawings[..., 2] > 0
    drawing = {"seed": 3, "temperature": 0.5}
    return [
        ("serving_default", {"strokes": drawings.tolist()}),
        ("step", {"strokes": drawings[:, 0].tolist(), "position": 7, **drawing, **states}),
        ("generate", {"prime": drawings.tolist(), "length": 9, **drawing}),
    ]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """By name: folder, model, requests, and what TensorFlow without Keras answers."""
    folder = tmp_path_factory.mktemp("served")
    keras.utils.set_random_seed(0)
    classifier = models.hyper_cnn(input_shape=(8, 8, 1), classes=3)
    text = models.char_language_model(VOCABULARY, units=6, hyper_units=4, embedding_dim=2)
    strokes = models.stroke_model(6, hyper_units=4, embedding_dim=2, mixtures=3)
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1)).tolist()
    made = {
        "images": (classifier, {"class_names": NAMES}, [("serving_default", {"images": images})]),
        "text": (text, {}, text_requests(text)),
        "strokes": (strokes, {}, stroke_requests(strokes)),
    }
    for name, (model, options, _) in made.items():
        export.export_saved_model(model, folder / name, warm_up=True, **options)
    sent = json.dumps([(str(folder / name), requests) for name, (*_, requests) in made.items()])
    answers = json.loads(run([sys.executable, "-c", WITHOUT_KERAS + LOADED], input=sent))
    return {
        name: (str(folder / name), model, requests, answer)
        for (name, (model, _, requests)), answer in zip(made.items(), answers, strict=True)
    }


def run(arguments, **options):
    result = subprocess.run(arguments, capture_output=True, text=True, check=False, **options)
    assert result.returncode == 0, result.stderr
    return result.stdout


def same(expected, received):
    assert len(expected) == len(received)
    for one, other in zip(expected, received, strict=True):
        assert sorted(one) == sorted(other)
        for name, value in one.items():
            value = np.array(value)
            if value.dtype.kind in "US":
                assert value.tolist() == other[name], name
            else:
                np.testing.assert_allclose(other[name], value, 1e-5, 1e-6, err_msg=name)


def test_tensorflow_without_keras(exported):
    _, classifier, requests, (received,) = exported["images"]
    expected = tf.nn.softmax(classifier(np.array(requests[0][1]["images"], "float32"))).numpy()
    names = [NAMES[n] for n in expected.argmax(-1)]
    same([{"probabilities": expected, "class_name": names}], [received])

    _, model, requests, received = exported["text"]
    of_step, of_generate = requests[2][1], requests[3][1]
    states = [np.float32(of_step[name]) for name in sequences.state_sizes(model)]
    logits, states = sequences.step(model, np.array(of_step["ids"]), states)
    drawing = [of_step[name] for name in ("temperature", "seed")]
    next_id = sequences.sample(logits, *drawing, 7, top_k=4, top_p=0.75)
    states = dict(zip(sequences.state_sizes(model), states, strict=True))
    text = char_lm.generate(model, of_generate["prompt"], 30, *drawing, 4, 0.75, "c")
    assert min(map(len, text)) < 30 and text[0].endswith("c")
    same(
        [
            {"logits": model(np.array(requests[1][1]["ids"]))},
            {"logits": logits, "next_id": next_id, **states},
            {"text": text},
        ],
        received[1:],
    )


def test_strokes_without_keras(exported):
    _, model, requests, received = exported["strokes"]
    of_step, of_generate = requests[1][1], requests[2][1]
    states = [np.float32(of_step[name]) for name in sequences.state_sizes(model)]
    parameters, states = sequences.step(model, np.float32(of_step["strokes"]), states)
    states = dict(zip(sequences.state_sizes(model), states, strict=True))
    drawn = models.generate_strokes(model, 9, 0.5, 3, list(np.float32(of_generate["prime"])))
    same(
        [
            {"parameters": model(np.float32(requests[0][1]["strokes"]))},
            {
                "parameters": parameters,
                "next_point": model.layers[-1].sample(parameters, 0.5, 3, 7),
                **states,
            },
            {"strokes": drawn},
        ],
        received,
    )


def test_requests_of_strokes(exported):
    path, model, requests, _ = exported["strokes"]
    card = json.loads((Path(path) / "card.json").read_text("utf-8"))
    assert (card["mixtures"], card["max_length"]) == (3, 100_000)
    assert card["parameters"] == model.count_params()
    signatures = tf.saved_model.load(path).signatures
    nothing = np.zeros((4, 0, 3), "float32")
    drawing = {"length": 5, "temperature": 1.0, "seed": 2}
    new = signatures["generate"](prime=nothing, **drawing)["strokes"]
    np.testing.assert_allclose(new, models.generate_strokes(model, 5, 1.0, 2, count=4), 1e-4, 1e-4)
    bad = np.float32(requests[2][1]["prime"])
    for wrong, message in (
        ({"prime": bad * [np.nan, 1, 1]}, "`prime` must have finite offsets"),
        ({"prime": bad + [0, 0, 0.5]}, "`prime` must have pens that are 0 or 1"),
        ({"length": 0}, "`length` must be at least 1"),
        ({"length": 25_001}, "number of primes must be at most 100000"),
        ({"temperature": -1.0}, "`temperature` must be in"),
        ({"temperature": np.nan}, "`temperature` must be in"),
    ):
        arguments = {"prime": nothing, **drawing, **wrong}
        arguments["prime"] = np.float32(arguments["prime"])
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            signatures["generate"](**{k: tf.constant(v) for k, v in arguments.items()})
    with pytest.raises(tf.errors.InvalidArgumentError, match="`strokes` must have pens"):
        signatures["serving_default"](strokes=tf.constant(np.float32(bad + [0, 0, 0.5])))


def test_saved_model_cli(exported, tmp_path):
    """It shows all signatures. Of each model it runs one, with inputs of every type; C runs all."""
    commands = []
    for kind, (path, _, requests, _) in exported.items():
        commands.append(f"show|--dir|{path}|--all")
        graph = saved_model_pb2.SavedModel.FromString((Path(path) / "saved_model.pb").read_bytes())
        for name, inputs in requests[-1:]:
            values = tmp_path / f"{kind}-{name}.npz"
            specs = graph.meta_graphs[0].signature_def[name].inputs
            dtypes = {k: tf.as_dtype(specs[k].dtype).as_numpy_dtype for k in inputs}
            arrays = {
                k: np.char.encode(v, "utf-8") if dtypes[k] is object else np.array(v, dtypes[k])
                for k, v in inputs.items()
            }
            np.savez(values, **arrays)
            given = ";".join(f"{k}={values}[{k}]" for k in arrays)
            outdir = tmp_path / f"{kind}-{name}"
            commands.append(
                f"run|--dir|{path}|--tag_set|serve|--signature_def|{name}|--inputs|{given}"
                f"|--outdir|{outdir}"
            )
    printed = run([sys.executable, "-c", WITHOUT_KERAS + COMMAND_LINE, *commands])
    for kind, (path, _, requests, expected) in exported.items():
        shown = printed.partition(f"show|--dir|{path}|--all")[2].partition("run|--dir|")[0]
        for name, inputs in requests:
            assert f"signature_def['{name}']" in shown
            for k in inputs:
                assert f"inputs['{k}']" in shown
        for (name, _), outputs in zip(requests[-1:], expected[-1:], strict=True):
            received = {}
            for k in outputs:
                value = np.load(tmp_path / f"{kind}-{name}" / f"{k}.npy", allow_pickle=True)
                texts = value.dtype == object
                received[k] = [v.decode() for v in value] if texts else value.tolist()
            same([outputs], [received])


def test_no_operation_needs_xla(exported):
    """TensorFlow Serving has it off by default."""
    for path, *_ in exported.values():
        model = saved_model_pb2.SavedModel.FromString((Path(path) / "saved_model.pb").read_bytes())
        graph = model.meta_graphs[0].graph_def
        functions = graph.library.function
        nodes = [*graph.node, *(node for function in functions for node in function.node_def)]
        assert len(nodes) > 10
        assert [node.op for node in nodes if node.op.startswith("Xla")] == []
        assert not any(function.attr["_XlaMustCompile"].b for function in functions)


@pytest.mark.skipif(sys.platform != "linux", reason="the library has another name elsewhere")
def test_the_c_api(exported):
    library = Path(tf.__file__).parent / "libtensorflow_cc.so.2"
    client = Path(__file__).with_name("c_api_client.py")
    for path, _, requests, expected in exported.values():
        graph = saved_model_pb2.SavedModel.FromString((Path(path) / "saved_model.pb").read_bytes())
        signatures = graph.meta_graphs[0].signature_def

        def place(info):
            operation, index = info.name.split(":")
            return operation, int(index)

        translated = [
            {
                "inputs": [
                    [
                        *place(signatures[name].inputs[k]),
                        tf.as_dtype(signatures[name].inputs[k].dtype).name,
                        value,
                    ]
                    for k, value in inputs.items()
                ],
                "outputs": {k: place(info) for k, info in signatures[name].outputs.items()},
            }
            for name, inputs in requests
        ]
        received = run(
            [sys.executable, str(client), str(library), path], input=json.dumps(translated)
        )
        same(expected, json.loads(received))


def test_warm_up_requests_are_answered(exported):
    messages = files.prediction_logs()
    for path, _, requests, _ in exported.values():
        signatures = tf.saved_model.load(path).signatures
        logs = tf.data.TFRecordDataset(f"{path}/assets.extra/tf_serving_warmup_requests")
        seen = []
        for record in logs.as_numpy_iterator():
            request = messages.PredictionLog.FromString(record).predict_log.request
            tensors = {k: tf.make_ndarray(v) for k, v in request.inputs.items()}
            name = request.model_spec.signature_name
            assert signatures[name](**{k: tf.constant(v) for k, v in tensors.items()})
            seen.append(name)
        assert seen == [name for name, _ in requests]


def test_warm_up_with_strings(tmp_path):
    words = keras.Input((2,), dtype="string", name="words")
    model = keras.Model(words, keras.layers.StringLookup(vocabulary=["a", "b"])(words))
    export.export_saved_model(model, tmp_path / "model", warm_up=True)
    logs = tmp_path / "model" / "assets.extra" / "tf_serving_warmup_requests"
    (record,) = tf.data.TFRecordDataset(str(logs)).as_numpy_iterator()
    request = files.prediction_logs().PredictionLog.FromString(record).predict_log.request
    assert tf.make_ndarray(request.inputs["words"]).tolist() == [[b"", b""]]


def test_warm_up_without_the_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(ImportError, match=r"`warm_up` needs tensorflow-serving-api"):
        export.export_saved_model(models.hyper_cnn(), tmp_path / "model", warm_up=True)
    assert not os.listdir(tmp_path)


def test_the_card(exported, tmp_path):
    path, classifier, *_ = exported["images"]
    card = json.loads((Path(path) / "card.json").read_text("utf-8"))
    assert card == {
        "name": "hyper_cnn",
        "parameters": classifier.count_params(),
        "signatures": {
            "serving_default": {
                "inputs": {"images": "uint8 (None, 8, 8, 1)"},
                "outputs": {
                    "probabilities": "float32 (None, 3)",
                    "class_name": "string (None,)",
                },
            }
        },
        "class_names": NAMES,
        "versions": {
            "keras_hypernets": keras_hypernets.__version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
        },
    }
    dense = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    export.export_saved_model(dense, tmp_path / "model", card={"score": 0.5, "data": "é"})
    text = (tmp_path / "model" / "card.json").read_text("utf-8")
    assert json.loads(text)["score"] == 0.5 and '"é"' in text


def test_the_most_characters_of_a_request(exported, tmp_path):
    for folder, most in (
        (exported["text"][0], 100_000),
        (export.export_saved_model(exported["text"][1], tmp_path / "3", max_length=3), 3),
    ):
        card = json.loads((Path(folder) / "card.json").read_text("utf-8"))
        assert (card["vocabulary"], card["max_length"]) == (VOCABULARY, most)
        generate = tf.saved_model.load(folder).signatures["generate"]
        (drawing,) = (
            {k: tf.constant(v) for k, v in inputs.items() if k not in ("prompt", "length")}
            for name, inputs in exported["text"][2]
            if name == "generate"
        )
        generate(prompt=tf.constant(["a"]), length=tf.constant(3), **drawing)
        # No prompt is looked at before their number is known to be allowed.
        for prompts, length in ((["a"], most + 1), (["?"] * 4, most // 4 + 1)):
            with pytest.raises(tf.errors.InvalidArgumentError, match=f"must be at most {most}"):
                generate(prompt=tf.constant(prompts), length=tf.constant(length), **drawing)


def test_versions(tmp_path):
    dense = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    for version, folder in (("next", "1"), (7, "7"), ("next", "8"), (7, "7")):
        written = export.export_saved_model(dense, tmp_path / "model", version=version)
        assert written == str(tmp_path / "model" / folder)
    assert sorted(os.listdir(tmp_path / "model")) == ["1", "7", "8"]
    with pytest.raises(ValueError, match="`path` must be a folder of versions, not a SavedModel"):
        export.export_saved_model(dense, tmp_path / "model" / "7", version=1)


def test_a_version_that_another_export_took_stays(tmp_path):
    dense = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    taken, free = tmp_path / "model" / "1", tmp_path / "model" / "2"
    taken.mkdir(parents=True)
    (taken / "saved_model.pb").touch()
    with mock.patch.object(export.saved_model, "_next_version", side_effect=[taken, taken, free]):
        written = export.export_saved_model(dense, tmp_path / "model", version="next")
    assert written == str(free)
    assert os.listdir(taken) == ["saved_model.pb"]


def test_a_model_of_neither_kind(tmp_path):
    class Double(keras.Model):
        def call(self, x):
            return 2 * x

    model = Double()
    model(np.ones((3, 2), "float32"))
    for options in ({"class_names": NAMES}, {"warm_up": True}):
        (argument,) = options
        with pytest.raises(ValueError, match=f"`{argument}` is for functional and sequential"):
            export.export_saved_model(model, tmp_path / "model", **options)
    export.export_saved_model(model, tmp_path / "model")
    served = tf.saved_model.load(str(tmp_path / "model"))
    np.testing.assert_equal(served.serve(tf.ones((4, 2))).numpy(), np.full((4, 2), 2))


def test_names_of_any_model(tmp_path):
    a, b = keras.Input((3,), name="a"), keras.Input((None, 4), name="b")
    h, c = keras.layers.GRU(5, return_state=True, name="gru")(b)
    y = keras.layers.Dense(2, name="y")(a)
    values = {"a": np.ones((2, 3), "float32"), "b": np.ones((2, 6, 4), "float32")}
    for n, (model, names) in enumerate(
        (
            (keras.Model([a, b], [y, h, c]), ["output_0", "output_1", "output_2"]),
            (keras.Model({"b": b, "a": a}, {"z": h, "w": c, "v": y}), ["v", "w", "z"]),
        )
    ):
        export.export_saved_model(model, tmp_path / str(n))
        signature = tf.saved_model.load(str(tmp_path / str(n))).signatures["serving_default"]
        outputs = signature(**{k: tf.constant(v) for k, v in values.items()})
        assert sorted(outputs) == names
        expected = model(values if n else list(values.values()))
        if not n:
            expected = dict(zip(names, expected, strict=True))
        for name, value in outputs.items():
            np.testing.assert_allclose(value, expected[name], 1e-6, 1e-6)


def test_probabilities_stay_what_they_are(tmp_path):
    images = keras.Input((4, 4, 1))
    flat = keras.layers.Flatten()(images)
    model = keras.Model(images, keras.layers.Dense(3, "softmax")(flat))
    layers = [keras.layers.Dense(3), keras.layers.Softmax()]
    nested = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), *layers])
    for of_softmax in (model, keras.Model(images, nested(images))):
        with pytest.raises(ValueError, match="`from_logits` must be False for a model that ends"):
            export.export_saved_model(of_softmax, tmp_path / "model", NAMES)
    logits = keras.Model(images, keras.ops.log(model(images)))
    export.export_saved_model(logits, tmp_path / "logits", NAMES)
    export.export_saved_model(model, tmp_path / "model", NAMES, from_logits=False)
    x = np.random.default_rng(0).integers(0, 2, (5, 4, 4, 1))
    serve = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    outputs = serve(images=tf.constant(x, "uint8"))
    np.testing.assert_allclose(outputs["probabilities"], model(x), 1e-5, 1e-6)


def test_bad_arguments(tmp_path):
    model, path = models.hyper_cnn(input_shape=(8, 8, 1), classes=3), tmp_path / "model"
    for options, message in (
        ({"class_names": "abc"}, "`class_names` must be a list of strings"),
        ({"class_names": ["a", "b", 3]}, "`class_names` must be a list of strings"),
        ({"class_names": ["a", "b"]}, "`class_names` is for models from images .* 2 names"),
        ({"from_logits": 1}, "`from_logits` must be True or False"),
        ({"max_length": 5}, "`max_length` is for character language models"),
        ({"max_length": 0}, "`max_length` must be a positive integer"),
        ({"version": 0}, '`version` must be a positive integer or "next"'),
        ({"version": "last"}, '`version` must be a positive integer or "next"'),
        ({"card": [1]}, "`card` must be a dictionary of JSON values"),
        ({"card": {"score": np.float32(1)}}, "`card` must be a dictionary of JSON values"),
        ({"card": {"score": float("nan")}}, "`card` must be a dictionary of JSON values"),
    ):
        with pytest.raises(ValueError, match=message):
            export.export_saved_model(model, path, **options)
    dense = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="`class_names` is for models from images"):
        export.export_saved_model(dense, path, NAMES)
    assert not os.listdir(tmp_path)
