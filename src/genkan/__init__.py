"""genkan: an LLM gateway with its own inference engine, packed as a BentoML service bundle.

As a library: ``from genkan import DynamicBatcher, RateLimiter, TokenStreamer``. What is exported is imported when it
is first asked for.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genkan.dynamic_batcher import DynamicBatcher
    from genkan.rate_limiter import RateLimiter
    from genkan.token_streamer import TokenStreamer

__all__ = ["DynamicBatcher", "RateLimiter", "TokenStreamer", "__version__"]

__version__ = "0.1.0"

_MODULES = {
    "DynamicBatcher": "genkan.dynamic_batcher",
    "RateLimiter": "genkan.rate_limiter",
    "TokenStreamer": "genkan.token_streamer",
}

if not TYPE_CHECKING:  # to a type checker, a module with this function has every name

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(_MODULES[name]), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
