"""The version, apart so that a build reads it without importing Keras."""

__version__ = "0.2.0"
