"""The model's arithmetic in C: a step is one call, from token ids to logits. ``build`` compiles, ``library`` calls."""
