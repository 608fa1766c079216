"""Embedders for tests that are not about the model."""

import asyncio
from collections.abc import Sequence

import numpy as np

from genkan.upstream.embeddings import Embedded


class ScriptedEmbedder:
    """A vector for each text, told by the text alone, and a token for each of its words. Fails or hangs if told so."""

    def __init__(self, *, dimensions: int = 8, refuse: Exception | None = None, hangs: bool = False) -> None:
        self.dimensions = dimensions
        self.refuse = refuse
        self.asked: list[tuple[list[str], float]] = []  # the texts, and the time that was given
        self.entered = asyncio.Event()
        self._hangs = hangs

    async def embed(self, texts: Sequence[str], *, timeout_s: float) -> Embedded:
        self.asked.append((list(texts), timeout_s))
        self.entered.set()
        if self._hangs:
            await asyncio.Event().wait()
        if self.refuse is not None:
            raise self.refuse
        return Embedded(np.stack([self.vector(text) for text in texts]), [len(text.split()) for text in texts])

    def vector(self, text: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        seen = np.random.default_rng(list(text.encode())).standard_normal(self.dimensions)
        return (seen / np.linalg.norm(seen)).astype(np.float32)

    async def aclose(self) -> None:
        pass
