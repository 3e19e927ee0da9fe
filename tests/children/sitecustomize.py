"""Python runs this first in every process that a test starts; conftest.py says why."""

import gc

gc.set_threshold(50_000, 20, 20)
