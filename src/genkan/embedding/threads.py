"""How many threads a model computes with. Imports no torch."""

import os

from genkan.config import EmbedderConfig

_MOST = 8


def thread_count(config: EmbedderConfig) -> int:
    """The configured number; else one for each core, and at most 8. One text is computed by one thread, whatever it is.

    More than one is in use only while a batch is computed, and they do not wait for each other: on cores that the
    engine and the gateway share, they get their part and lose nothing else.
    """
    return config.threads or min(_MOST, len(os.sched_getaffinity(0)))
