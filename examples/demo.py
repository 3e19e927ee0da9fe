"""A HyperLSTM and an LSTM with as many weights learn to write Python, one after the other.

    python examples/demo.py

Both read the same text in the same order, for as many steps and with the same schedule of the
learning rate. Where it starts is chosen for each on the validation text, by short runs of which the
best goes on to the end. After an interruption the demo continues.
"""

import math
from pathlib import Path

import char_lm
from common import command_line, outputs
from common.sequence_training import choose_learning_rate
from common.texts import datasets

HYPER_LSTM = "--cell hyper_lstm --units 160 --hyper-units 32 --embedding-dim 8".split()
TRAINING = """--batch-size 32 --sequence-length 100 --steps-per-epoch 250 --patience 0
    --learning-rate-decay 0.75 --prompt def --length 600 --temperature 0.6""".split()
LEARNING_RATES = (0.008, 0.016, 0.032)
SHORT, LONG = 2, 8  # epochs


def main(arguments: list[str] | None = None) -> None:
    """Trains both models, as far as that is not done, and prints how they compare."""
    parser = command_line.ArgumentParser(prog="demo.py", description=__doc__.splitlines()[0])
    parser.option("--output", str, "runs/demo", "folder for everything the demo writes")
    parser.add_argument("--traceback", action="store_true", help="show where an error arose")
    output = Path(parser.parse_args(arguments).output)

    text = datasets.load_text("python-stdlib")
    print(text.description)
    cells = {"HyperLSTM": HYPER_LSTM, "LSTM": lstm_of_equal_size(text.vocabulary)}
    results = {name: train(cell, output / name.lower()) for name, cell in cells.items()}
    histories = {name: [result["history"]] for name, result in results.items()}
    outputs.save_learning_curves(
        output / "curves.png", histories, "bits_per_character", "bits per character"
    )
    outputs.save_json(output / "results.json", results)
    print_comparison(results)
    print(f"\nWhat the HyperLSTM writes:\n\n{results['HyperLSTM']['sample']}\n")
    print(f"plot        {output / 'curves.png'}\nresults     {output / 'results.json'}")
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


def train(cell: list[str], output: Path) -> dict:
    """Chooses the learning rate for a cell, trains it to the end and returns its results."""

    def run(rate, epochs):
        options = ["--learning-rate", str(rate), "--epochs", str(epochs), "--resume"]
        options += ["--output", f"{output}-{rate}"]
        return char_lm.make_run(char_lm.parse(["train", *cell, *TRAINING, *options]))

    best, bits, seconds = choose_learning_rate(run, LEARNING_RATES, SHORT)
    chosen = run(best, LONG)
    chosen.fit()
    seconds[best] = chosen.checkpoint.seconds
    return chosen.report() | {
        "short_runs": bits,
        "seconds_of_all_runs": sum(seconds.values()),
        "saved_model": str(chosen.output / "saved_model"),
    }


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
    tried = (", ".join(map(str, result["short_runs"])) for result in results.values())
    print(
        f"\nThe {winner} wins: it needs {less:.1%} fewer bits for the test text. One seed each.\n"
        f"Learning rates were chosen on the validation text from {' and from '.join(tried)}.\n"
        f"All training took {minutes:.1f} minutes."
    )


if __name__ == "__main__":
    command_line.run(main, " (the same command goes on)")
