"""Model families: what a file says of its shape, and which tensors make a layer."""
