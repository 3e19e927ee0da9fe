"""What goes into a SavedModel: signatures, a card and requests to warm up with."""
