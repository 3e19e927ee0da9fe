"""SavedModels for serving, and plain models."""

from keras_hypernets.export.bake import bake
from keras_hypernets.export.saved_model import export_saved_model

__all__ = ["bake", "export_saved_model"]
