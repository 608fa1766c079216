"""GGUF files: a tiny llama is written as llama.cpp's converter would, and read back."""

import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, dequantize, quantize

from genkan.engine.load import gguf
from genkan.engine.load.gguf import ModelFile
from genkan.errors import ModelFileError

HEADS, KV_HEADS, HIDDEN, FEED_FORWARD, LAYERS, VOCAB = 4, 2, 32, 64, 2, 16
KV_SIZE = HIDDEN // HEADS * KV_HEADS

Tensors = dict[str, "np.ndarray[Any, np.dtype[np.float32]]"]


def tiny_tensors() -> Tensors:
    """Weights under transformers' names."""
    shapes = {"model.embed_tokens": (VOCAB, HIDDEN), "model.norm": (HIDDEN,)}
    for layer in range(LAYERS):
        shapes |= {
            f"model.layers.{layer}.{name}": shape
            for name, shape in {
                "input_layernorm": (HIDDEN,),
                "self_attn.q_proj": (HIDDEN, HIDDEN),
                "self_attn.k_proj": (KV_SIZE, HIDDEN),
                "self_attn.v_proj": (KV_SIZE, HIDDEN),
                "self_attn.o_proj": (HIDDEN, HIDDEN),
                "post_attention_layernorm": (HIDDEN,),
                "mlp.gate_proj": (FEED_FORWARD, HIDDEN),
                "mlp.up_proj": (FEED_FORWARD, HIDDEN),
                "mlp.down_proj": (HIDDEN, FEED_FORWARD),
            }.items()
        }
    random = np.random.default_rng(1)
    return {f"{name}.weight": random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def gguf_name(name: str) -> str:
    """llama.cpp's name for a tensor, by its own table."""
    for theirs, ours in (
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers.", "blk."),
        ("input_layernorm", "attn_norm"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.", "attn_"),
        ("post_attention_layernorm", "ffn_norm"),
        ("mlp.", "ffn_"),
        ("_proj", ""),
    ):
        name = name.replace(theirs, ours)
    return name


def interleaved(rows: Any, heads: int) -> Any:
    """Query or key rows in llama.cpp's order: ``LlamaModel.permute`` of its converter."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def write(
    path: Path,
    tensors: Tensors | None = None,
    *,
    architecture: str = "llama",
    extra: dict[str, tuple[int, ...]] | None = None,
    quantized: str | None = None,
    leave_out: str = "",
) -> Path:
    """A GGUF file. ``extra`` are more tensors by their GGUF names, ``quantized`` one that is stored as Q8_0."""
    writer = GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    if leave_out != "head_count":
        writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_array("tokenizer.ggml.tokens", ["a", "ă", "\u0120한"])
    for name, values in (tiny_tensors() if tensors is None else tensors).items():
        heads = {"q_proj": HEADS, "k_proj": KV_HEADS}.get(name.split(".")[-2])
        stored = values if heads is None else interleaved(values, heads)
        kind = GGMLQuantizationType.Q8_0
        if name == quantized:
            writer.add_tensor(gguf_name(name), quantize(stored, kind), raw_dtype=kind)
        else:
            writer.add_tensor(gguf_name(name), np.ascontiguousarray(stored))
    for name, shape in (extra or {}).items():
        writer.add_tensor(name, np.zeros(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny.gguf")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """The dtypes of the conversions so far."""
    made: list[torch.dtype] = []
    convert = gguf._convert

    def counted(path: Path, dtype: torch.dtype, digest: str) -> ModelFile:
        made.append(dtype)
        return convert(path, dtype, digest)

    monkeypatch.setattr(gguf, "_convert", counted)
    return made


def assert_is_tiny(model: ModelFile, dtype: torch.dtype = torch.float32) -> None:
    expected = {name: torch.from_numpy(values).to(dtype) for name, values in tiny_tensors().items()}
    assert model.tensors.keys() == expected.keys()
    for name, values in expected.items():
        assert model.tensors[name].dtype is dtype
        assert torch.equal(model.tensors[name], values), name


def test_a_file_gives_back_the_weights_it_was_written_from(file: Path, cache: Path) -> None:
    assert_is_tiny(gguf.load(file, torch.float32, cache))


def test_a_file_gives_its_metadata_under_ggufs_names(file: Path, cache: Path) -> None:
    metadata = gguf.load(file, torch.float32, cache).metadata
    assert metadata["general.architecture"] == "llama"
    assert metadata["llama.attention.head_count_kv"] == KV_HEADS
    assert metadata["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-5)
    assert metadata["tokenizer.ggml.tokens"] == ["a", "ă", "\u0120한"]


def test_the_query_rows_of_the_file_are_not_those_of_the_model() -> None:
    # Without this, the tests above could pass for a reader that leaves the rows as they are.
    rows = tiny_tensors()["model.layers.0.self_attn.k_proj.weight"]
    assert not np.array_equal(interleaved(rows, KV_HEADS), rows)
    assert not np.array_equal(interleaved(rows, KV_HEADS), interleaved(rows, HEADS))


def test_quantised_weights_become_dense(tmp_path: Path, cache: Path) -> None:
    name = "model.layers.1.mlp.down_proj.weight"
    path = write(tmp_path / "q8.gguf", quantized=name)
    kind = GGMLQuantizationType.Q8_0
    expected = torch.from_numpy(dequantize(quantize(tiny_tensors()[name], kind), kind))
    assert torch.equal(gguf.load(path, torch.float32, cache).tensors[name], expected)


def test_an_output_matrix_of_its_own_is_read(tmp_path: Path, cache: Path) -> None:
    head = np.ones((VOCAB, HIDDEN), dtype=np.float32)
    path = write(tmp_path / "untied.gguf", {**tiny_tensors(), "lm_head.weight": head})
    assert torch.equal(gguf.load(path, torch.float32, cache).tensors["lm_head.weight"], torch.from_numpy(head))


def test_a_second_load_comes_from_the_cache(file: Path, cache: Path, conversions: list[torch.dtype]) -> None:
    first = gguf.load(file, torch.float32, cache)
    second = gguf.load(file, torch.float32, cache)
    assert conversions == [torch.float32]
    assert_is_tiny(second)
    assert (second.digest, second.metadata) == (first.digest, first.metadata)


def test_each_dtype_has_an_entry_of_its_own(file: Path, cache: Path, conversions: list[torch.dtype]) -> None:
    for _ in range(2):
        assert_is_tiny(gguf.load(file, torch.float32, cache), torch.float32)
        assert_is_tiny(gguf.load(file, torch.bfloat16, cache), torch.bfloat16)
    assert conversions == [torch.float32, torch.bfloat16]


def test_a_file_that_was_changed_in_place_is_converted_again(
    file: Path, cache: Path, conversions: list[torch.dtype]
) -> None:
    before = gguf.load(file, torch.float32, cache)
    write(file, {**tiny_tensors(), "model.norm.weight": np.zeros(HIDDEN, dtype=np.float32)})
    after = gguf.load(file, torch.float32, cache)
    assert len(conversions) == 2
    assert after.digest != before.digest
    assert torch.equal(after.tensors["model.norm.weight"], torch.zeros(HIDDEN))


def test_a_moved_file_is_still_in_the_cache(file: Path, cache: Path, conversions: list[torch.dtype]) -> None:
    gguf.load(file, torch.float32, cache)
    gguf.load(file.rename(file.with_name("moved.gguf")), torch.float32, cache)
    assert len(conversions) == 1


def test_the_cache_holds_nothing_but_whole_entries(file: Path, cache: Path) -> None:
    gguf.load(file, torch.float32, cache)
    (entry,) = cache.iterdir()
    assert sorted(part.name for part in entry.iterdir()) == ["metadata.json", "weights.safetensors"]


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _overwrite_the_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("part", ["metadata.json", "weights.safetensors"])
@pytest.mark.parametrize("damage", [_truncate, _overwrite_the_middle, _empty, Path.unlink])
def test_a_damaged_cache_entry_is_replaced(
    file: Path, cache: Path, conversions: list[torch.dtype], part: str, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    gguf.load(file, torch.float32, cache)
    (entry,) = cache.iterdir()
    damage(entry / part)
    with caplog.at_level(logging.WARNING, "genkan.engine"):
        assert_is_tiny(gguf.load(file, torch.float32, cache))
    assert "damaged" in caplog.text
    assert_is_tiny(gguf.load(file, torch.float32, cache))
    assert len(conversions) == 2


def test_a_cache_folder_that_cannot_be_made_costs_a_warning(
    file: Path, tmp_path: Path, conversions: list[torch.dtype], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "taken").write_text("a file where a folder should be")
    for _ in range(2):
        assert_is_tiny(gguf.load(file, torch.float32, tmp_path / "taken" / "cache"))
    assert len(conversions) == 2
    assert "converted weights are not kept" in caplog.text


@contextmanager
def _files_of_at_most(num_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_without_room_costs_a_warning_and_leaves_nothing_behind(
    file: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with _files_of_at_most(8192):  # the weights are larger; a write beyond it fails as on a full disk
        assert_is_tiny(gguf.load(file, torch.float32, cache))
    assert "converted weights are not kept" in caplog.text
    assert list(cache.iterdir()) == []


def test_a_process_that_was_second_keeps_the_entry_of_the_first(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gguf.load(file, torch.float32, cache)
    with monkeypatch.context() as patch:
        patch.setattr(gguf, "_read_entry", lambda *_: None)  # as if it had looked before the first was done
        assert_is_tiny(gguf.load(file, torch.float32, cache))
    assert "not kept" not in caplog.text
    assert len(list(cache.iterdir())) == 1


def test_another_architecture_is_an_error_that_names_it(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "other.gguf", architecture="qwen3")
    with pytest.raises(ModelFileError, match=r"other\.gguf .*'qwen3'.*: llama"):
        gguf.load(path, torch.float32, cache)
    assert not cache.exists()


@pytest.mark.parametrize("content", [b"", b"GGUF", b"PK\x03\x04" * 100, b"GGUF" + b"\xff" * 400, b"\x00" * 400])
def test_a_file_that_is_not_gguf_is_an_error_that_names_it(tmp_path: Path, cache: Path, content: bytes) -> None:
    path = tmp_path / "no.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"no\.gguf is not a readable GGUF file"):
        gguf.load(path, torch.float32, cache)


def test_a_file_that_ends_too_soon_is_an_error_wherever_it_ends(file: Path, cache: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    path = tmp_path / "part.gguf"
    for size in [*range(0, 2000, 97), *range(2000, len(content), 4999), len(content) - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(ModelFileError, match=r"part\.gguf"):
            gguf.load(path, torch.float32, cache)


@pytest.mark.parametrize(
    "name", ["strange.weight", "strange", "blk.0.attn_q.bias", "blk.0.ffn_gate_exps.weight", "rope_freqs.weight"]
)
def test_a_tensor_that_the_engine_does_not_know_is_an_error_that_names_it(
    tmp_path: Path, cache: Path, name: str
) -> None:
    path = write(tmp_path / "more.gguf", extra={name: (HIDDEN,)})
    with pytest.raises(ModelFileError, match=name.removesuffix(".weight").replace(".", r"\.")) as caught:
        gguf.load(path, torch.float32, cache)
    assert "more.gguf" in str(caught.value)


def test_a_file_that_does_not_say_how_many_heads_it_has_is_an_error(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "headless.gguf", leave_out="head_count")
    with pytest.raises(ModelFileError, match=r"headless\.gguf.*llama\.attention\.head_count"):
        gguf.load(path, torch.float32, cache)
