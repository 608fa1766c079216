"""From the configuration of a model server to its command line. Pure.

Sources: vLLM 0.33, ``engine/arg_utils.py`` and ``entrypoints/common/cli_args.py``; SGLang 0.5.23,
``srt/arg_groups/fields``.
"""

from collections.abc import Sequence

from genkan.config import ServeConfig

HOST = "127.0.0.1"
_PROGRAMS: dict[str, list[str]] = {"vllm": ["vllm"], "sglang": ["python3", "-m", "sglang.launch_server"]}


def command(kind: str, serve: ServeConfig, names: Sequence[str], port: int) -> list[str]:
    """What to run for a server that answers for ``names`` at ``port`` of this machine. No secret is in it.

    SGLang has one name; it answers to any, and lists the first.
    """
    program = serve.command or _PROGRAMS[kind]
    own = _vllm(serve, names, port) if kind == "vllm" else _sglang(serve, names, port)
    return [*program, *own, *serve.arguments]


def _vllm(serve: ServeConfig, names: Sequence[str], port: int) -> list[str]:
    return [
        "serve",
        serve.model,
        *("--host", HOST, "--port", str(port)),
        *("--served-model-name", *names),
        *("--tensor-parallel-size", str(serve.tensor_parallel)),
        *("--pipeline-parallel-size", str(serve.pipeline_parallel)),
        *_given("--distributed-executor-backend", serve.distributed_executor),
        *("--gpu-memory-utilization", f"{serve.memory_share:g}"),
        *_given("--max-num-seqs", serve.max_sequences),
        *_given("--max-model-len", serve.max_model_len),
        *_given("--max-num-batched-tokens", serve.max_batched_tokens),
        *_given("--block-size", serve.block_size),
        "--enable-chunked-prefill" if serve.chunked_prefill else "--no-enable-chunked-prefill",
        "--enable-prefix-caching" if serve.prefix_caching else "--no-enable-prefix-caching",
        *("--dtype", serve.dtype),
        *_given("--quantization", serve.quantization),
        "--enable-prompt-tokens-details",  # so that usage has `cached_tokens`
        "--disable-uvicorn-access-log",  # the gateway's line says more
    ]


def _sglang(serve: ServeConfig, names: Sequence[str], port: int) -> list[str]:
    chunk = serve.max_batched_tokens if serve.chunked_prefill else -1
    return [
        *("--model-path", serve.model),
        *("--host", HOST, "--port", str(port)),
        *("--served-model-name", names[0]),
        *("--tp-size", str(serve.tensor_parallel)),
        *("--pp-size", str(serve.pipeline_parallel)),
        *(["--use-ray"] if serve.distributed_executor == "ray" else []),
        *("--mem-fraction-static", f"{serve.memory_share:g}"),
        *_given("--max-running-requests", serve.max_sequences),
        *_given("--context-length", serve.max_model_len),
        *_given("--chunked-prefill-size", chunk),
        *_given("--page-size", serve.block_size),
        *([] if serve.prefix_caching else ["--disable-radix-cache"]),
        *("--dtype", serve.dtype),
        *_given("--quantization", serve.quantization),
        "--enable-metrics",
        "--enable-cache-report",
        *("--log-level-http", "warning"),
    ]


def _given(flag: str, value: object) -> list[str]:
    return [] if value is None else [flag, str(value)]
