"""The time loop of a `GatedCell` with its gradient, one module per backend."""
