"""A HyperLSTM and an LSTM with as many weights learn to write Python, one after the other.

    python examples/demo.py

Both read the same text in the same order, for as many steps and with the same schedule of the
learning rate; after each epoch a line shows what they write by then. Each learning rate is the one
that did best on the validation text; `--choose-learning-rates` makes this choice again, by short
runs of which the best goes on to the end. After an interruption the demo continues.
"""

import argparse
import math
from pathlib import Path

import char_lm
from common import command_line, outputs
from common.sequence_training import Run, choose_learning_rate  # before Keras
from common.texts import datasets

# isort: split
import keras

from keras_hypernets import models

HYPER_LSTM = "--cell hyper_lstm --units 160 --hyper-units 32 --embedding-dim 8".split()
TRAINING = """--batch-size 32 --sequence-length 100 --patience 0 --learning-rate-decay 0.75
    --train-characters 10000 --length 600 --temperature 0.6""".split()
TRAINING += ["--prompt", "    def "]  # a method
BEST_RATES = {"HyperLSTM": 0.008, "LSTM": 0.032}
RATES = (0.008, 0.016, 0.032)
SHORT, LONG = 2, 8  # epochs
LINE = 36  # characters written after each epoch


def main(arguments: list[str] | None = None) -> None:
    """Trains both models, as far as that is not done, and prints how they compare."""
    parser = command_line.ArgumentParser(prog="demo.py", description=__doc__.splitlines()[0])
    parser.option("--output", str, "runs/demo", "folder for everything the demo writes")
    parser.option(
        "--steps-per-epoch",
        command_line.positive_integer,
        75,
        f"there are {LONG} epochs",
    )
    parser.add_argument(
        "--choose-learning-rates",
        action="store_true",
        help=f"choose each from {', '.join(map(str, RATES))} and up by runs of {SHORT} epochs "
        f"(default: {', '.join(f'{rate} for the {name}' for name, rate in BEST_RATES.items())})",
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error arose")
    options = parser.parse_args(arguments)
    output = Path(options.output)

    text = datasets.load_text("python-stdlib")
    print(text.description)
    cells = {"HyperLSTM": HYPER_LSTM, "LSTM": lstm_of_equal_size(text.vocabulary)}
    results = {name: train(name, cell, options) for name, cell in cells.items()}
    histories = {name: [result["history"]] for name, result in results.items()}
    outputs.save_learning_curves(
        output / "curves.png", histories, "bits_per_character", "bits per character"
    )
    outputs.save_json(output / "results.json", results)
    print(f"\nWhat the HyperLSTM writes:\n\n{results['HyperLSTM']['sample']}")
    print_comparison(results)
    print(f"\nplot        {output / 'curves.png'}\nresults     {output / 'results.json'}")
    print(f"SavedModel  {results['HyperLSTM']['saved_model']}")


def lstm_of_equal_size(vocabulary: str) -> list[str]:
    """Returns the options of the LSTM whose number of weights is closest to the HyperLSTM's."""
    options = char_lm.parse(["train", *HYPER_LSTM])
    weights = char_lm.make_model(options, vocabulary).count_params()
    # With u units and v characters an LSTM has 4 u (v + u + 1) weights, the logits have v (u + 1).
    v = len(vocabulary)
    half = (5 * v + 4) / 8
    units = round(math.sqrt(half**2 + (weights - v) / 4) - half)
    return ["--cell", "lstm", "--units", str(units)]


def train(name: str, cell: list[str], options: argparse.Namespace) -> dict:
    """Trains a cell to the end, on request after a choice of its learning rate."""
    steps = ["--steps-per-epoch", str(options.steps_per_epoch), "--resume"]

    def make_run(rate, epochs):
        output = Path(options.output) / f"{name.lower()}-{rate}"
        more = ["--learning-rate", str(rate), "--epochs", str(epochs), "--output", str(output)]
        run = char_lm.make_run(char_lm.parse(["train", *cell, *TRAINING, *steps, *more]))
        show_what_it_writes(run)
        return run

    rate, bits, seconds = BEST_RATES[name], {}, {}
    print(f"\n{name}")
    if options.choose_learning_rates:
        rate, bits, seconds = choose_learning_rate(make_run, RATES, SHORT)
    run = make_run(rate, LONG)
    run.fit()
    seconds[rate] = run.checkpoint.seconds
    return run.report() | {
        "short_runs": bits,
        "seconds_of_all_runs": sum(seconds.values()),
        "saved_model": str(run.output / "saved_model"),
    }


def show_what_it_writes(run: Run) -> None:
    """Has a run print a line after each epoch, in place of Keras' own."""
    prompt, temperature, seed = run.prompt, run.options.temperature, run.options.seed

    def head(logs=None):
        print(f" steps   bits per character   what it writes after {prompt!r}")

    def line(epoch, logs):
        model = run.best.portable  # has the weights of the one in training, which reads batches
        text = models.char_lm.generate(model, prompt, LINE, temperature, seed)
        print(f"{run.checkpoint.step:6,}   {logs[run.validation]:18.3f}   {text!r}", flush=True)

    run.verbose = 0
    run.monitors.append(keras.callbacks.LambdaCallback(on_train_begin=head, on_epoch_end=line))


def print_comparison(results: dict[str, dict]) -> None:
    """Prints a table, and in words which model is better."""
    print(
        "\n            weights  learning rate  bits per character     milliseconds\n"
        "                                    validation    test     per step"
    )
    for name, result in results.items():
        bits, rate = result["bits_per_character"], result["settings"]["learning_rate"]
        print(
            f"{name:9} {result['parameters']:9,}  {rate:13}  {bits['validation']:10.3f}  "
            f"{bits['test']:6.3f}  {result['milliseconds_per_step']:11.0f}"
        )
    hyper, lstm = (result["bits_per_character"]["test"] for result in results.values())
    winner, less = ("HyperLSTM", 1 - hyper / lstm) if hyper < lstm else ("LSTM", 1 - lstm / hyper)
    minutes = sum(result["seconds_of_all_runs"] for result in results.values()) / 60
    tried = [", ".join(map(str, result["short_runs"])) for result in results.values()]
    print(f"\nThe {winner} wins: it needs {less:.1%} fewer bits for the test text. One seed each.")
    print("Longer training, such as --steps-per-epoch 250, brings them closer.")
    if any(tried):
        print(f"Learning rates were chosen on the validation text from {' and from '.join(tried)}.")
    print(f"All training took {minutes:.1f} minutes.")


if __name__ == "__main__":
    command_line.run(main, " (the same command goes on)")
