"""The configuration: strict, typed YAML, read once at start.

Every setting is declared once, in this package or in the part that owns it; `configs/schema.json` and
`docs/configuration.md` are made from these declarations. `file.py` reads the file and the environment's overrides.
"""

from genkan.config.base import Section
from genkan.config.cache import CacheConfig, EmbedderConfig, JudgeConfig, RouteCacheConfig
from genkan.config.drain import DrainConfig
from genkan.config.file import DEFAULT_PATH, OVERRIDE_PREFIX, PATH_VARIABLE, config_path, load
from genkan.config.limits import (
    Algorithm,
    BudgetConfig,
    LimitConfig,
    LimitsConfig,
    Period,
    PriceConfig,
    PricesConfig,
    RateConfig,
    TenantConfig,
)
from genkan.config.model_servers import ServeConfig
from genkan.config.routing import (
    AffinityConfig,
    Assignment,
    CanaryConfig,
    GuardsConfig,
    HedgeConfig,
    ResumeConfig,
    TruncateMode,
)
from genkan.config.sections import (
    Config,
    DeploymentConfig,
    FallbackReason,
    ModelConfig,
    ModelDefaults,
    RetryConfig,
    RouteConfig,
    ServerConfig,
)
from genkan.config.store import KeysConfig, LedgerConfig, RedisConfig, WhenLostConfig
from genkan.config.telemetry import OtlpConfig, TelemetryConfig
from genkan.config.upstreams import (
    BreakerConfig,
    ConnectionsConfig,
    EngineUpstreamConfig,
    HealthConfig,
    OpenAiUpstreamConfig,
    Timeouts,
    UpstreamConfig,
)

__all__ = [
    "DEFAULT_PATH",
    "OVERRIDE_PREFIX",
    "PATH_VARIABLE",
    "AffinityConfig",
    "Algorithm",
    "Assignment",
    "BreakerConfig",
    "BudgetConfig",
    "CacheConfig",
    "CanaryConfig",
    "Config",
    "ConnectionsConfig",
    "DeploymentConfig",
    "DrainConfig",
    "EmbedderConfig",
    "EngineUpstreamConfig",
    "FallbackReason",
    "GuardsConfig",
    "HealthConfig",
    "HedgeConfig",
    "JudgeConfig",
    "KeysConfig",
    "LedgerConfig",
    "LimitConfig",
    "LimitsConfig",
    "ModelConfig",
    "ModelDefaults",
    "OpenAiUpstreamConfig",
    "OtlpConfig",
    "Period",
    "PriceConfig",
    "PricesConfig",
    "RateConfig",
    "RedisConfig",
    "ResumeConfig",
    "RetryConfig",
    "RouteCacheConfig",
    "RouteConfig",
    "Section",
    "ServeConfig",
    "ServerConfig",
    "TelemetryConfig",
    "TenantConfig",
    "Timeouts",
    "TruncateMode",
    "UpstreamConfig",
    "WhenLostConfig",
    "config_path",
    "load",
]
