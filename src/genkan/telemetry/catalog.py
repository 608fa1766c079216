"""Every metric: its name, unit, labels, buckets and help. Nowhere else is one declared.

Each worker process keeps its values in files, and ``GET /metrics`` shows them together. Labels are bounded: by the
configuration, by our own codes, or by the table of paths. No tenant, key, prompt, or name that a client made up is one.

`docs/observability.md` has the same as a table, which ``genkan metrics`` prints.
"""

from typing import Final

from genkan.telemetry.metric_kinds import SHORT_SECONDS, CounterOf, Entry, GaugeOf, HistogramOf

_BYTES: Final = tuple(float(1 << power) for power in range(8, 25, 2))  # 256 B to 16 MiB
_STEP_SECONDS: Final = (0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
_BATCH_SIZES: Final = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_CHUNK_TOKENS: Final = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384)

# Requests, as clients see them. `path` is one of the path table, or "other".

REQUESTS = CounterOf("genkan_requests", "Requests answered", ("path", "status"))
REQUEST_SECONDS = HistogramOf("genkan_request_seconds", "From a request's headers to the end of its answer", ("path",))

# A worker's event loop.

LOOP_LAG_SECONDS = HistogramOf(
    "genkan_loop_lag_seconds",
    "How much later than asked for a worker's event loop runs what is due: 20 looks a second, more while it is busy",
    buckets=SHORT_SECONDS,
)
SHED = CounterOf("genkan_shed", "Requests refused at once, as the worker's event loop lags behind", ("path",))

REQUESTS_IN_FLIGHT = GaugeOf(
    "genkan_requests_in_flight", "Requests that have begun and not ended, open streams among them", ("path",),
    mode="livesum",
)  # fmt: skip
ERRORS = CounterOf(
    "genkan_errors", "Errors told to clients, in streams that had begun too, by our own codes", ("path", "code")
)
CLIENTS_GONE = CounterOf("genkan_clients_gone", "Requests whose client left before its answer ended", ("path",))
TRUNCATIONS = CounterOf("genkan_truncations", "Answers to chats that were cut to fit the model's window", ("route",))

# Generation and embeddings, as clients see them, by OpenTelemetry's names: where these have one, we have no second.
# The request's model is the route or model that was asked for, or "other"; the error is "" where there was none.
# Source: OpenTelemetry's semantic conventions for generative AI, and its mapping of names to Prometheus.

_OPERATION: Final = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
_GEN_AI_SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TTFT_SECONDS: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
_TPOT_SECONDS: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_TOKENS: Final = tuple(float(4**power) for power in range(14))  # 1 to 67,108,864

GEN_AI_DURATION = HistogramOf(
    "gen_ai_server_request_duration_seconds",
    "From a request's headers to the end of its answer",
    (*_OPERATION, "error_type"),
    buckets=_GEN_AI_SECONDS,
)
GEN_AI_TTFT = HistogramOf(
    "gen_ai_server_time_to_first_token_seconds",
    "From a request's headers to the first token of its stream",
    _OPERATION,
    buckets=_TTFT_SECONDS,
)
GEN_AI_TPOT = HistogramOf(
    "gen_ai_server_time_per_output_token_seconds",
    "Of whole streams, the mean time of each token after the first",
    _OPERATION,
    buckets=_TPOT_SECONDS,
)
GEN_AI_TOKENS = HistogramOf(
    "gen_ai_client_token_usage",
    "Tokens of a request (input) and of its answer (output), stored answers among them",
    (*_OPERATION, "gen_ai_token_type"),
    "",
    _TOKENS,
)

# Connections to upstreams. `upstream` is a name of the configuration. Looked at once a second.

UPSTREAM_BUSY = GaugeOf(
    "genkan_upstream_busy_connections", "Connections on which a request is under way", ("upstream",), "connections",
    "livesum",
)  # fmt: skip
UPSTREAM_IDLE = GaugeOf(
    "genkan_upstream_idle_connections", "Connections kept open for the next request", ("upstream",), "connections",
    "livesum",
)  # fmt: skip
UPSTREAM_WAITING = GaugeOf(
    "genkan_upstream_waiting_requests", "Requests in `connections.queue`", ("upstream",), "requests", "livesum"
)
UPSTREAM_QUEUE_SECONDS = HistogramOf(
    "genkan_upstream_queue_seconds", "Waits for a place among the requests in flight, of those that waited",
    ("upstream",), buckets=(*SHORT_SECONDS, 2.5, 5, 10, 30),
)  # fmt: skip

