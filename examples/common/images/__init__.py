"""Image classifiers: images, batches of them, training and the comparison of two networks."""
