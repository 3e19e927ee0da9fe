"""How the comparisons of texts choose a learning rate: by short runs, on the validation text."""

import math
from collections.abc import Callable, Sequence

from common import training


def choose(
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
