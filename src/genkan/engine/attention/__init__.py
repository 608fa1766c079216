"""Attention over a paged KV cache, as torch's forward passes use it."""
