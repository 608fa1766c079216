"""The configuration of what is kept between requests: Redis, API keys, the ledger."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from genkan.config.base import Name, Seconds, Section

_SCHEMES = ("redis", "rediss", "unix")


class WhenLostConfig(Section):
    """What becomes of each function while Redis is slow or gone."""

    limits: Literal["local", "open", "closed"] = Field(
        default="local",
        description="`local`: each worker applies its share of every limit by itself; `open`: nothing is limited; "
        "`closed`: 503.",
    )
    budgets: Literal["closed", "open"] = Field(
        default="closed", description="`closed`: a request that a budget applies to gets a 503; `open`: it is served."
    )
    keys_s: Seconds = Field(default=300.0, description="How long the keys last read from Redis are still believed.")


class RedisConfig(Section):
    """Where limits, budgets, keys, breakers and the ledger are kept."""

    url: str = Field(
        default="embedded",
        description="`embedded`: a Redis of our own, started with the server; `memory`: none, for one worker, all is "
        "lost at its end; or `redis://`, `rediss://` (TLS) or `unix://`.",
    )
    url_env: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Name of the environment variable that holds the URL, for one with a password; goes before `url`.",
    )
    sentinels: list[str] = Field(
        default=[], max_length=16, description="`host:port` of each Sentinel; the URL's host is then the master's name."
    )
    data_dir: str = Field(
        default=".genkan",
        min_length=1,
        description="Folder of the embedded Redis, the ledger's journal and the secret.",
    )
    prefix: Name = Field(default="genkan", description="Every key in Redis begins with it and a colon.")
    connect_s: Seconds = Field(default=0.25, description="Time to connect.")
    timeout_s: Seconds = Field(default=0.1, description="Time for one call.")
    request_s: Seconds = Field(default=0.15, description="Time for all calls of one request together.")
    when_lost: WhenLostConfig = WhenLostConfig()

    @field_validator("url")
    @classmethod
    def _is_known(cls, url: str) -> str:
        if url not in ("embedded", "memory") and urlsplit(url).scheme not in _SCHEMES:
            raise ValueError("must be 'embedded', 'memory', or begin with redis://, rediss:// or unix://")
        return url

    @field_validator("url")
    @classmethod
    def _has_no_password(cls, url: str) -> str:
        if "@" in url or "password" in url:
            raise ValueError("a URL with a password belongs into the environment variable that url_env names")
        return url


class KeysConfig(Section):
    """API keys of clients."""

    required: Literal["auto", "always"] = Field(
        default="auto", description="`auto`: as soon as the first key was created; `always`: from the beginning."
    )
    secret_env: str = Field(
        default="GENKAN_KEY_SECRET",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Name of the environment variable with the secret under which keys are hashed, the same for all "
        "replicas; without it one is made and kept in `redis.data_dir`.",
    )


class LedgerConfig(Section):
    """The record of every request, its attempts and their cost."""

    enabled: bool = Field(default=True, description="Without it, only requests that a budget applies to are recorded.")
    keep_days: int = Field(default=90, ge=1, le=3650, description="Rows older than this are dropped,")
    keep_rows: int = Field(default=1_000_000, ge=1000, description="and the oldest of more than so many.")
    fsync_s: float = Field(
        default=1.0,
        ge=0,
        le=60,
        allow_inf_nan=False,
        description="How often the journal is forced to disk, which only matters if the machine fails; 0: every write.",
    )
