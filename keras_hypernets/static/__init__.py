"""Static hypernetworks: one set of weights per layer, from a learned layer embedding."""