# The process.

DRAINING = GaugeOf("genkan_draining", "1 while the server drains, else 0", mode="livemax")
BUILD_INFO = GaugeOf("genkan_build_info", "1, for the version that runs", ("version",), mode="livemostrecent")
LOG_LINES_DROPPED = CounterOf("genkan_log_lines_dropped", "Log lines dropped, as nobody read them in time")
TRACE_SPANS = CounterOf("genkan_trace_spans", "Spans handed to the collector, or lost", ("outcome",))

# Attempts at deployments. `deployment` is a `model@upstream` of the configuration.

ATTEMPTS = CounterOf("genkan_attempts", "Attempts at deployments that ended", ("deployment", "outcome"))
ATTEMPT_SECONDS = HistogramOf(
    "genkan_attempt_seconds", "An attempt, from its beginning to the end of its answer", ("deployment",)
)
UPSTREAM_TTFT_SECONDS = HistogramOf(
    "genkan_upstream_ttft_seconds",
    "From the beginning of an attempt to the first piece of its streamed answer",
    ("deployment",),
)
RETRIES = CounterOf("genkan_retries", "Attempts at a deployment that the same request had asked", ("deployment",))
FALLBACKS = CounterOf("genkan_fallbacks", "Requests that went on to another deployment", ("route", "reason"))
RESUMES = CounterOf(
    "genkan_resumes", "Attempts to go on with a stream whose upstream had failed", ("route", "way", "outcome")
)
HEDGES = CounterOf(
    "genkan_hedges", "Second attempts at a first token, and those there was no budget for", ("route", "outcome")
)
BREAKER_CHANGES = CounterOf("genkan_breaker_changes", "Changes of circuit breakers", ("deployment", "to"))
BREAKER_STATE = GaugeOf(
    "genkan_breaker_state",
    "0 closed, 1 half open, 2 open; of the worker that sees it worst",
    ("deployment",),
    mode="livemax",
)

AFFINITY_REQUESTS = CounterOf(
    "genkan_affinity_requests",
    "Requests by whether the deployment that knows their beginning is first: kept, spilled for load, or left_alone",
    ("model", "outcome"),
)

# Limits, budgets, cost.

DENIED = CounterOf("genkan_denied", "Requests that a limit or a budget refused", ("scope", "kind", "unit"))
ADMITTED_LOCALLY = CounterOf("genkan_admitted_locally", "Requests let in while Redis was slow or gone")
BUDGET_WARNINGS = CounterOf("genkan_budget_warnings", "Answers that warned of a budget", ("scope",))
TOKENS = CounterOf(
    "genkan_tokens", "Tokens of answers; cached ones are also prompt ones", ("deployment", "kind"), "tokens"
)
COST_USD = CounterOf("genkan_cost_usd", "What answers cost their clients", ("deployment",), "usd")
SAVED_USD = CounterOf(
    "genkan_saved_usd", "What prompt tokens read from upstreams' caches saved", ("deployment",), "usd"
)
SPARED_TOKENS = CounterOf(
    "genkan_spared_tokens",
    "Tokens of stored answers, and of those shared with another request",
    ("deployment",),
    "tokens",
)
SPARED_USD = CounterOf("genkan_spared_usd", "What stored and shared answers had cost", ("deployment",), "usd")
UNPRICED = CounterOf("genkan_unpriced", "Answers whose price is not known", ("deployment",))

# The ledger.

LEDGER_SETTLED = CounterOf("genkan_ledger_settled", "Requests settled in Redis", ("outcome",))
LEDGER_LOST = CounterOf("genkan_ledger_lost", "Requests closed as lost")
LEDGER_LEFT = CounterOf("genkan_ledger_left", "Settlements left to the journal")
LEDGER_REFUSED = CounterOf("genkan_ledger_refused", "Settlements that Redis does not take")
JOURNAL_FAILURES = CounterOf("genkan_journal_failures", "Records that could not be written to the journal at once")
LEDGER_QUEUE = GaugeOf("genkan_ledger_queue", "Settlements that wait to be sent", mode="livesum")

