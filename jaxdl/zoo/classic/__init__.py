"""Classic models that are not trained by backpropagation, each with its learning rule."""
