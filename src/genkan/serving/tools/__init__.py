"""Tool calls: what a request offers, how the model's template wants it, and calls out of what the model says."""
