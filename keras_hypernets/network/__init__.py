"""HyperNetwork: the weights of any Keras model, from a condition or a learned embedding."""
