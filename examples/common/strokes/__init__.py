"""Drawings for the examples: sequences of pen strokes."""
