"""Plots of generated weights and their effects. All need matplotlib."""

from keras_hypernets.plots.cell_saturation import plot_cell_saturation
from keras_hypernets.plots.embedding_similarity import (
    embedding_similarity,
    plot_embedding_similarity,
)
from keras_hypernets.plots.filters import plot_filters
from keras_hypernets.plots.weight_changes import plot_weight_changes, weight_changes

__all__ = [
    "embedding_similarity",
    "plot_cell_saturation",
    "plot_embedding_similarity",
    "plot_filters",
    "plot_weight_changes",
    "weight_changes",
]
