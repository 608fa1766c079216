"""What is checked of a configuration beyond its own file, before anything starts: what its parts make of it."""

from collections.abc import Mapping

from genkan.config import Config
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
