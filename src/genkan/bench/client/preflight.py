"""Is there a server, does it let us in, which model has it? Found out before the load, and said in full."""

from collections.abc import Mapping, Sequence
from typing import Any

from genkan.bench.client.asking import Asker
from genkan.bench.client.target import Target
from genkan.errors import GenkanError

DEFAULT_MODEL = "default"


class CannotMeasure(GenkanError):
    """The server cannot be measured; the message says why, and what to look at."""


async def chosen_model(asker: Asker, target: Target) -> str:
    """`default` where the server has that or says nothing of its models, else the first of its list."""
    listed = (await asker.get_json(target.get_models())).get("data")
    rows: Sequence[Any] = listed if isinstance(listed, list) else []
    names = [row["id"] for row in rows if isinstance(row, Mapping) and isinstance(row.get("id"), str)]
    return DEFAULT_MODEL if DEFAULT_MODEL in names or not names else names[0]


async def check(asker: Asker, target: Target, request: bytes, key_env: str) -> None:
    """Make one request, which warms the server up too. Raises CannotMeasure."""
    seen, message = await asker.ask_for_message(request)
    if seen.error is None:
        return
    said = f": {message}" if message else ""
    if hint := _hint(seen.status, target, key_env):
        said = f"{said}\n{hint}"
    raise CannotMeasure(f"{target.url}: {seen.error}{said}")


def _hint(status: int, target: Target, key_env: str) -> str:
    if status in (401, 403):
        return f"{key_env} is {'set, and not accepted' if target.key else 'not set: it is where the key comes from'}"
    if status in (404, 405):
        return "Is the path right? The URL is that of the server, with or without /v1; --path says another one."
    if status == 429:
        return "The server limits this client: a benchmark needs a key with higher limits."
    return "" if status else "Does a server listen there? `make serve` starts genkan on http://127.0.0.1:3000."
