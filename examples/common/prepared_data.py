"""Data sets of tensorflow-datasets, and what the user is told when data cannot be had."""

import contextlib
import logging
import os
import textwrap
from collections.abc import Iterator


@contextlib.contextmanager
def prepared_builder(name: str, host: str, alternatives: str) -> Iterator:
    """Gives the tensorflow-datasets builder of a data set, downloaded and prepared.

    Args:
        name: Name of the data set; `TFDS_DATA_DIR` is honoured.
        host: Where it is downloaded from.
        alternatives: What the user can do instead, for errors, or "".

    Raises:
        ValueError: For whatever goes wrong before the context is left.
    """
    logger = logging.getLogger("absl")
    level = logger.level
    try:
        # tensorflow-datasets warns that the data is not there yet: no news, and not one line.
        logger.setLevel(logging.ERROR)
        import tensorflow_datasets as tfds

        # Passed on, since tensorflow-datasets reads the variable only once, when it is imported.
        builder = tfds.builder(name, data_dir=os.environ.get("TFDS_DATA_DIR"))
        if not builder.is_prepared():
            # Without a network tensorflow-datasets tries again for more than three minutes and
            # leaves half a download behind.
            import requests

            requests.head(host, timeout=10)
            config = tfds.download.DownloadConfig(try_download_gcs=False)
            builder.download_and_prepare(download_config=config)
        yield builder
    except Exception as error:  # its back ends raise errors of many kinds, none with a common base
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 300, placeholder=" ...")
        raise ValueError(
            f"{name!r} needs tensorflow-datasets and, unless TFDS_DATA_DIR names a folder where it "
            f"is prepared, a network{alternatives}. Received: {reason}"
        ) from error
    finally:
        logger.setLevel(level)
