"""Reads arrays of arrays from `.npz` files without running what else may be in them.

NumPy stores an array of drawings, which are of different lengths, as a pickle. Unpickling may call
any function that the file names, so a file from the internet may do anything with this computer:
NumPy reads such files only with `allow_pickle=True`. Here only what makes up an array is admitted.
"""

import pickle
import zipfile
from pathlib import Path

import numpy as np


class _ArraysOnly(pickle.Unpickler):
    """Unpickles nothing but NumPy arrays, of Python 2 too."""

    def find_class(self, module, name):
        names = module.replace("numpy._core", "numpy.core"), name
        if names == ("numpy.core.multiarray", "_reconstruct"):
            return np.zeros(0).__reduce__()[0]
        if names == ("numpy.core.multiarray", "scalar"):
            return np.float64(0).__reduce__()[0]
        if names in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if names == ("_codecs", "encode"):  # how Python 3 writes bytes for Python 2
            return lambda text, _: text.encode("latin1")
        raise pickle.UnpicklingError(f"{module}.{name} is not part of an array")


def read_arrays(path: Path, names: tuple[str, ...]) -> list[np.ndarray]:
    """Returns arrays of an `.npz` file, which may be arrays of arrays.

    Raises:
        ValueError: if the file has another form.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return [_read(archive, f"{name}.npy") for name in names]
    except OSError as error:
        raise ValueError(
            f"`--data` must be readable. Received: {path} ({error.strerror})"
        ) from error
    except Exception as error:  # zipfile, NumPy and pickle raise many kinds for a wrong file
        raise ValueError(
            f"`--data` must be an .npz file with the arrays {', '.join(names)}, of arrays of "
            f"numbers. Received: {path} ({type(error).__name__}: {error})"
        ) from error


def _read(archive, name):
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        _, _, dtype = readers[version](file)
        if dtype.hasobject:
            return _ArraysOnly(file, encoding="latin1").load()
    with archive.open(name) as file:
        return np.lib.format.read_array(file, allow_pickle=False)
