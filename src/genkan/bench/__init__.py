"""Benchmarks of the engine. `make bench-engine` and `make bench-prefix` run them; nothing in the product imports them."""
