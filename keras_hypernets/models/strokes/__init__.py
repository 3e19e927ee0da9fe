"""Handwriting and drawings: sequences of points (dx, dy, pen lifted), and models of them."""

from keras_hypernets.models.strokes.mixture_density import MixtureDensity
from keras_hypernets.models.strokes.points import check_strokes, previous_points
from keras_hypernets.models.strokes.stroke_generation import generate_strokes
from keras_hypernets.models.strokes.stroke_loss import nats_per_drawing, stroke_loss
from keras_hypernets.models.strokes.stroke_model import stroke_model

__all__ = [
    "MixtureDensity",
    "check_strokes",
    "generate_strokes",
    "nats_per_drawing",
    "previous_points",
    "stroke_loss",
    "stroke_model",
]
