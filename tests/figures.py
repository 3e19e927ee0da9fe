"""What a figure for people must be."""

import numpy as np


def assert_complete(figure):
    """Fails if anything of a figure is beyond its edges."""
    figure.draw_without_rendering()
    low, high = np.reshape(figure.get_tightbbox().extents, (2, 2))
    np.testing.assert_array_less(0, low)
    np.testing.assert_array_less(high, figure.get_size_inches())
