"""The arms to compare with: transformers on the same weights, in the same process, on the same threads.

transformers reads the GGUF file with its own loader, into bfloat16. ``generate`` decodes one padded batch;
continuous batching runs in its own manager. Both say when each token came, so they are measured as the engine is.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from genkan.engine.load.source import locate

CB_PAGE_TOKENS = 256
CB_BATCH_TOKENS = 2048  # a step holds 32 prompts of 64 tokens whole


class CannotRun(Exception):
    """An arm does not run on this machine; the message says why."""


class Transformers:
    """transformers' own llama, ready to generate."""

    def __init__(self, source: str, device: str = "cpu") -> None:
        """Load the GGUF file that ``source``, as ``engine.model``, names, onto ``device``. Cost: some 20 s.

        Raises ModelFileError.
        """
        self._device = torch.device(device)
        config, tensors = _read(source)
        self._model = _build(config, tensors).to(self._device)
        # Continuous batching swaps the attention of its model, so it has one of its own, on the same memory.
        self._cb_model = _build(config, tensors)

    def decode(self, prompts: list[list[int]], new_tokens: int) -> list[list[float]]:
        """When each token of each prompt came, by ``generate`` on one batch. The prompts are equally long."""
        times = _TokenTimes()
        ids = torch.tensor(prompts, device=self._device)
        with _all_cores(), torch.inference_mode():
            self._model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, do_sample=False, streamer=times
            )
        return [times.token_s] * len(prompts)

    def prefill(self, prompt: list[int]) -> float:
        """Seconds of one forward pass over ``prompt`` that fills a KV cache and gives the last token's logits."""
        ids = torch.tensor([prompt], device=self._device)
        began = time.perf_counter()
        with _all_cores(), torch.inference_mode():
            logits = self._model(ids, use_cache=True, logits_to_keep=1).logits
            logits[0, -1, 0].item()  # a GPU is waited for
        return time.perf_counter() - began

    def decode_continuously(self, prompts: list[list[int]], new_tokens: int) -> list[list[float]]:
        """When each token of each prompt came, by transformers' continuous batching. Raises CannotRun."""
        from transformers import ContinuousBatchingConfig

        per_request = -(-(len(prompts[0]) + new_tokens) // CB_PAGE_TOKENS)
        config = ContinuousBatchingConfig(
            page_size=CB_PAGE_TOKENS,
            num_blocks=len(prompts) * per_request + 4,
            max_batch_tokens=CB_BATCH_TOKENS,
            allow_block_sharing=False,  # no two prompts begin alike, so it could only cost
        )
        try:
            with _all_cores():
                results = self._cb_model.generate_batch(
                    prompts, continuous_batching_config=config, max_new_tokens=new_tokens, record_timestamps=True
                )
        except (RuntimeError, ValueError, NotImplementedError, ImportError) as error:
            raise CannotRun(str(error)) from error
        times = [list(result.timestamps or ()) for result in results.values()]
        if len(times) != len(prompts) or any(len(one) != new_tokens for one in times):
            errors = {result.error for result in results.values()} - {None}
            raise CannotRun(f"it answered {len(times)} of {len(prompts)} prompts: {errors or 'no error given'}")
        return times


@contextmanager
def _all_cores() -> Iterator[None]:
    """torch's threads on every core, as it has them by default; the engine, which has its own, sets one."""
    before = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _TokenTimes:
    """A streamer for ``generate`` that keeps nothing but when it was called."""

    def __init__(self) -> None:
        self._prompt_seen = False
        self.token_s: list[float] = []

    def put(self, _ids: torch.Tensor) -> None:
        if self._prompt_seen:
            self.token_s.append(time.perf_counter())
        self._prompt_seen = True

    def end(self) -> None:
        pass


def _read(source: str) -> tuple[Any, dict[str, torch.Tensor]]:
    """transformers' configuration of the model, and its tensors in bfloat16."""
    from transformers import AutoConfig
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    file = locate(source)
    config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)  # nosec B615  # local
    tensors = load_gguf_checkpoint(str(file), return_tensors=True, model_to_load=_empty(config))["tensors"]
    return config, {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}


def _empty(config: Any) -> Any:
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")


def _build(config: Any, tensors: dict[str, torch.Tensor]) -> Any:
    model = _empty(config)
    model.load_state_dict(tensors, strict=False, assign=True)
    model.tie_weights()
    rotary = model.model.rotary_emb  # its buffers are computed, not stored, and were left on the meta device
    model.model.rotary_emb = type(rotary)(config=config)
    model.generation_config.eos_token_id = None  # every arm generates exactly as many tokens as it is asked for
    model.generation_config.pad_token_id = 0
    return model.eval()
