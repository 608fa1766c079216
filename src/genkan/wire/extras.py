"""genkan's own request options: the ``genkan`` object and its top-level short forms.

They steer caches and queues of ours and are taken out before any other upstream sees the request.
"""

from dataclasses import dataclass
from typing import Any, Literal

from genkan.errors import InvalidRequest
from genkan.wire.fields import Fields

CacheMode = Literal["default", "no-cache", "no-store", "only"]

MAX_CACHE_TTL_S = 30 * 86_400
MAX_PREFIX_TTL_S = 86_400
MAX_PRIORITY = 100
MAX_TAGS = 16
MAX_TAG_CHARS = 64
_CACHE_MODES = ("default", "no-cache", "no-store", "only")
_KEYS = frozenset({"cache", "cache_ttl_s", "prefix_cache", "prefix_ttl_s", "prefix_pin", "priority", "tags"})
#: Top-level short forms, and the option each stands for.
SHORT_FORMS = {
    "prompt_cache": "prefix_cache",
    "prefix_caching": "prefix_cache",
    "cache_ttl_seconds": "prefix_ttl_s",
    "high_priority": "prefix_pin",
}
#: Every top-level key that is ours.
OWN_KEYS = frozenset({"genkan", "cache_control", *SHORT_FORMS})
#: vLLM's own word for ``priority``, the other way round: lower goes first. It is passed on.
_VLLM_PRIORITY = "priority"
_MAX_VLLM_PRIORITY = 2**31 - 1  # clients send times
_READ = OWN_KEYS | {_VLLM_PRIORITY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """What the client asked of genkan itself; ``None`` is "as configured". A higher ``priority`` goes first."""

    cache: CacheMode = "default"
    cache_ttl_s: int | None = None
    prefix_cache: bool | None = None
    prefix_ttl_s: int | None = None
    prefix_pin: bool | None = None
    priority: int | None = None
    tags: tuple[str, ...] = ()


NO_EXTRAS = Extras()


def read_extras(raw: dict[str, Any]) -> Extras:
    """The extras in a request body; InvalidRequest names a wrong one. Costs one set test when there are none."""
    if _READ.isdisjoint(raw):
        return NO_EXTRAS
    top = Fields(raw)
    _check_cache_control(raw.get("cache_control"))
    own = top.object("genkan") or Fields({}, "genkan")
    own.only(_KEYS)
    cache: Any = own.choice("cache", _CACHE_MODES)
    return Extras(
        cache=cache or "default",
        cache_ttl_s=own.integer("cache_ttl_s", low=1, high=MAX_CACHE_TTL_S),
        prefix_cache=_agreed(own, top, "prefix_cache", Fields.boolean),
        prefix_ttl_s=_agreed(own, top, "prefix_ttl_s", _prefix_ttl_s),
        prefix_pin=_agreed(own, top, "prefix_pin", Fields.boolean),
        priority=_priority(own, top),
        tags=_tags(own),
    )


def without_extras(raw: dict[str, Any]) -> dict[str, Any]:
    """``raw`` without our keys; ``raw`` itself when it has none."""
    if OWN_KEYS.isdisjoint(raw):
        return raw
    return {key: value for key, value in raw.items() if key not in OWN_KEYS}


def _prefix_ttl_s(fields: Fields, name: str) -> int | None:
    return fields.integer(name, low=1, high=MAX_PREFIX_TTL_S)


def _priority(own: Fields, top: Fields) -> int | None:
    ours = own.integer("priority", low=-MAX_PRIORITY, high=MAX_PRIORITY)
    theirs = top.integer(_VLLM_PRIORITY, low=-_MAX_VLLM_PRIORITY, high=_MAX_VLLM_PRIORITY)
    if theirs is None:
        return ours
    if ours not in (None, -theirs):
        raise InvalidRequest(
            f"'{_VLLM_PRIORITY}', of which a lower one goes first, and 'genkan.priority', of which a higher one does, "
            "contradict each other.",
            param=_VLLM_PRIORITY,
        )
    return -theirs


def _agreed(own: Fields, top: Fields, option: str, read: Any) -> Any:
    """The option's one value among ``genkan.<option>`` and its short forms; InvalidRequest when two differ."""
    found = [(own.path_of(option), read(own, option))]
    found += [(short, read(top, short)) for short, meant in SHORT_FORMS.items() if meant == option]
    given = [(path, value) for path, value in found if value is not None]
    for path, value in given[1:]:
        if value != given[0][1]:
            raise InvalidRequest(f"'{path}' and '{given[0][0]}' contradict each other.", param=path)
    return given[0][1] if given else None


def _check_cache_control(value: Any) -> None:
    if value not in (None, "auto"):
        raise InvalidRequest("'cache_control' must be 'auto' at the top level of a request.", param="cache_control")


def _tags(own: Fields) -> tuple[str, ...]:
    tags = own.list("tags") or []
    if len(tags) > MAX_TAGS or not all(type(tag) is str and 0 < len(tag) <= MAX_TAG_CHARS for tag in tags):
        raise InvalidRequest(
            f"'genkan.tags' must be at most {MAX_TAGS} strings of 1 to {MAX_TAG_CHARS} characters.", param="genkan.tags"
        )
    return tuple(tags)
