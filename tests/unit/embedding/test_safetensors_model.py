"""Folders with encoders, with transformers' own classes as the oracle."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel

from genkan.config import EmbedderConfig
from genkan.embedding.embedder import Embedder
from genkan.embedding.safetensors_model import load_folder
from genkan.errors import ContextTooLong, ModelFileError

WORDS = ["<s>", "<pad>", "</s>", "<unk>", "how", "do", "i", "reset", "my", "password", "?", "query", ":"]
SIZES: dict[str, Any] = {
    "vocab_size": len(WORDS), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 40, "pad_token_id": 1, "initializer_range": 0.3,
}  # fmt: skip
TEXTS = ["how do i reset my password ?", "password", "my my my my my", "do i ?"]
CPU = torch.device("cpu")


def save(folder: Path, model: Any) -> Any:
    model.eval().save_pretrained(folder)
    tokenizer = Tokenizer(WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    tokenizer.save(str(folder / "tokenizer.json"))
    return model


def pool(folder: Path, **modes: bool) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **modes}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save(tmp_path, BertModel(BertConfig(**SIZES)))
    return tmp_path


def expected(model: Any, ids: list[int], *, cls: bool = False) -> NDArray[np.float32]:
    with torch.inference_mode():
        hidden = model(torch.tensor([ids])).last_hidden_state[0]
    vector = hidden[0] if cls else hidden.mean(0)
    found: NDArray[np.float32] = (vector / vector.norm()).numpy()
    return found


def loaded(folder: Path) -> tuple[NDArray[np.float32], list[list[int]]]:
    encoder, text_ids = load_folder(folder, device=CPU, dtype=torch.float32, threads=1)
    ids = text_ids.encode(TEXTS, 38)
    return encoder.encode(ids), ids


@pytest.mark.parametrize(
    "make",
    [
        lambda: BertModel(BertConfig(**SIZES)),
        lambda: BertModel(BertConfig(**SIZES, hidden_act="gelu_pytorch_tanh")),
        lambda: XLMRobertaModel(XLMRobertaConfig(**SIZES, type_vocab_size=1)),
    ],
)
def test_vectors_are_those_of_transformers(tmp_path: Path, make: Any) -> None:
    torch.manual_seed(0)
    model = save(tmp_path, make())
    vectors, ids = loaded(tmp_path)
    assert ids[1] == [0, 9, 2]
    for vector, of_text in zip(vectors, ids, strict=True):
        assert np.allclose(vector, expected(model, of_text), atol=1e-5)


def test_a_text_can_be_its_first_tokens_vector(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = save(tmp_path, BertModel(BertConfig(**SIZES)))
    pool(tmp_path, pooling_mode_cls_token=True, pooling_mode_mean_tokens=False)
    vectors, ids = loaded(tmp_path)
    assert np.allclose(vectors[0], expected(model, ids[0], cls=True), atol=1e-5)


def test_an_embedder_runs_on_it_and_says_which_text_is_too_long(folder: Path) -> None:
    embedder = Embedder.load(EmbedderConfig(model=str(folder), prefix="", device="cpu"))
    assert embedder.embed(["my password", "?"]).tokens == [4, 3]
    assert embedder.embed(["my password"]).vectors.shape == (1, 32)
    with pytest.raises(ContextTooLong, match="40 tokens") as caught:
        embedder.embed(["my", "my " * 60])
    assert caught.value.param == "input[1]"
    assert caught.value.given_tokens == 62


def test_another_kind_of_model_is_refused(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "model_type": "mpnet"}))
    with pytest.raises(ModelFileError, match="'mpnet'"):
        loaded(folder)


def test_a_layer_after_the_pooling_is_refused(folder: Path) -> None:
    kinds = ["sentence_transformers.models.Transformer", "sentence_transformers.models.Dense"]
    (folder / "modules.json").write_text(json.dumps([{"type": kind} for kind in kinds]))
    with pytest.raises(ModelFileError, match="asks for Dense"):
        loaded(folder)


def test_another_pooling_is_refused(folder: Path) -> None:
    pool(folder, pooling_mode_max_tokens=True)
    with pytest.raises(ModelFileError, match="pooling_mode_max_tokens"):
        loaded(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_file_is_an_error(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"{")
    with pytest.raises(ModelFileError, match=folder.name):
        loaded(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_missing_file_is_an_error_that_names_it(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelFileError, match=name):
        Embedder.load(EmbedderConfig(model=str(folder)))


def test_missing_weights_are_an_error_that_names_them(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "num_hidden_layers": 3}))
    with pytest.raises(ModelFileError, match=r"encoder\.layer\.2\.attention"):
        loaded(folder)
