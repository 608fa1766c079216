"""The command lines of model servers: every setting, as the two programs spell it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from genkan.config import ServeConfig
from genkan.model_servers.command import command

STAND_IN = Path(__file__).parents[2] / "model_server_stand_in.py"
EVERYTHING: dict[str, Any] = {
    "model": "org/model",
    "tensor_parallel": 4,
    "pipeline_parallel": 2,
    "distributed_executor": "ray",
    "memory_share": 0.85,
    "max_sequences": 128,
    "max_model_len": 32768,
    "max_batched_tokens": 8192,
    "block_size": 32,
    "chunked_prefill": False,
    "prefix_caching": False,
    "dtype": "bfloat16",
    "quantization": "fp8",
}


def line(kind: str, *names: str, **serve: Any) -> list[str]:
    return command(kind, ServeConfig.model_validate({"model": "org/model", **serve}), names or ("m",), 8001)


def test_vllm_with_nothing_said() -> None:
    assert line("vllm") == [
        *("vllm", "serve", "org/model", "--host", "127.0.0.1", "--port", "8001", "--served-model-name", "m"),
        *("--tensor-parallel-size", "1", "--pipeline-parallel-size", "1", "--gpu-memory-utilization", "0.9"),
        *("--enable-chunked-prefill", "--enable-prefix-caching", "--dtype", "auto"),
        *("--enable-prompt-tokens-details", "--disable-uvicorn-access-log"),
    ]


def test_vllm_with_everything_said() -> None:
    assert line("vllm", "a", "b", **EVERYTHING) == [
        *("vllm", "serve", "org/model", "--host", "127.0.0.1", "--port", "8001", "--served-model-name", "a", "b"),
        *("--tensor-parallel-size", "4", "--pipeline-parallel-size", "2", "--distributed-executor-backend", "ray"),
        *("--gpu-memory-utilization", "0.85", "--max-num-seqs", "128", "--max-model-len", "32768"),
        *("--max-num-batched-tokens", "8192", "--block-size", "32", "--no-enable-chunked-prefill"),
        *("--no-enable-prefix-caching", "--dtype", "bfloat16", "--quantization", "fp8"),
        *("--enable-prompt-tokens-details", "--disable-uvicorn-access-log"),
    ]


def test_sglang_with_nothing_said() -> None:
    assert line("sglang") == [
        *("python3", "-m", "sglang.launch_server", "--model-path", "org/model", "--host", "127.0.0.1"),
        *("--port", "8001", "--served-model-name", "m", "--tp-size", "1", "--pp-size", "1"),
        *("--mem-fraction-static", "0.9", "--dtype", "auto", "--enable-metrics", "--enable-cache-report"),
        *("--log-level-http", "warning"),
    ]


def test_sglang_with_everything_said() -> None:
    assert line("sglang", "a", "b", **EVERYTHING)[3:] == [
        *("--model-path", "org/model", "--host", "127.0.0.1", "--port", "8001", "--served-model-name", "a"),
        *("--tp-size", "4", "--pp-size", "2", "--use-ray", "--mem-fraction-static", "0.85"),
        *("--max-running-requests", "128", "--context-length", "32768", "--chunked-prefill-size", "-1"),
        *("--page-size", "32", "--disable-radix-cache", "--dtype", "bfloat16", "--quantization", "fp8"),
        *("--enable-metrics", "--enable-cache-report", "--log-level-http", "warning"),
    ]


def test_sglangs_chunks_have_a_size() -> None:
    words = line("sglang", max_batched_tokens=4096)
    assert words[words.index("--chunked-prefill-size") + 1] == "4096"


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_the_program_and_more_arguments_are_as_they_are_given(kind: str) -> None:
    words = line(kind, command=["/opt/v/bin/program"], arguments=["--seed", "7"])
    assert words[0] == "/opt/v/bin/program"
    assert words[-2:] == ["--seed", "7"]


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_the_stand_in_which_knows_their_flags_takes_it(kind: str, tmp_path: Path) -> None:
    (tmp_path / "refuse").touch()  # which it does once it has read its command line
    words = line(
        kind, command=[sys.executable, str(STAND_IN)], **{k: EVERYTHING[k] for k in EVERYTHING if k != "model"}
    )
    environ = {**os.environ, "STAND_IN_FOLDER": str(tmp_path)}
    done = subprocess.run(words, env=environ, capture_output=True, check=False, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (1, "")
    assert "refuses to start" in done.stdout
