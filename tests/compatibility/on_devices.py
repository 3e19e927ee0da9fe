"""Trains models on one device and on two, or on those of several processes.

    python on_devices.py FOLDER OPTIMIZER MODELS [ADDRESS PROCESSES PROCESS]

writes `FOLDER/MODEL on DEVICES.npz`: the loss of every step, and the weights before and after.
Devices are made before anything else: `test_devices.py` runs this in new processes.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_hypernets import models

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
BATCH, STEPS, CLASSES = 8, 5, 5
SMALL = {"hyper_units": 4, "embedding_dim": 2}


def char_language_model(cell, **options):
    return lambda: models.char_language_model("abcde", 8, cell=cell, **options)


def hyper_resnet():
    return models.hyper_resnet(
        10,
        1,
        input_shape=(8, 8, 3),
        classes=CLASSES,
        embedding_dim=4,
        kernel_regularizer=keras.regularizers.L2(5e-4),
        synchronized=ON_TENSORFLOW,  # elsewhere batch norm always is
    )


MODELS = {
    "hyper_cnn": lambda: models.hyper_cnn(input_shape=(8, 8, 1), classes=CLASSES),
    "hyper_resnet": hyper_resnet,
    "hyper_lstm": char_language_model("hyper_lstm", **SMALL),
    "hyper_gru": char_language_model("hyper_gru", **SMALL),
    "hyper_simple_rnn": char_language_model("hyper_simple_rnn", **SMALL),
    "layer_norm_lstm": char_language_model("layer_norm_lstm"),
    "lstm": char_language_model("lstm"),
}
OPTIMIZERS = {"SGD": lambda: keras.optimizers.SGD(0.1), "Adam": lambda: keras.optimizers.Adam(0.01)}


def data_for(model):
    rng = np.random.default_rng(0)
    if model.name == "char_language_model":
        x = rng.integers(CLASSES, size=(BATCH * STEPS, 6))
        y = rng.integers(CLASSES, size=x.shape)
    else:
        x = rng.standard_normal((BATCH * STEPS, *model.input_shape[1:])).astype("float32")
        y = rng.integers(CLASSES, size=len(x))
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH).repeat()


def train(model, optimizer):
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = model.get_weights()
    fitted = model.fit(data_for(model), epochs=STEPS, steps_per_epoch=1, verbose=0)
    weights = {
        f"{n} {when}": weight
        for when, values in (("before", before), ("after", model.get_weights()))
        for n, weight in enumerate(values)
    }
    return {"losses": fitted.history["loss"], **weights}


def main(folder, optimizer, names, address=None, processes=1, process=0):
    if address:
        keras.distribution.initialize(address, int(processes), int(process))
    if ON_TENSORFLOW:
        # Which takes longer than a few steps: see conftest.py.
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
        cpu = tf.config.list_physical_devices("CPU")[0]
        devices = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, devices)
        all_devices = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    else:
        all_devices = keras.distribution.DataParallel()
    several = {f"process {process}" if address else "two": all_devices}
    one = {} if address else {"one": tf.distribute.get_strategy()}
    for name in names.split(","):
        for devices, distribution in {**one, **several}.items():
            keras.utils.set_random_seed(0)
            with distribution.scope():
                found = train(MODELS[name](), OPTIMIZERS[optimizer]())
            np.savez(Path(folder, f"{name} on {devices}.npz"), **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
