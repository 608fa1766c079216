"""Whether the key of an upstream can work, told before anything is sent.

A key comes from the environment, and what stands there is often no key at all: an empty string, a placeholder, a value
with its quotes, a key that belongs to somebody else. All that shows without asking anyone. What is found names the
variable and what to do about it, never the value.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from genkan.config import OpenAiUpstreamConfig

MIN_KEY_CHARS = 20


@dataclass(frozen=True, slots=True)
class Credential:
    """An upstream's key, or why there is none.

    ``value`` is None when no key is to be sent: because none is configured, or because of ``problem``, with which every
    request there would fail. ``warning`` is worth reading and stops nothing. The key does not show in ``repr``.
    """

    value: str | None = field(default=None, repr=False)
    problem: str | None = None
    warning: str | None = None


def find_key(upstream: OpenAiUpstreamConfig, environ: Mapping[str, str]) -> Credential:
    """The key of ``upstream`` in ``environ``. Pure; what is wrong with it is told, not raised."""
    variable = upstream.api_key_env
    if variable is None:
        return Credential()
    key = environ.get(variable)
    if key is None:
        return Credential(problem=f"{variable} is not set")
    host = _host_of(upstream.base_url)
    shown = _Shown(key, variable, host, _is_private(host), upstream.base_url.startswith("http://"))
    problem = next((problem for check in _CHECKS if (problem := check(shown))), None)
    if problem is not None:
        return Credential(problem=f"{variable} {problem}")
    warning = _warning(shown)
    return Credential(key, warning=f"{variable} {warning}" if warning else None)


class _Shown(NamedTuple):
    """A key and where it would be sent."""

    key: str
    variable: str
    host: str
    private: bool
    clear_text: bool


def _edges(it: _Shown) -> str | None:
    if not it.key.strip():
        return "is empty" if not it.key else "holds only blanks"
    for place, character in (("begins", it.key[0]), ("ends", it.key[-1])):
        if character in "\r\n":
            return f"{place} with a line break"
        if character.isspace():
            return f"{place} with a blank"
        if character in _QUOTES:
            return f"{place} with a quote"
    for beginning in (f"{it.variable}=", "export ", "Bearer "):
        if it.key.lower().startswith(beginning.lower()):
            return f"begins with '{beginning.strip()}'; only the key itself belongs there"
    return None


def _placeholder(it: _Shown) -> str | None:
    key = it.key.lower()
    words = set(re.split(r"[^a-z0-9]+", key)) - {""}
    if _TEMPLATE.search(key) or _YOURS.search(key) or words & _UNFILLED:
        return "holds a placeholder, not a key"
    if it.private:  # a server at home may be run with any of what follows
        return None
    if words & _DUMMIES or all(map(_FILLING.fullmatch, words)) or _FILLED_UP.search(key):
        return "holds a placeholder, not a key"
    return None


def _characters(it: _Shown) -> str | None:
    if any(character.isspace() for character in it.key):
        return "has a blank or a line break inside"
    if any(character in _QUOTES for character in it.key):
        return "has a quote inside"
    if not (it.key.isascii() and it.key.isprintable()):
        return "has a character in it that is not printable ASCII"
    return None


def _length(it: _Shown) -> str | None:
    if len(it.key) >= MIN_KEY_CHARS or it.private:
        return None
    return f"has {_characters_of(it.key)}; a key has at least {MIN_KEY_CHARS}"


def _owner(it: _Shown) -> str | None:
    owner = _owner_of_key(it.key)
    if owner is None or it.private or _is_at(it.host, (*owner.hosts, *_PASSES_KEYS_ON)):
        return None
    there = next((other.name for other in _OWNERS if _is_at(it.host, other.hosts)), None)
    return f"holds a key of {owner.name}, and {it.host} is {f'of {there}' if there else 'not theirs'}"


def _clear_text(it: _Shown) -> str | None:
    if not it.clear_text or it.private:
        return None
    return f"would travel to {it.host} in clear text; begin base_url with https://"


def _warning(it: _Shown) -> str | None:
    owner = _owner_of_key(it.key)
    if owner is not None and it.private:
        return f"holds a key of {owner.name}, and goes to {it.host}"
    if len(it.key) < MIN_KEY_CHARS:  # only a server at home gets here with one
        return f"has {_characters_of(it.key)}; that is easily guessed"
    return None


def _characters_of(key: str) -> str:
    return "1 character" if len(key) == 1 else f"{len(key)} characters"


#: In this order: the first that finds something speaks.
_CHECKS: tuple[Callable[[_Shown], str | None], ...] = (
    _edges,
    _placeholder,
    _characters,
    _length,
    _owner,
    _clear_text,
)

_QUOTES = "'\"`‘’“”«»"
#: A form that nobody filled in, a variable that no shell expanded, a key that was shown masked.
_TEMPLATE = re.compile(r"^<.*>$|^\[.*\]$|\{.*\}|^\$\(?\w+\)?$|^%\w+%$|\.{3}|…|\*{3}")
_YOURS = re.compile(r"^(?:sk-|hs-)?your(?:own)?(?:api|key|token|secret|openai|gemini|deepseek|holysheep|anthropic)")
#: Words between separators. A random key has one of them less than once in a million.
_UNFILLED = frozenset({"your", "yourkey", "yourapikey", "placeholder", "changeme", "replaceme", "insert", "redacted"})
_DUMMIES = frozenset({"dummy", "example"})
#: A value of nothing but these words is no key.
_FILLING = re.compile(
    r"x+|abc|api|apikey|an?|change|default|demo|empty|enter|fake|foo|bar|here|hs|in|is|it|key|local|lm|me|my|mykey|n|na"
    r"|needed|no|none|not|null|password|real|replace|required|sample|secret|set|sk|some|studio|test|testing|testkey|the"
    r"|this|to|todo|token|undefined|unused|value|with|anthropic|deepseek|gemini|google|holysheep|ollama|openai"
    r"|(?:abc)?(?:[01]|12|123|1234|12345|123456)"
)
#: Eight of a kind in a row, a row of x, the digits or the alphabet in order: never by chance.
_FILLED_UP = re.compile(r"(.)\1{7}|x{6}|12345678|abcdefgh")


class _Owner(NamedTuple):
    name: str
    prefixes: tuple[str, ...]  # of keys that nobody else hands out; case matters
    hosts: tuple[str, ...]


#: Those whose keys can be told by how they begin, and those who take none of these. A plain `sk-` is anybody's.
_OWNERS = (
    _Owner("Anthropic", ("sk-ant-",), ("anthropic.com",)),
    _Owner("OpenRouter", ("sk-or-",), ("openrouter.ai",)),
    _Owner("OpenAI", ("sk-proj-", "sk-svcacct-", "sk-admin-"), ("openai.com",)),
    _Owner("Google", ("AIza",), ("googleapis.com",)),
    _Owner("Groq", ("gsk_",), ("groq.com",)),
    _Owner("xAI", ("xai-",), ("x.ai",)),
    _Owner("Perplexity", ("pplx-",), ("perplexity.ai",)),
    _Owner("Hugging Face", ("hf_",), ("huggingface.co", "huggingface.cloud", "hf.space")),
    _Owner("NVIDIA", ("nvapi-",), ("nvidia.com",)),
    _Owner("Fireworks", ("fw_",), ("fireworks.ai",)),
    _Owner("Cerebras", ("csk-",), ("cerebras.ai",)),
    _Owner("DeepSeek", (), ("deepseek.com",)),
    _Owner("HolySheep", (), ("holysheep.ai",)),
    _Owner("Mistral", (), ("mistral.ai",)),
    _Owner("Together", (), ("together.xyz", "together.ai")),
)
#: Proxies that are called with the provider's own key.
_PASSES_KEYS_ON = ("gateway.ai.cloudflare.com", "helicone.ai")


def _owner_of_key(key: str) -> _Owner | None:
    return next((owner for owner in _OWNERS if key.startswith(owner.prefixes)), None)


def _is_at(host: str, domains: tuple[str, ...]) -> bool:
    return any(host == domain or host.endswith(f".{domain}") for domain in domains)


def _host_of(base_url: str) -> str:
    authority = base_url.partition("://")[2].partition("/")[0].lower()
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0].rstrip(".")


def _is_private(host: str) -> bool:
    """Whether ``host`` is this machine or on a network of one's own."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".local", ".localhost", ".internal", ".lan", ".home.arpa"))
