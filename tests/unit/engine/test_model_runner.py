"""Which forward pass a configuration gets, and what a model is refused for when it is loaded."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from compiled_kernels import compiled_kernels
from forced_runs import part, token_ids
from quantised import tensor_of
from tiny_checkpoints import TinyCheckpoint
from tiny_llama import TinyLlama, file_bytes

from genkan.engine.config import EngineConfig
from genkan.engine.load import folder, gguf
from genkan.engine.model_runner import ModelRunner, multiplies_bf16
from genkan.engine.models.decoder import Rotary
from genkan.errors import ModelFileError

FITS = TinyLlama(heads=3, context_length=128)
DOES_NOT_FIT = TinyLlama(heads=3, head_dim=16, kind="F32")  # a hidden size of 48 is no number of groups


@pytest.fixture(autouse=True)
def torch_threads() -> Iterator[None]:
    """A runner sets torch's threads, for good."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return FITS.written(tmp_path / "fits.gguf")


def runner(path: Path, **settings: object) -> ModelRunner:
    return ModelRunner(EngineConfig.model_validate({"model": str(path), "kv_memory_bytes": 1 << 20, **settings}))


def logits(runner: ModelRunner, ids: list[int]) -> torch.Tensor:
    return runner.forward([part(ids, 0, len(ids), range(-(-len(ids) // runner.block_size)))])


# Which kernels


def test_auto_takes_the_compiled_kernels_for_a_model_that_fits(path: Path) -> None:
    compiled_kernels()
    assert runner(path).kernels == "c"
    assert runner(path, kernels="c").kernels == "c"


def test_torch_is_taken_when_asked_for(path: Path) -> None:
    assert runner(path, kernels="torch").kernels == "torch"


def test_auto_takes_torch_for_sizes_that_the_kernels_do_not_know(tmp_path: Path) -> None:
    loaded = runner(DOES_NOT_FIT.written(tmp_path / "odd.gguf"))
    assert loaded.kernels == "torch"
    assert logits(loaded, token_ids(20)).isfinite().all()


def test_kernels_that_do_not_know_the_models_sizes_are_an_error_when_they_must(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"engine\.kernels is c"):
        runner(DOES_NOT_FIT.written(tmp_path / "odd.gguf"), kernels="c")


def test_without_a_compiler_auto_takes_torch_and_says_so(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CC", "/nonexistent")
    monkeypatch.setenv("GENKAN_CACHE_DIR", str(tmp_path / "cache"))
    loaded = runner(path)
    assert loaded.kernels == "torch"
    assert any("torch does their work" in record.getMessage() for record in caplog.records)
    assert logits(loaded, token_ids(20)).isfinite().all()


def test_without_a_compiler_c_is_an_error(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "/nonexistent")
    monkeypatch.setenv("GENKAN_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(ModelFileError, match=r"engine\.kernels is c, and there are none for this machine"):
        runner(path, kernels="c")


@pytest.mark.parametrize("block_size", [16, 64])
def test_both_compute_the_same_model(path: Path, block_size: int) -> None:
    compiled_kernels()
    ours, theirs = (runner(path, profile="exact", kernels=each, block_size=block_size) for each in ("c", "torch"))
    ids = token_ids(100)
    assert torch.allclose(logits(ours, ids), logits(theirs, ids), atol=1e-4)


# Profiles, threads, sizes


@pytest.mark.parametrize("kernels", ["auto", "torch"])
def test_exact_is_float32_and_fast_is_bfloat16_where_the_processor_has_it(path: Path, kernels: str) -> None:
    exact, fast = (runner(path, profile=profile, kernels=kernels) for profile in ("exact", "fast"))
    assert not exact.bf16
    assert fast.bf16 == multiplies_bf16()
    assert fast.num_blocks == (2 if fast.bf16 else 1) * exact.num_blocks


def test_torch_has_as_many_threads_as_are_configured_where_it_does_the_work(path: Path) -> None:
    for threads in (1, 2):
        runner(path, kernels="torch", threads=threads)
        assert torch.get_num_threads() == threads
    runner(path, kernels="torch")
    assert torch.get_num_threads() == len(os.sched_getaffinity(0))


def test_beside_the_c_kernels_torch_has_one_thread(path: Path) -> None:
    compiled_kernels()
    torch.set_num_threads(2)
    runner(path, threads=3)
    assert torch.get_num_threads() == 1


def test_the_window_is_the_models_own_unless_a_shorter_one_is_set(path: Path) -> None:
    assert runner(path).max_model_len == 128
    assert runner(path, max_model_len=128).max_model_len == 128
    assert runner(path, max_model_len=16).max_model_len == 16


def test_a_window_longer_than_the_models_own_is_an_error(path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"at most the model's own 128; given: 129"):
        runner(path, max_model_len=129)


def test_every_position_of_the_window_and_every_block_can_be_used(path: Path) -> None:
    loaded = runner(path)
    ids = token_ids(128)
    last = range(loaded.num_blocks - 8, loaded.num_blocks)
    assert torch.equal(loaded.forward([part(ids, 0, 128, last)]).clone(), logits(loaded, ids))


@pytest.mark.parametrize("kernels", ["auto", "torch"])
def test_positions_that_no_kv_memory_is_there_for_are_not_tabulated(
    tmp_path: Path, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window of 16 million tokens would take gigabytes, and minutes."""
    asked: list[int] = []
    table = Rotary.table

    def noted(rotary: Rotary, positions: int) -> tuple[torch.Tensor, torch.Tensor]:
        asked.append(positions)
        return table(rotary, min(positions, 1 << 16))

    monkeypatch.setattr(Rotary, "table", noted)
    model = TinyLlama(heads=3, context_length=1 << 24).written(tmp_path / "long.gguf")
    loaded = runner(model, kernels=kernels)
    assert loaded.max_model_len == 1 << 24
    assert asked == [loaded.num_blocks * loaded.block_size]


def test_metadata_and_digest_are_the_files(path: Path) -> None:
    loaded, file = runner(path), gguf.read(path)
    assert loaded.metadata == file.metadata
    assert loaded.digest == file.digest


def test_loading_says_what_was_loaded(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="genkan.engine"):
        loaded = runner(path, profile="exact", kernels="torch", threads=1)
    tokens = loaded.num_blocks * 16
    assert f"float32, torch kernels, 1 threads, KV memory for {tokens} tokens" in caplog.text


# Other kinds of models, other devices


@pytest.mark.parametrize("family", ["mistral", "qwen2", "qwen3", "gemma3"])
def test_a_folder_of_a_family_is_loaded(family: str, tmp_path: Path) -> None:
    reference = TinyCheckpoint(family=family).model()
    reference.save_pretrained(tmp_path)
    loaded = runner(tmp_path, profile="exact")
    assert (loaded.path, loaded.metadata, loaded.vocab_size) == (tmp_path, {}, 61)
    assert loaded.digest == folder.read(tmp_path).digest
    ids = token_ids(40, vocab_size=61)
    with torch.inference_mode():
        expected = reference(torch.tensor([ids])).logits[0, -1:]
    torch.testing.assert_close(logits(loaded, ids), expected, rtol=0, atol=4e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("profile", ["exact", "fast"])
def test_an_architecture_that_only_transformers_has_runs_by_its_modules(profile: str, tmp_path: Path) -> None:
    config = transformers.Olmo2Config(
        vocab_size=61, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=128, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    loaded = runner(tmp_path, profile=profile, block_size=32)
    assert (loaded.kernels, loaded.max_model_len, loaded.vocab_size) == ("torch", 128, 61)
    assert loaded.bf16 == (profile == "fast" and multiplies_bf16())
    assert loaded.num_blocks == (1 << 20) // (2 * 2 * 64 * (2 if loaded.bf16 else 4) * 32)
    loaded.check()
    ids = token_ids(100, vocab_size=61)
    assert logits(loaded, ids).isfinite().all()
    with pytest.raises(ModelFileError, match=r"engine\.kernels is c, and there are none for this model"):
        runner(tmp_path, kernels="c")
    with pytest.raises(ModelFileError, match=r"at most the model's own 128; given: 129"):
        runner(tmp_path, max_model_len=129)


def test_a_file_of_an_unknown_architecture_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    path.write_bytes(file_bytes(FITS.metadata() | {"general.architecture": "mamba"}, FITS.tensors()))
    with pytest.raises(ModelFileError, match="is 'mamba'; the engine runs: gemma3, llama, qwen2, qwen3"):
        runner(path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error(path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"engine\.device is cuda, and torch sees no GPU"):
        runner(path, device="cuda")


def test_kernels_for_gpus_are_not_for_a_processor(path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"engine\.kernels is triton, which is not for a CPU"):
        runner(path, device="cpu", kernels="triton")


def test_on_a_processor_nothing_is_swapped_and_no_device_has_memory(path: Path) -> None:
    loaded = runner(path, device="cpu")
    assert (loaded.num_host_blocks, loaded.device_memory()) == (0, {})


# Damaged models


@pytest.mark.parametrize("kernels", ["auto", "torch"])
def test_a_sound_model_passes_its_check(path: Path, kernels: str) -> None:
    runner(path, kernels=kernels).check()


@pytest.mark.parametrize("kernels", ["auto", "torch"])
def test_weights_that_give_no_numbers_fail_the_check(tmp_path: Path, kernels: str) -> None:
    broken = tensor_of("F32", (FITS.hidden,), np.full(FITS.hidden, np.nan, dtype=np.float32))
    path = tmp_path / "broken.gguf"
    path.write_bytes(file_bytes(FITS.metadata(), FITS.tensors() | {"blk.1.ffn_norm.weight": broken}))
    with pytest.raises(ModelFileError, match="not numbers"):
        runner(path, kernels=kernels).check()


def test_a_model_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="there is no model file"):
        runner(tmp_path / "nowhere.gguf")
