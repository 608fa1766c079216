"""The configuration: strict, typed YAML, read once at start.

Every setting is declared once, in `sections.py`, in `upstreams.py` or in the part that owns it; `configs/schema.json`
and the README's table are made from these declarations. `file.py` reads the file and the environment's overrides.
"""

from genkan.config.base import Section
from genkan.config.file import DEFAULT_PATH, OVERRIDE_PREFIX, PATH_VARIABLE, config_path, load
from genkan.config.sections import (
    Config,
    DeploymentConfig,
    FallbackReason,
    ModelConfig,
    ModelDefaults,
    RetryConfig,
    RouteConfig,
    ServerConfig,
    TelemetryConfig,
)
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
    "BreakerConfig",
    "Config",
    "ConnectionsConfig",
    "DeploymentConfig",
    "EngineUpstreamConfig",
    "FallbackReason",
    "HealthConfig",
    "ModelConfig",
    "ModelDefaults",
    "OpenAiUpstreamConfig",
    "RetryConfig",
    "RouteConfig",
    "Section",
    "ServerConfig",
    "TelemetryConfig",
    "Timeouts",
    "UpstreamConfig",
    "config_path",
    "load",
]
