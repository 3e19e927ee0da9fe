import atexit
import os
import shutil
import tempfile

import pytest

if os.environ.get("KERAS_BACKEND") == "jax":
    # What is compiled once serves all processes: they get the folder from the one that starts them.
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


@pytest.fixture
def double():
    """JAX has float64 only if asked."""
    if os.environ.get("KERAS_BACKEND") != "jax":
        yield
        return
    import jax

    with jax.enable_x64(True):
        yield
