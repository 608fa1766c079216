"""The engine on a GPU against transformers on the same one, and against its memory: ``python -m genkan.bench.gpu``.

A decode step reads all weights once and the KV of every sequence, and can be no faster than the memory they lie in.
That memory is measured by copying; the share is the time so many bytes take, of the time a step took.
"""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch

from genkan.bench import load, report
from genkan.bench.engine import Decode, Prefill, decode, decode_rounds, prefill, prefill_rounds
from genkan.bench.reference import Transformers
from genkan.bench.rounds import Rounds
from genkan.engine.config import Device, EngineConfig, Profile
from genkan.engine.model_runner import ModelRunner

BATCHES = (1, 16, 64, 256)
PROMPT_TOKENS = 64
COPIED_BYTES = 1 << 30


def floor_s(
    *, weight_bytes: int, kv_bytes_per_token: int, sequences: int, tokens_each: float, bytes_per_s: float
) -> float:
    """The least time of a step that decodes ``sequences`` with so many tokens each. Pure."""
    return (weight_bytes + kv_bytes_per_token * sequences * tokens_each) / bytes_per_s


def bandwidth(device: torch.device) -> float:
    """Bytes a second that the device's memory gives: those read and those written by copies, the best of five."""
    source = torch.empty(COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = 0.0
    for _ in range(6):  # the first one warms up
        _finish(device)
        began = time.perf_counter()
        target.copy_(source)
        _finish(device)
        best = max(best, 2 * COPIED_BYTES / (time.perf_counter() - began))
    return best


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def shares(rounds: Mapping[int, Rounds], runner: ModelRunner, new_tokens: int, bytes_per_s: float) -> dict[str, float]:
    """By batch: the floor's share of the time a step took."""
    found = {}
    for batch, its_rounds in rounds.items():
        step_s = batch / its_rounds.median("genkan", "tok_s")
        least_s = floor_s(
            weight_bytes=runner.weight_bytes,
            kv_bytes_per_token=runner.token_bytes,
            sequences=batch,
            tokens_each=PROMPT_TOKENS + new_tokens / 2,
            bytes_per_s=bytes_per_s,
        )
        found[str(batch)] = least_s / step_s
    return found


@click.command()
@click.option("--model", default=EngineConfig().model, show_default=True, help="A GGUF file, as engine.model.")
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option("--profile", type=click.Choice(["fast", "exact"]), default="fast", show_default=True)
@click.option("--batches", default=",".join(map(str, BATCHES)), show_default=True, help="Sequences at once.")
@click.option("--new-tokens", type=click.IntRange(min=4), default=128, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="bench/out", show_default=True)
def main(model: str, device: Device, profile: Profile, batches: str, new_tokens: int, rounds: int, out: Path) -> None:
    """Decode at 1, 16, 64 and 256 sequences, prefill of 1,024 tokens, and the share of the memory's floor."""
    if device == "cuda" and not torch.cuda.is_available():
        raise click.ClickException("torch sees no GPU here; --device cpu shows that the benchmark works")
    sizes = [int(size) for size in batches.split(",")]
    config = EngineConfig(
        model=model,
        device=device,
        profile=profile,
        kernels="torch" if device == "cpu" else "auto",
        max_sequences=max(sizes),
        max_batched_tokens=max(2048, max(sizes)),
        chunk_slowdown=None,
    )
    bytes_per_s = bandwidth(torch.device(device))
    runner = ModelRunner(config)
    reference = Transformers(model, device)
    with load.serving(runner, config) as engine:
        arms: dict[str, Decode] = {"genkan": partial(decode, engine), "transformers": reference.decode}
        decoded = {size: decode_rounds(arms, size, new_tokens, rounds) for size in sizes}
        prefills: dict[str, Prefill] = {"genkan": partial(prefill, engine), "transformers": reference.prefill}
        filled = prefill_rounds(prefills, rounds)
    summary: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "kernels": runner.kernels,
        "bandwidth_gb_s": bytes_per_s / 1e9,
        "decode": {str(size): {arm: each.median(arm, "tok_s") for arm in each.arms} for size, each in decoded.items()},
        "prefill_1k": {arm: filled.median(arm, "tok_s") for arm in filled.arms},
        "share_of_floor": shares(decoded, runner, new_tokens, bytes_per_s),
    }
    print(report.table("Decode by sequences, tokens/s", summary["decode"]))
    print(report.table("\nPrefill, tokens/s", {"1024": summary["prefill_1k"]}))
    print(f"\nMemory: {bytes_per_s / 1e9:.0f} GB/s; its floor's share of a step: {summary['share_of_floor']}")
    report.finish(out, "gpu", summary)


if __name__ == "__main__":
    main()
