"""Checks that span sections of the configuration."""

from pydantic import ValidationError

from genkan.config.cache import EmbedderConfig
from genkan.config.routing import CanaryConfig
from genkan.config.sections import Config, ModelConfig
from genkan.errors import ConfigError

#: The embedding model whose cosines the built-in score knows.
_SCORED = EmbedderConfig().model


def cross_check(config: Config) -> None:
    """Raises ConfigError for a name that is taken or unknown, and for more than one engine."""
    upstreams = _unique([(f"upstreams[{i}].name", u.name) for i, u in enumerate(config.upstreams)])
    models = _unique([(f"models[{i}].name", m.name) for i, m in enumerate(config.models)])
    _unique([(f"routes[{i}].alias", r.alias) for i, r in enumerate(config.routes)], taken=models)
    for index, model in enumerate(config.models):
        _check_places(f"models[{index}]", model, upstreams)
    for index, route in enumerate(config.routes):
        _unique([(f"routes[{index}].chain[{place}]", name) for place, name in enumerate(route.chain)])
        for place, name in enumerate(route.chain):
            _known(f"routes[{index}].chain[{place}]", name, models)
        if route.canary is not None:
            _check_canary(f"routes[{index}].canary", route.canary, route.chain[0], models)
    _check_engine(config)
    _check_windows(config)
    _check_limits(config, models if config.embedder is None else models | {config.embedder.name})
    _check_cache(config, models)


def _check_places(path: str, model: ModelConfig, upstreams: frozenset[str]) -> None:
    if model.upstream is not None:
        _known(f"{path}.upstream", model.upstream, upstreams)
    for place, deployment in enumerate(model.deployments):
        _known(f"{path}.deployments[{place}].upstream", deployment.upstream, upstreams)
    _unique(
        [
            (f"{path}.deployments[{place}].upstream", deployment.upstream)
            for place, deployment in enumerate(model.deployments)
        ]
    )


def _check_canary(path: str, canary: CanaryConfig, control: str, models: frozenset[str]) -> None:
    _known(f"{path}.model", canary.model, models)
    if canary.model == control:
        raise ConfigError(f"{path}.model", f"'{control}' is the chain's first model, which it is compared with")
    if all(limit is None for _, limit in canary.guards):
        raise ConfigError(f"{path}.guards", "at least one must be left: nothing else can find the canary worse")


def _check_engine(config: Config) -> None:
    ours = {upstream.name for upstream in config.upstreams if upstream.kind == "engine"}
    for index, model in enumerate(config.models):
        if "defaults" in model.model_fields_set and not any(place.upstream in ours for place in model.places):
            raise ConfigError(f"models[{index}].defaults", "only the engine's models have defaults of their own here")
        if model.engine is not None and not any(place.upstream in ours for place in model.places):
            raise ConfigError(f"models[{index}].engine", "only a model of the engine's has settings of the engine")
    engines = [upstream.name for upstream in config.upstreams if upstream.kind == "engine"]
    if not engines:
        return
    if len(engines) > 1:
        raise ConfigError("upstreams", f"at most one may be of kind engine; given: {', '.join(engines)}")
    served = [model.name for model in config.models if any(place.upstream == engines[0] for place in model.places)]
    if not served:
        raise ConfigError("models", "at least one must name the engine's upstream; given: none")
    if len(config.engine_models) != len(served):
        raise ConfigError("models", f"the engine's models must have different names there; given: {', '.join(served)}")
    without_file: str | None = None
    for index, model in enumerate(config.models):
        _check_own_engine(config, f"models[{index}].engine", model)
        if model.name in served and (model.engine is None or "model" not in model.engine.model_fields_set):
            if without_file is not None:
                raise ConfigError(
                    f"models[{index}].engine.model",
                    f"must name a file, as '{without_file}' has the one of engine.model",
                )
            without_file = model.name


def _check_own_engine(config: Config, path: str, model: ModelConfig) -> None:
    try:
        config.engine_of(model)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}.{where}", first["msg"].removeprefix("Value error, ")) from None


def _check_windows(config: Config) -> None:
    models, ours = {model.name: model for model in config.models}, set(config.engine_models)
    for index, route in enumerate(config.routes):
        first = models[route.chain[0]]
        is_engine = any((place.model or first.name) in ours for place in first.places)
        if route.truncate == "off" or first.context_tokens is not None:
            continue
        if not is_engine or config.engine_of(first).max_model_len is None:
            raise ConfigError(
                f"routes[{index}].truncate",
                f"'{route.truncate}' needs to know the window: context_tokens of '{first.name}'",
            )