# Stored answers.

CACHE_LOOKUPS = CounterOf(
    "genkan_cache_lookups",
    "Requests, by what the cache had for them: a tier's answer, miss, bypass or shadow",
    ("route", "result"),
)
CACHE_STORED_BYTES = HistogramOf(
    "genkan_cache_stored_bytes", "Answers stored, as they are kept", ("route",), "bytes", _BYTES
)
CACHE_NOT_STORED = CounterOf("genkan_cache_not_stored", "Answers that were not stored", ("route", "reason"))
CACHE_FAILURES = CounterOf("genkan_cache_failures", "What counted as a miss and was none", ("kind",))
CACHE_COALESCED = CounterOf(
    "genkan_cache_coalesced", "Requests answered with what another had asked for already", ("route",)
)
CACHE_EMBEDDING_SECONDS = HistogramOf(
    "genkan_cache_embedding_seconds", "Questions embedded, to seek like ones", buckets=SHORT_SECONDS
)
CACHE_JUDGED = CounterOf("genkan_cache_judged", "Pairs of questions given to the judge", ("verdict",))

# The embedder of our own. Of the batches' sizes the sum is texts, and the count batches.

EMBEDDER_BATCH = HistogramOf(
    "genkan_embedder_batch_texts", "Texts that are embedded together", unit="texts", buckets=_BATCH_SIZES[1:]
)
EMBEDDER_SECONDS = HistogramOf("genkan_embedder_batch_seconds", "Embedding one batch")
EMBEDDER_QUEUE = GaugeOf("genkan_embedder_queue", "Requests that wait for their vectors, or whose batch is computed")
EMBEDDER_REFUSED = CounterOf("genkan_embedder_refused", "Requests that could not have been embedded in time")

# Canaries, and what they are compared with.

CANARY_STATE = GaugeOf(
    "genkan_canary_state",
    "0 running, 1 found no worse, 2 found worse, 3 promoted, 4 rolled back",
    ("route",),
    mode="livemostrecent",
)
CANARY_DECISIONS = CounterOf("genkan_canary_decisions", "Canaries decided or begun anew", ("route", "state", "by"))
CANARY_SHADOWS_DROPPED = CounterOf(
    "genkan_canary_shadows_dropped", "Copies not made as too many were under way", ("route",)
)
CANARY_REQUESTS = CounterOf(
    "genkan_canary_requests",
    "Requests of an experiment: ok, or failed by what the arm tries",
    ("route", "arm", "outcome"),
)
CANARY_SECONDS = HistogramOf(
    "genkan_canary_seconds", "From admission to the end of an answer that did not fail", ("route", "arm")
)
CANARY_TTFT_SECONDS = HistogramOf(
    "genkan_canary_ttft_seconds", "From admission to the first token of a stream that did not fail", ("route", "arm")
)
CANARY_COST_USD = CounterOf("genkan_canary_cost_usd", "What an arm's answers cost", ("route", "arm"), "usd")
CANARY_TOKENS = CounterOf("genkan_canary_tokens", "Tokens of an arm's answers", ("route", "arm"), "tokens")

# Model servers that genkan starts. `upstream` is one of the configuration, or a replica of it.

SERVER_UP = GaugeOf("genkan_model_server_up", "1 while a model server of ours is well, else 0", ("upstream",))
SERVER_STARTS = CounterOf("genkan_model_server_starts", "Starts of a model server of ours", ("upstream",))

# The engine: by the number of `EngineStatistics` that each shows, and what its steps report.

_MODEL: Final = ("model",)

