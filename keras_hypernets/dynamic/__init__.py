"""Recurrent cells and layers: weights that change at every time step."""
