"""The sections of the configuration file, but for upstreams."""

from datetime import date
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from genkan.config.base import Name, Seconds, Section
from genkan.config.cache import CacheConfig, EmbedderConfig, RouteCacheConfig
from genkan.config.drain import DrainConfig
from genkan.config.limits import LimitConfig, LimitsConfig, PricesConfig, TenantConfig
from genkan.config.routing import AffinityConfig, CanaryConfig, HedgeConfig, ResumeConfig, TruncateMode
from genkan.config.store import KeysConfig, LedgerConfig, RedisConfig
from genkan.config.telemetry import TelemetryConfig
from genkan.config.upstreams import EngineUpstreamConfig, OpenAiUpstreamConfig, UpstreamConfig
from genkan.engine.config import EngineConfig

FallbackReason = Literal["error", "context_too_long", "content_filter"]


class ServerConfig(Section):
    """The HTTP face."""

    workers: int = Field(default=1, ge=1, le=64, description="Gateway processes.")
    open_to: Literal["loopback", "any"] = Field(
        default="loopback",
        description="Who may call while no API keys are configured: peers on this machine, or anyone who connects.",
    )
    max_body_bytes: int = Field(default=4 << 20, ge=1024, le=1 << 30, description="Largest request body.")
    body_timeout_s: Seconds = Field(default=30.0, description="Time a client has to send its body.")
    send_timeout_s: Seconds = Field(
        default=30.0, description="Time a client may take nothing of an answer that waits for it."
    )
    max_lag_s: float = Field(
        default=0.025,
        ge=0,
        le=10,
        allow_inf_nan=False,
        description="How far a worker's event loop may lag behind for a tenth of a second, by its own work; then new "
        "requests get a 503 at once until it has caught up. 0: never.",
    )
    drain: DrainConfig = DrainConfig()


class ModelDefaults(Section):
    """What a request gets that does not say."""

    max_tokens: int = Field(default=512, ge=1, description="Answer length; less where the context window ends sooner.")
    temperature: float = Field(default=1.0, ge=0, le=2, allow_inf_nan=False)
    top_p: float = Field(default=1.0, gt=0, le=1, allow_inf_nan=False)


class DeploymentConfig(Section):
    """A model on an upstream."""

    upstream: Name
    model: str | None = Field(
        default=None, min_length=1, max_length=256, description="The model's name there, if it is another."
    )
    weight: int = Field(
        default=1, ge=0, le=10_000, description="How often it is tried first, against the others; 0 is only after them."
    )
    limits: LimitConfig = Field(default=LimitConfig(), description="What the upstream allows us there.")
    limit_wait_s: float = Field(
        default=30.0,
        ge=0,
        le=600,
        allow_inf_nan=False,
        description="How long a request waits for those; what takes longer goes on along the chain. 0 never waits.",
    )


class ModelConfig(Section):
    """A model that clients can name."""

    name: Name
    upstream: Name | None = Field(default=None, description="The upstream that serves it, if there is just one.")
    deployments: list[DeploymentConfig] = Field(
        default_factory=list, max_length=32, validate_default=True, description="The upstreams that serve it, if not."
    )
    context_tokens: int | None = Field(
        default=None, ge=1, description="Its context window: who is too long for another model may fit here."
    )
    max_output_tokens: int = Field(
        default=4096, ge=1, description="Where a budget applies, the longest answer of a request that does not say."
    )
    resume_group: str = Field(
        default="",
        max_length=128,
        description="Models with the same name here may go on with each other's answers: the same weights by other "
        "names, as a rule.",
    )
    affinity: AffinityConfig | None = Field(
        default=None, description="Left out, weights alone decide which of its deployments is tried first."
    )
    revision: str = Field(
        default="",
        max_length=256,
        description="Any name of what is served under this one: change it, and answers stored before are not given.",
    )
    owned_by: str = Field(default="genkan", description="Shown by the model lists.")
    released: date = Field(default=date(2025, 1, 1), strict=False, description="`created` in the model lists.")
    defaults: ModelDefaults = ModelDefaults()
    engine: EngineConfig | None = Field(
        default=None,
        description="Of a model of the engine's: what it has otherwise than the section `engine`, such as its `model`.",
    )

    @field_validator("deployments")
    @classmethod
    def _or_upstream(cls, deployments: list[DeploymentConfig], info: ValidationInfo) -> list[DeploymentConfig]:
        if "upstream" in info.data and bool(deployments) == (info.data["upstream"] is not None):
            raise ValueError("a model has either 'upstream' or a list of 'deployments'")
        return deployments

    @property
    def places(self) -> list[DeploymentConfig]:
        """Its deployments, however they were written."""
        return self.deployments if self.upstream is None else [DeploymentConfig(upstream=self.upstream)]


