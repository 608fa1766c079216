"""The one question that every server with OpenAI's API answers for nothing: which models it has.

It shows whether a server is there, whether it takes our key, and whether it knows the models that are configured.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import aiohttp
import orjson

from genkan.config import OpenAiUpstreamConfig
from genkan.errors import ConnectFailed, TimedOut, UpstreamBroken, UpstreamForbidden, UpstreamUnauthorized
from genkan.upstream.credentials import Credential

_MAX_BODY_BYTES = 8 << 20
_MAX_ERROR_BYTES = 64 << 10
_MAX_NAME_CHARS = 256


def question_session() -> aiohttp.ClientSession:
    """A session for such questions: it keeps no cookies, unpacks nothing and takes no proxy from the environment.

    To be made in the event loop that uses it, and closed by whoever made it.
    """
    return aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False)


async def list_models(
    session: aiohttp.ClientSession, upstream: OpenAiUpstreamConfig, credential: Credential
) -> frozenset[str] | None:
    """The names of the models that ``upstream`` has; None when it does not tell (404 or 405).

    Raises what ``models_answer`` raises, and UpstreamBroken for an answer that is no list. Cost: at most 8 MiB, and
    ``health.timeout_s``.
    """
    async with models_answer(session, upstream, credential) as response:
        if response.status in (404, 405):
            return None
        if response.status != 200:
            raise UpstreamBroken(f"GET /models answers with status {response.status}", upstream=upstream.name)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise UpstreamBroken("GET /models answers with a packed body, unasked", upstream=upstream.name)
        body = await _read(response, _MAX_BODY_BYTES)
    if len(body) > _MAX_BODY_BYTES:
        raise UpstreamBroken("GET /models answers with more than 8 MiB", upstream=upstream.name)
    names = _names_in(body)
    if names is None:
        raise UpstreamBroken("GET /models does not answer with a list of models", upstream=upstream.name)
    return names


def is_listed(name: str, models: frozenset[str]) -> bool:
    """Whether ``name`` is one of ``models``, as servers list them: Gemini ``models/NAME``, Ollama ``NAME:latest``."""
    bare = name.removeprefix("models/")
    return not models.isdisjoint((name, bare, f"models/{bare}", f"{name}:latest"))


@asynccontextmanager
async def models_answer(
    session: aiohttp.ClientSession, upstream: OpenAiUpstreamConfig, credential: Credential
) -> AsyncGenerator[aiohttp.ClientResponse, None]:
    """``GET {base_url}/models``: the answer, whatever its status, but for one that refuses the key.

    Raises ConnectFailed, UpstreamUnauthorized, UpstreamForbidden (for a 403), UpstreamBroken for what is not HTTP or
    breaks off, and TimedOut when the connection takes longer than ``timeouts.connect_s``, or all of it, the block
    included, than ``health.timeout_s``.
    """
    connect_s, limit_s = upstream.timeouts.connect_s, upstream.health.timeout_s
    headers = {**upstream.headers, "accept": "application/json", "accept-encoding": "identity"}
    if credential.value is not None:
        headers["authorization"] = f"Bearer {credential.value}"
    try:
        async with (
            asyncio.timeout(limit_s),
            session.get(
                f"{upstream.base_url}/models",
                headers=headers,
                allow_redirects=False,  # the key goes nowhere but where the configuration says
                timeout=aiohttp.ClientTimeout(total=None, connect=connect_s),
            ) as response,
        ):
            if response.status == 403:
                raise UpstreamForbidden("the key is refused with status 403", upstream=upstream.name)
            if await _refuses_key(response):
                raise UpstreamUnauthorized(f"the key is refused with status {response.status}", upstream=upstream.name)
            yield response
    except aiohttp.ConnectionTimeoutError as error:
        raise TimedOut(upstream=upstream.name, phase="connect", limit_s=connect_s) from error
    except TimeoutError as error:
        raise TimedOut(upstream=upstream.name, phase="total", limit_s=limit_s) from error
    except aiohttp.ClientConnectorError as error:
        raise ConnectFailed(_why(error), upstream=upstream.name) from error
    except (aiohttp.InvalidURL, UnicodeError) as error:  # a UnicodeError for a host name that cannot be looked up
        raise ConnectFailed("base_url is not a URL that can be called", upstream=upstream.name) from error
    except (aiohttp.ClientError, OSError) as error:
        raise UpstreamBroken(
            f"what answers is not HTTP, or breaks off ({type(error).__name__})", upstream=upstream.name
        ) from error


def _why(error: aiohttp.ClientConnectorError) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"the certificate of {error.host} is not valid"
    if isinstance(error, aiohttp.ClientSSLError):
        return f"{error.host}:{error.port} does not speak TLS"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"the name {error.host} is not known"
    errno = error.os_error.errno
    return f"{error.host}:{error.port} cannot be reached ({os.strerror(errno) if errno else error.os_error})"


async def _refuses_key(response: aiohttp.ClientResponse) -> bool:
    if response.status == 401:
        return True
    # Google says it with a 400.
    return response.status == 400 and b"API_KEY_INVALID" in await _read(response, _MAX_ERROR_BYTES)


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body, or a beginning of it that is longer than ``limit``."""
    body = bytearray()
    while len(body) <= limit and (chunk := await response.content.readany()):
        body += chunk
    return bytes(body)


def _names_in(body: bytes) -> frozenset[str] | None:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if isinstance(answer, dict):
        if "data" not in answer:
            return None
        answer = answer["data"] or []  # Ollama without a model says null
    if not isinstance(answer, list):  # Together answers with the list itself
        return None
    names = [entry.get("id") for entry in answer if isinstance(entry, dict)]
    # They are shown on terminals, so control characters end here.
    return frozenset(n for n in names if isinstance(n, str) and n.isprintable() and 0 < len(n) <= _MAX_NAME_CHARS)
