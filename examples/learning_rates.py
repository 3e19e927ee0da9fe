"""How the comparisons of texts choose a learning rate: by short runs, on the validation text."""

import math
from collections.abc import Callable, Sequence

import training


def fit_at_best_rate(
    make_run: Callable, rates: Sequence[float], short: int, long: int
) -> tuple[object, dict[float, float], float]:
    """Chooses the learning rate on the validation text and trains with it, as far as is not done.

    Args:
        make_run: makes the `char_lm_training.Run` of a learning rate and a number of epochs.
        rates: the learning rates to try, ascending; while the highest is the best, twice that too.
        short: epochs after which they are compared.
        long: epochs of the best one, which goes on from where the comparison left it.

    Returns:
        The run of the best rate; the bits per character of each rate after `short` epochs, infinite
        where training diverged; and the seconds of all runs.
    """
    grid, seconds = {}, {}
    rates = list(rates)
    for rate in rates:
        print(f"\nLearning rate {rate}, short run")
        run = make_run(rate, short)
        try:
            grid[rate] = run.fit()[short - 1]["val_bits_per_character"]
        except training.Diverged as error:
            print(error)
            grid[rate] = math.inf
        seconds[rate] = run.checkpoint.seconds
        best = min(grid, key=grid.get)
        if rate == rates[-1] == best:  # the best may lie beyond
            rates.append(2 * rate)
    print(f"\nLearning rate {best} does best so far and goes on")
    run = make_run(best, long)
    run.fit()
    seconds[best] = run.checkpoint.seconds
    return run, grid, sum(seconds.values())