class RetryConfig(Section):
    """When the same deployment is asked again: only where no other is left to ask."""

    max_retries: int = Field(default=2, ge=0, le=10, description="For one request, of the same deployment.")
    backoff_s: Seconds = Field(default=0.25, description="The first wait is random up to this, the next up to twice,")
    max_backoff_s: Seconds = Field(default=4.0, description="and so on, up to this.")
    max_wait_s: Seconds = Field(default=5.0, description="A `Retry-After` beyond this is passed on, not waited for.")
    budget_ratio: float = Field(
        default=0.2, ge=0, le=1, allow_inf_nan=False, description="Retries in any ten seconds: so large a share of"
    )
    budget_min: int = Field(default=3, ge=0, le=1000, description="the requests, or this number if it is larger.")


def _usual_reasons() -> list[FallbackReason]:
    return ["error", "context_too_long"]


class RouteConfig(Section):
    """A name that clients use and the models behind it."""

    alias: Name
    chain: list[Name] = Field(min_length=1, max_length=16, description="Names of models, in the order they are tried.")
    fallback_on: list[FallbackReason] = Field(
        default_factory=_usual_reasons,
        description="What sends a request on to the next model; without `error` nothing is retried either. "
        "A prompt that is too long goes on to larger windows.",
    )
    total_s: Seconds = Field(default=600.0, description="For all attempts together, to the end of the answer.")
    retry: RetryConfig = RetryConfig()
    resume: ResumeConfig = ResumeConfig()
    hedge: HedgeConfig | None = Field(default=None, description="Left out, a request is asked for once at a time.")
    truncate: TruncateMode = Field(
        default="off",
        description="What becomes of a chat that is too long for the first model's window. `off`: it goes on to a "
        "larger window of the chain, or gets a 400; `oldest`: its oldest turns are left out.",
    )
    canary: CanaryConfig | None = Field(default=None, description="Left out, the chain answers every request.")
    cache: RouteCacheConfig = RouteCacheConfig()
    log_content: Literal["off", "redacted"] = Field(
        default="off",
        description="Whether the log has prompts and answers, without what looks like a key, a card or an address.",
    )

    @field_validator("truncate", "log_content", mode="before")
    @classmethod
    def _off_is_no_truth_value(cls, value: object) -> object:
        return "off" if value is False else value  # YAML 1.1 reads a bare off so


class Config(Section):
    """Everything, checked also across sections."""

    server: ServerConfig = ServerConfig()
    redis: RedisConfig = RedisConfig()
    keys: KeysConfig = KeysConfig()
    upstreams: list[UpstreamConfig] = Field(min_length=1)
    models: list[ModelConfig] = Field(min_length=1)
    routes: list[RouteConfig] = Field(default_factory=list)
    cache: CacheConfig = CacheConfig()
    limits: LimitsConfig = LimitsConfig()
    tenants: list[TenantConfig] = Field(default_factory=list)
    prices: PricesConfig = Field(
        default=PricesConfig(), description="The list itself, or the path of a file with it, beside this one."
    )
    ledger: LedgerConfig = LedgerConfig()
    engine: EngineConfig = EngineConfig()
    embedder: EmbedderConfig | None = Field(
        default=None, description="Left out, there are no embeddings, and no process that computes them."
    )
    telemetry: TelemetryConfig = TelemetryConfig()

    @property
    def engine_upstream(self) -> EngineUpstreamConfig | None:
        """The upstream that is the engine; None where there is none, and no Engine process either."""
        return next((upstream for upstream in self.upstreams if isinstance(upstream, EngineUpstreamConfig)), None)

    @property
    def openai_upstreams(self) -> list[OpenAiUpstreamConfig]:
        """Those of kind ``openai``, as configured."""
        return [upstream for upstream in self.upstreams if isinstance(upstream, OpenAiUpstreamConfig)]

    @property
    def engine_models(self) -> dict[str, ModelConfig]:
        """The models that the Engine process serves, by the names that it knows them by; empty without an engine."""
        upstream = self.engine_upstream
        if upstream is None:
            return {}
        return {
            place.model or model.name: model
            for model in self.models
            for place in model.places
            if place.upstream == upstream.name
        }

    def engine_of(self, model: ModelConfig) -> EngineConfig:
        """How the engine runs ``model``: the section ``engine``, and over it the model's own settings.

        Raises pydantic's ValidationError where the two do not go together.
        """
        if model.engine is None:
            return self.engine
        own = {name: getattr(model.engine, name) for name in model.engine.model_fields_set}
        return EngineConfig.model_validate(self.engine.model_dump() | own)
