"""Texts to vectors, in this process."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from genkan.config import EmbedderConfig
from genkan.embedding.e5_model import load_e5
from genkan.embedding.encoder import Encoder
from genkan.embedding.linear import best_dtype
from genkan.embedding.model_path import model_path
from genkan.embedding.safetensors_model import load_folder
from genkan.embedding.text_ids import TextIds
from genkan.embedding.threads import thread_count
from genkan.errors import ContextTooLong, ModelFileError
from genkan.upstream.embeddings import Embedded, param_of, prepared

Item = tuple[int, NDArray[np.float32] | None]


class Embedder:
    """A model that is loaded. Call it from one thread at a time."""

    def __init__(self, encoder: Encoder, text_ids: TextIds, config: EmbedderConfig) -> None:
        self._encoder = encoder
        self._text_ids = text_ids
        self._prefix = config.prefix
        self.max_tokens = min(config.max_tokens, encoder.positions)
        self.dimensions = encoder.dimensions

    @classmethod
    def load(cls, config: EmbedderConfig) -> "Embedder":
        """The configured model, ready: it has computed one text. Raises ModelFileError. Cost: 1.5 s, 0.4 GB.

        Of these the tokenizer's table takes 0.2 GB.
        """
        path = model_path(config)
        device = _device(config)
        load = load_folder if path.is_dir() else load_e5
        threads = thread_count(config) if device.type == "cpu" else 1
        encoder, text_ids = load(path, device=device, dtype=best_dtype(device), threads=threads)
        embedder = cls(encoder, text_ids, config)
        embedder.embed(["ready"])
        return embedder

    def embed(self, texts: Sequence[str]) -> Embedded:
        """As Embeds.embed, at once and in this thread. Raises InvalidRequest and ContextTooLong."""
        ready = prepared(texts, self._prefix)
        vectors, tokens = [], []
        for place, (count, vector) in enumerate(self.items(ready)):
            if vector is None:
                raise ContextTooLong(
                    limit_tokens=self.max_tokens, prompt_tokens=count, max_tokens=0, param=param_of(place, len(texts))
                )
            vectors.append(vector)
            tokens.append(count)
        return Embedded(np.stack(vectors) if vectors else np.empty((0, self.dimensions), np.float32), tokens)

    def items(self, texts: Sequence[str]) -> Iterator[Item]:
        """Of each prepared text its tokens and its vector.

        One that is too long has no vector, and tokens that show it; it does not keep the others from theirs.
        """
        ids = self._text_ids.encode(texts, self.max_tokens)
        vectors = iter(self._encoder.encode([each for each in ids if len(each) <= self.max_tokens]))
        for each in ids:
            yield len(each), next(vectors) if len(each) <= self.max_tokens else None


def _device(config: EmbedderConfig) -> torch.device:
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ModelFileError("embedder.device is cuda, and torch finds no GPU")
    return torch.device(config.device)
