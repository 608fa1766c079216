"""What is checked of a configuration beyond its own file, before anything starts: what its parts make of it."""

from collections.abc import Mapping

from genkan.config import Config
from genkan.errors import ConfigError
from genkan.gateway.prices import PriceBook
from genkan.store.address import parse_address
from genkan.stored_answers import score_of


def check_settings(config: Config, environ: Mapping[str, str]) -> None:
    """Raises ConfigError for a price that is incomplete, a score that is none, and a Redis URL that names none.

    Connects to nothing. A variable for the URL that is not set is no error here: the machine that checks a
    configuration need not be the one that serves it.
    """
    PriceBook(config.prices)
    score_of(config)
    redis = config.redis
    url = environ.get(redis.url_env, "") if redis.url_env is not None else redis.url
    if url not in ("", "embedded", "memory"):
        parse_address(url, redis.sentinels)
    if answers := environ.get(config.cache.url_env or ""):
        try:
            parse_address(answers)
        except ConfigError as error:
            problem = str(error).removeprefix(f"{error.path}: ")
            raise ConfigError("cache.url_env", f"the URL in {config.cache.url_env} {problem}") from None


def check_variables(config: Config, environ: Mapping[str, str]) -> None:
    """Raises ConfigError where the variable with the URL of the answers' Redis is not set; for who is to serve."""
    variable = config.cache.url_env
    if config.cache.enabled and variable is not None and not environ.get(variable):
        raise ConfigError("cache.url_env", f"the environment variable {variable} is not set")
