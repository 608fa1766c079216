"""Benchmarks of the engine, for `make bench-engine` and `make bench-prefix`. Nothing in the product imports them."""
