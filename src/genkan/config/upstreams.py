"""The configuration of what answers requests: the embedded engine, and any server with OpenAI's API."""

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from genkan.config.base import Name, Seconds, Section
from genkan.config.model_servers import ServeConfig

#: Headers that genkan writes itself.
_OWN_HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "transfer-encoding",
        "upgrade",
        "x-client-request-id",
    }
)
_BASE_URL = re.compile(
    r"https?://([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~%:@-]+)*/?"
)
_URL_RULE = "must be http:// or https://, a host, perhaps a port and a path, and nothing else"
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^`|~-]{1,64}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,4096}")


class Timeouts(Section):
    """How long an upstream may take, phase by phase. A route's ``total_s`` bounds all its attempts together."""

    connect_s: Seconds = Field(default=2.0, description="Until connected, name lookup and TLS included.")
    first_token_s: Seconds = Field(default=120.0, description="From the request to the first token of a stream.")
    between_tokens_s: Seconds = Field(default=30.0, description="From one piece of a stream to the next.")
    total_s: Seconds = Field(default=300.0, description="For the whole answer.")


class BreakerConfig(Section):
    """When a deployment that fails is left alone, and for how long."""

    consecutive_failures: int = Field(default=5, ge=1, description="It opens after so many failures in a row,")
    alone_failures: int = Field(
        default=2, ge=1, description="or after so many and one more for every other attempt in flight there."
    )
    failure_ratio: float = Field(
        default=0.5, gt=0, le=1, allow_inf_nan=False, description="Or when so large a share of recent attempts failed,"
    )
    min_attempts: int = Field(default=10, ge=1, description="of at least so many.")
    window_s: Seconds = Field(default=30.0, description="How fast attempts stop being recent: a time constant.")
    open_s: Seconds = Field(default=30.0, description="After this one attempt may probe whether it is well again.")


class ConnectionsConfig(Section):
    """The connections to one upstream, of each gateway worker. One carries one request at a time."""

    limit: int = Field(default=100, ge=1, le=10_000, description="Requests in flight at once.")
    queue: int = Field(default=100, ge=0, le=100_000, description="Requests that wait for one; more get a 503.")
    queue_s: Seconds = Field(default=10.0, description="How long they wait; then they go on along the chain.")
    keep_alive: int = Field(default=20, ge=0, le=10_000, description="Idle connections kept for the next request.")
    keep_alive_s: Seconds = Field(default=15.0, description="How long an idle connection is kept.")


class HealthConfig(Section):
    """The active probe: ``GET {base_url}/models``."""

    interval_s: float = Field(
        default=15.0, ge=0, le=86_400, allow_inf_nan=False, description="Between two probes; 0 asks never."
    )
    timeout_s: Seconds = 5.0
    unhealthy_after: int = Field(default=2, ge=1, le=100, description="Failed probes after which it is passed over.")


class _Upstream(Section):
    name: Name
    timeouts: Timeouts = Timeouts()
    breaker: BreakerConfig = BreakerConfig()


class EngineUpstreamConfig(_Upstream):
    """genkan's own engine, in a process beside the gateway."""

    kind: Literal["engine"]


#: What is known of vLLM and SGLang, and need not be said of them.
_OF_MODEL_SERVERS: dict[str, Any] = {"prefill": "vllm", "counts_tokens": True}
#: And of those that genkan starts itself, beside the gateway: to ask costs nothing, and they come back soon.
_OF_OUR_SERVERS: dict[str, Any] = {"health": {"interval_s": 2.0}, "breaker": {"open_s": 5.0}}


class OpenAiUpstreamConfig(_Upstream):
    """A server with OpenAI's API: a provider, vLLM, SGLang, Ollama, llama-server.

    ``vllm`` and ``sglang`` are kinds of their own: they take a salt for their prefix cache, and genkan can start them.
    """

    kind: Literal["openai", "vllm", "sglang"]
    serve: ServeConfig | None = Field(
        default=None, description="Of kind `vllm` or `sglang`: genkan starts it, instead of a `base_url`."
    )
    base_url: str = Field(
        default="",
        validate_default=True,
        description="Where the API begins, such as `https://api.openai.com/v1`; must be there unless `serve` is.",
    )
    share_prefix_cache: bool = Field(
        default=False,
        description="Of kind `vllm` or `sglang`: tenants share what was computed of prompts that begin alike, and can "
        "tell by its time that another has sent one. Off, each has a `cache_salt` of its own.",
    )
    api_key_env: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Name of the environment variable that holds the key; without it no key is sent.",
    )
    headers: dict[str, str] = Field(default={}, description="Sent with every request; names are not case sensitive.")
    connections: ConnectionsConfig = ConnectionsConfig()
    health: HealthConfig = HealthConfig()
    stream_usage: bool = Field(
        default=True, description="Ask for usage in every stream; off for a server that refuses `stream_options`."
    )
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = Field(
        default="max_tokens",
        description="Under what name it is told how long an answer may be that its client set no bound to and a budget "
        "needs one. OpenAI's models that reason refuse the older name, most other servers know no other.",
    )

    prefill: Literal["none", "message", "vllm", "prefix", "prefix-echoed"] = Field(
        default="none",
        description="How it goes on with an answer that was begun elsewhere, given as the last message: of itself "
        "(`message`), by `continue_final_message` (`vllm`, SGLang too), or by `prefix: true` in that message "
        "(DeepSeek's beta; Mistral, which repeats it: `prefix-echoed`). `none`: it is asked anew, and what it repeats "
        "is left out. Of kind `vllm` or `sglang`: `vllm`.",
    )
    raw_completions: bool = Field(
        default=True,
        description="Whether `/v1/completions` takes prompts as they are, and so goes on from one with the answer's "
        "beginning; off for Ollama, which puts a chat's form around them.",
    )
    counts_tokens: bool = Field(
        default=False,
        description="Whether it has vLLM's `/tokenize`, beside `/v1`, to count a prompt's tokens with. Of kind `vllm` "
        "or `sglang`: true.",
    )

    @model_validator(mode="before")
    @classmethod
    def _knows_its_kind(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("kind") not in ("vllm", "sglang"):
            return given
        ours = {} if given.get("serve") is None else _OF_OUR_SERVERS
        return {**_OF_MODEL_SERVERS, **ours, **given}

    @field_validator("serve")
    @classmethod
    def _can_be_served(cls, serve: ServeConfig | None, info: ValidationInfo) -> ServeConfig | None:
        if serve is not None and info.data.get("kind") == "openai":
            raise ValueError("genkan starts servers of kind 'vllm' and 'sglang' only")
        return serve

    @field_validator("share_prefix_cache")
    @classmethod
    def _has_salts(cls, shared: bool, info: ValidationInfo) -> bool:
        if shared and info.data.get("kind") == "openai":
            raise ValueError("is for kinds 'vllm' and 'sglang'; others are sent no salt of ours")
        return shared

    @field_validator("base_url")
    @classmethod
    def _is_plain_http(cls, url: str, info: ValidationInfo) -> str:
        serve, kind = info.data.get("serve"), info.data.get("kind")
        if serve is not None and kind is not None:
            if url not in ("", serve.base_url(kind)):
                raise ValueError("goes without 'serve', which says where its servers are")
            return str(serve.base_url(kind))
        if not url:
            raise PydanticCustomError("missing", f"Field required: {_URL_RULE}")
        if not _BASE_URL.fullmatch(url) or not _has_host_and_port(url):
            raise ValueError(_URL_RULE)
        return url.rstrip("/")

    @field_validator("headers")
    @classmethod
    def _are_free_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
                raise ValueError(f"'{name[:64]}' is not a header name of ASCII letters with a value of printable ASCII")
            if name.lower() in _OWN_HEADERS:
                raise ValueError(f"'{name}' is written by genkan itself")
        if len({name.lower() for name in headers}) != len(headers):
            raise ValueError("a header is given twice, as names are not case sensitive")
        return headers


def _has_host_and_port(url: str) -> bool:
    try:
        parts = urlsplit(url)  # checks the brackets of an IPv6 address
        return bool(parts.hostname) and parts.port != 0  # and, when asked, the range of the port
    except ValueError:
        return False


UpstreamConfig = Annotated[EngineUpstreamConfig | OpenAiUpstreamConfig, Field(discriminator="kind")]
