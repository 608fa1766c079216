"""``genkan check``: whether the upstreams of a configuration would serve, asked before anyone relies on it."""

import asyncio
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import aiohttp

from genkan.config import Config, EmbedderConfig, OpenAiUpstreamConfig, UpstreamConfig
from genkan.embedding.model_path import UPSTREAM_PREFIX, is_local, model_path
from genkan.engine.config import EngineConfig
from genkan.engine.load.source import locate
from genkan.errors import (
    ConnectFailed,
    ModelFileError,
    TimedOut,
    UpstreamError,
    UpstreamForbidden,
    UpstreamUnauthorized,
)
from genkan.upstream.credentials import Credential, find_key
from genkan.upstream.model_list import is_listed, list_models, question_session

Level = Literal["ok", "warning", "error"]
_MAX_NAMES = 20
_MAX_COMPARED = 500
_MAX_UNKNOWN = 10  # to look for names that are near takes milliseconds each


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know about an upstream or a route. An ``error`` is what requests there would fail with."""

    upstream: str
    level: Level
    message: str


async def check(config: Config, environ: Mapping[str, str], *, offline: bool = False) -> list[Finding]:
    """What is to be said of each upstream, in the configuration's order, and of the embedder: at least one thing each.

    A key that is not set is a warning, as its deployments are passed over; a route that has no other is an error.
    Keys are taken from ``environ``. All upstreams are asked at once, and each has its own ``health.timeout_s``; with
    ``offline`` none is asked. Raises nothing that an upstream, a key or a model file can cause.
    """
    async with question_session() as session:
        asked = None if offline else session
        found = await asyncio.gather(*(_check(config, upstream, environ, asked) for upstream in config.upstreams))
    embedder = [] if config.embedder is None or not is_local(config.embedder) else [_check_embedder(config.embedder)]
    return [finding for findings in found for finding in findings] + embedder + _unserved(config, environ)


def _is_unset(upstream: UpstreamConfig, environ: Mapping[str, str]) -> bool:
    if not isinstance(upstream, OpenAiUpstreamConfig) or upstream.api_key_env is None:
        return False
    return upstream.api_key_env not in environ


def _unserved(config: Config, environ: Mapping[str, str]) -> list[Finding]:
    """Routes, and models that stand in none, that nobody serves for want of keys."""
    unset = {upstream.name for upstream in config.upstreams if _is_unset(upstream, environ)}
    places = {model.name: {place.upstream for place in model.places} for model in config.models}
    named = {name for route in config.routes for name in route.chain}
    chains = {route.alias: {upstream for name in route.chain for upstream in places[name]} for route in config.routes}
    chains |= {name: upstreams for name, upstreams in places.items() if name not in named}
    return [
        Finding(name, "error", "all of its deployments are passed over, as no key of theirs is set")
        for name, upstreams in chains.items()
        if upstreams <= unset
    ]


async def _check(
    config: Config, upstream: UpstreamConfig, environ: Mapping[str, str], session: aiohttp.ClientSession | None
) -> list[Finding]:
    if isinstance(upstream, OpenAiUpstreamConfig):
        return await _check_openai(upstream, _names_used(config, upstream.name), environ, session)
    return [_check_engine(upstream.name, name, config.engine_of(model)) for name, model in config.engine_models.items()]


def _names_used(config: Config, upstream: str) -> list[str]:
    names = [
        place.model or model.name for model in config.models for place in model.places if place.upstream == upstream
    ]
    embedding = "" if config.embedder is None else config.embedder.model
    if embedding.startswith(f"{UPSTREAM_PREFIX}{upstream}/"):
        names.append(embedding.removeprefix(f"{UPSTREAM_PREFIX}{upstream}/"))
    return list(dict.fromkeys(names))


def _check_engine(upstream: str, name: str, engine: EngineConfig) -> Finding:
    try:
        locate(engine.model)
    except ModelFileError as error:
        return Finding(upstream, "error", f"{name}: {error}")
    return Finding(upstream, "ok", f"embedded, the file of {name} is there")


def _check_embedder(config: EmbedderConfig) -> Finding:
    try:
        model_path(config)
    except ModelFileError as error:
        return Finding("embedder", "error", str(error))
    return Finding("embedder", "ok", "model file found")


async def _check_openai(
    upstream: OpenAiUpstreamConfig,
    wanted: list[str],
    environ: Mapping[str, str],
    session: aiohttp.ClientSession | None,
) -> list[Finding]:
    if not wanted:
        return [Finding(upstream.name, "warning", "no model uses it, so it was not checked")]
    credential = find_key(upstream, environ)
    if credential.problem is not None:
        if _is_unset(upstream, environ):
            return [Finding(upstream.name, "warning", f"{credential.problem}; its deployments are passed over")]
        return [Finding(upstream.name, "error", credential.problem)]
    findings = [Finding(upstream.name, "warning", credential.warning)] if credential.warning is not None else []
    if session is None:
        about = f"{upstream.api_key_env} can be a key" if credential.value is not None else "no key is configured"
        return [*findings, Finding(upstream.name, "ok", f"{about}; not asked, as it is offline")]
    try:
        models = await list_models(session, upstream, credential)
        if models is None:
            return [*findings, Finding(upstream.name, "warning", _NO_LIST)]
        unknown = _unknown(upstream.name, [name for name in wanted if not is_listed(name, models)], models)
        about = await _about_key(session, upstream, credential)
    except UpstreamError as error:
        if upstream.serve is not None and isinstance(error, ConnectFailed | TimedOut):
            return [*findings, Finding(upstream.name, "warning", "not running; genkan starts it, and it takes minutes")]
        return [*findings, Finding(upstream.name, "error", _explained(error, upstream, credential))]
    there = "1 model there" if len(models) == 1 else f"{len(models)} models there"
    return [*findings, *(unknown or [Finding(upstream.name, "ok", f"{there}; {about}")])]


_NO_LIST = (
    "GET /models is not there (404 or 405), so neither key nor models can be checked; "
    "base_url must be where the API begins, often with /v1 at its end"
)


async def _about_key(session: aiohttp.ClientSession, upstream: OpenAiUpstreamConfig, credential: Credential) -> str:
    """Whether the key was tested at all: some servers list their models to anyone."""
    if credential.value is None:
        return "no key sent"
    try:
        await list_models(session, upstream, Credential())
    except UpstreamError:
        return "key accepted"
    return "they are listed to anyone, so the key is not tested"


def _unknown(upstream: str, names: list[str], models: frozenset[str]) -> list[Finding]:
    findings = [_unknown_one(upstream, name, models) for name in names[:_MAX_UNKNOWN]]
    if more := names[_MAX_UNKNOWN:]:
        findings.append(Finding(upstream, "error", f"it has {len(more)} more models not, '{more[0]}' for one"))
    return findings


def _unknown_one(upstream: str, name: str, models: frozenset[str]) -> Finding:
    nearest = difflib.get_close_matches(name, sorted(models)[:_MAX_COMPARED], n=_MAX_NAMES, cutoff=0.0)
    there = ", ".join(nearest) if nearest else "none"
    if len(models) > len(nearest):
        there += f", and {len(models) - len(nearest)} more"
    return Finding(upstream, "error", f"it has no model '{name}'; there: {there}")


def _explained(error: UpstreamError, upstream: OpenAiUpstreamConfig, credential: Credential) -> str:
    if isinstance(error, UpstreamUnauthorized | UpstreamForbidden):
        if credential.value is None:
            return f"it asks for a key ({error.message}): name the variable that holds it in api_key_env"
        return f"{error.message}: {upstream.api_key_env} holds no key that is valid there"
    if isinstance(error, TimedOut):
        what = "no connection" if error.phase == "connect" else "no answer from GET /models"
        return f"{upstream.base_url} is unreachable: {what} within {error.limit_s:g} s"
    if isinstance(error, ConnectFailed):
        return f"{upstream.base_url} is unreachable: {error.message}"
    return f"{upstream.base_url}: {error.message}"