def _check_limits(config: Config, models: frozenset[str]) -> None:
    aliases = frozenset(route.alias for route in config.routes)
    for name in config.limits.models:
        _known(f"limits.models.{name}", name, models)
    for name in config.limits.routes:
        _known(f"limits.routes.{name}", name, aliases)
    _unique([(f"tenants[{i}].name", tenant.name) for i, tenant in enumerate(config.tenants)])
    for index, tenant in enumerate(config.tenants):
        for place, name in enumerate(tenant.models or ()):
            _known(f"tenants[{index}].models[{place}]", name, models | aliases)
    if config.redis.url_env is None:
        _check_redis(config)


def _check_redis(config: Config) -> None:
    if config.redis.url == "memory" and config.server.workers > 1:
        raise ConfigError("redis.url", f"'memory' is for one worker; server.workers is {config.server.workers}")
    if config.redis.url in ("memory", "embedded") and config.redis.sentinels:
        raise ConfigError("redis.sentinels", f"go with redis:// or rediss://; redis.url is '{config.redis.url}'")


def _check_cache(config: Config, models: frozenset[str]) -> None:
    for index, route in enumerate(config.routes):
        path, cache = f"routes[{index}].cache", route.cache
        if cache.semantic == "off":
            if cache.verified:
                raise ConfigError(f"{path}.verified", "goes with semantic: on or shadow")
            continue
        if cache.exact == "off":
            raise ConfigError(f"{path}.semantic", f"'{cache.semantic}' needs stored answers; exact is 'off'")
        if config.embedder is None:
            raise ConfigError(f"{path}.semantic", f"'{cache.semantic}' needs an embedder, and there is no such section")
        if config.cache.score is None and config.embedder.model != _SCORED:
            raise ConfigError(
                f"{path}.semantic",
                f"the built-in score is for {_SCORED}; for '{config.embedder.model}' cache.score must name one, which "
                "`genkan cache calibrate` makes",
            )
        if cache.verified and config.cache.judge is None:
            raise ConfigError(f"{path}.verified", "needs somebody to judge: cache.judge")
    if config.cache.judge is not None:
        _check_judge(config, config.cache.judge.model, models)
    if config.embedder is not None:
        _check_embedder(config, config.embedder)


def _check_judge(config: Config, judge: str, models: frozenset[str]) -> None:
    chains = {route.alias: route.chain for route in config.routes}
    _known("cache.judge.model", judge, models | frozenset(chains))
    asked = frozenset(chains.get(judge, [judge]))
    if ours := asked & {model.name for model in config.engine_models.values()}:
        raise ConfigError("cache.judge.model", f"'{min(ours)}' is the engine's, and too small to judge")


def _check_embedder(config: Config, embedder: EmbedderConfig) -> None:
    taken = {model.name for model in config.models} | {route.alias for route in config.routes}
    if embedder.name in taken:
        raise ConfigError("embedder.name", f"the name '{embedder.name}' is already taken")
    if embedder.model.startswith("upstream:"):
        upstream, _, model = embedder.model.removeprefix("upstream:").partition("/")
        _known("embedder.model", upstream, frozenset(one.name for one in config.openai_upstreams))
        if not model:
            raise ConfigError("embedder.model", f"must be upstream:NAME/MODEL; given: '{embedder.model}'")


def check_prices(config: Config) -> None:
    """Raises ConfigError for a price at an upstream that is not defined: it would count for nothing."""
    upstreams = frozenset(upstream.name for upstream in config.upstreams)
    for index, price in enumerate(config.prices.models):
        if price.upstream is not None:
            _known(f"prices.models[{index}].upstream", price.upstream, upstreams)


def _unique(named: list[tuple[str, str]], taken: frozenset[str] = frozenset()) -> frozenset[str]:
    seen = set(taken)
    for path, name in named:
        if name in seen:
            raise ConfigError(path, f"the name '{name}' is already taken")
        seen.add(name)
    return frozenset(name for _, name in named)


def _known(path: str, name: str, known: frozenset[str]) -> None:
    if name not in known:
        raise ConfigError(path, f"'{name}' is not defined; allowed: {', '.join(sorted(known))}")
