"""Configurations with model servers of our own, and one of these servers."""

from typing import Any

from genkan.config import Config, ServeConfig
from genkan.model_servers.replicas import Server


def served_config(*upstreams: dict[str, Any], **more: Any) -> Config:
    """Each upstream of kind vllm with one model, named after it, unless it says otherwise."""
    given = [{"kind": "vllm", **upstream} for upstream in upstreams]
    models = [{"name": f"of-{upstream['name']}", "upstream": upstream["name"]} for upstream in given]
    return Config.model_validate({"upstreams": given, "models": models, "redis": {"url": "memory"}, **more})


def server(kind: str = "vllm", **serve: Any) -> Server:
    """A server at port 8000, first of all."""
    policy = ServeConfig.model_validate({"model": "org/model", **serve})
    return Server("v", kind, policy, 8000, 0, ("m",), None)