ENGINE_GAUGES: Final[dict[str, GaugeOf]] = {
    "running": GaugeOf("genkan_engine_running_sequences", "Sequences in generation", _MODEL, "sequences"),
    "waiting": GaugeOf("genkan_engine_waiting_sequences", "Sequences in the queue", _MODEL, "sequences"),
    "blocks": GaugeOf("genkan_engine_kv_blocks", "KV blocks in all", _MODEL, "blocks"),
    "free_blocks": GaugeOf("genkan_engine_kv_free_blocks", "KV blocks that hold nothing", _MODEL, "blocks"),
    "host_blocks": GaugeOf(
        "genkan_engine_kv_host_blocks", "Blocks in the machine's memory for what a GPU swaps out", _MODEL, "blocks"
    ),
    "free_host_blocks": GaugeOf(
        "genkan_engine_kv_free_host_blocks", "Of these, blocks that hold nothing", _MODEL, "blocks"
    ),
    "cached_pages": GaugeOf(
        "genkan_engine_prefix_pages", "Pages in the prefix cache, each a KV block", _MODEL, "pages"
    ),
    "pinned_pages": GaugeOf(
        "genkan_engine_prefix_pinned_pages", "Pages of the prefix cache that are pinned", _MODEL, "pages"
    ),
}
ENGINE_COUNTERS: Final[dict[str, CounterOf]] = {
    "generated_tokens": CounterOf("genkan_engine_generated_tokens", "Tokens generated", _MODEL, "tokens"),
    "prompt_tokens": CounterOf("genkan_engine_prompt_tokens", "Prompt tokens of sequences that ran", _MODEL, "tokens"),
    "cached_tokens": CounterOf(
        "genkan_engine_cached_tokens", "Prompt tokens found in the prefix cache", _MODEL, "tokens"
    ),
    "preemptions": CounterOf(
        "genkan_engine_preemptions", "Sequences that had to give up their blocks and wait again", _MODEL
    ),
    "swaps": CounterOf(
        "genkan_engine_swaps", "Of these, sequences whose blocks were copied to the machine's memory", _MODEL
    ),
    "failed_steps": CounterOf("genkan_engine_failed_steps", "Steps in which some sequence failed", _MODEL),
    "evictions": CounterOf("genkan_engine_prefix_evictions", "Pages of the prefix cache dropped for room", _MODEL),
    "prefix_queries": CounterOf(
        "genkan_engine_prefix_queries", "Sequences that looked for their prompt in the prefix cache", _MODEL
    ),
    "prefix_hits": CounterOf("genkan_engine_prefix_hits", "Sequences that found some of it", _MODEL),
}
ENGINE_KV_USE = GaugeOf("genkan_engine_kv_use_ratio", "Share of the KV blocks that hold something", _MODEL, "ratio")
ENGINE_GPU_MEMORY = GaugeOf(
    "genkan_engine_gpu_memory_bytes", "Memory of the GPU, by what it is", ("model", "kind"), "bytes"
)
ENGINE_STEP = HistogramOf("genkan_engine_step_seconds", "One step of the engine", _MODEL, buckets=_STEP_SECONDS)
ENGINE_BATCH = HistogramOf(
    "genkan_engine_batch_sequences", "Sequences that decode in a step", _MODEL, "sequences", _BATCH_SIZES
)
ENGINE_CHUNK = HistogramOf(
    "genkan_engine_prefill_tokens", "Prompt tokens computed in a step", _MODEL, "tokens", _CHUNK_TOKENS
)
ENGINE_GRAMMARS = CounterOf(
    "genkan_engine_grammars",
    "Requests for answers in a form, by what became of its grammar: cached, compiled, refused, timed_out or overloaded",
    ("model", "result"),
)
ENGINE_GRAMMAR_SECONDS = HistogramOf(
    "genkan_engine_grammar_seconds", "Compiling a grammar, without the wait for a thread", _MODEL, buckets=SHORT_SECONDS
)
ENGINE_TTFT = HistogramOf("genkan_engine_ttft_seconds", "From submission to the first token", _MODEL)
ENGINE_ITL = HistogramOf("genkan_engine_itl_seconds", "Between two tokens of a sequence", _MODEL, buckets=_STEP_SECONDS)


def entries() -> list[Entry]:
    """All of the above, in its order."""
    found: list[Entry] = []
    for value in globals().values():
        if isinstance(value, CounterOf | GaugeOf | HistogramOf):
            found.append(value)
        elif isinstance(value, dict) and all(isinstance(entry, Entry) for entry in value.values()):
            found.extend(value.values())
    return found
