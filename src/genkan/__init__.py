"""genkan: an LLM gateway with its own inference engine, packed as a BentoML service bundle."""

__all__ = ["__version__"]

__version__ = "0.1.0"
