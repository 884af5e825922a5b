"""Models from before backpropagation and beside it, each with its own way of learning."""
