"""What a search for a like question was about, and what came of it."""

from dataclasses import dataclass

from genkan.cache.candidates import Candidate
from genkan.cache.exact import Hit
from genkan.cache.index.base import Vector
from genkan.cache.question import Question
from genkan.cache.scope import Scope
from genkan.config import RouteCacheConfig


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that was sought for, and by whom."""

    scope: Scope
    text: str  # the scope's
    question: Question
    settings: RouteCacheConfig
    tenant: str
    route: str
    may_leave: bool = True  # False: its text must not be kept anywhere, nor shown to a judge


@dataclass(frozen=True, slots=True)
class Sought:
    """The outcome. What can be learnt from it, once the question has an answer of its own, is the tier's affair."""

    hit: Hit | None = None
    is_shadow: bool = False  # there would have been a hit, but the route only tries it out
    asked: Asked | None = None  # None: nothing was sought
    vector: Vector | None = None  # of the question; None: the embedder failed, or took too long
    doubt: Candidate | None = None  # what a judge should see beside the new answer


NOTHING = Sought()
