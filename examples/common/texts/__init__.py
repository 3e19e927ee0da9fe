"""Character language models: texts, batches of them, options, training and evaluation."""
