"""From a model file to tensors."""
