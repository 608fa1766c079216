"""A request inside the engine: its answers as sequences, and the stream that they share."""

import secrets
from collections.abc import Callable
from collections.abc import Sequence as Ids
from dataclasses import replace
from typing import Protocol

from genkan.engine.grammar.matcher import Matcher
from genkan.engine.grammar.spec import GrammarSpec
from genkan.engine.sampler import RowSampler
from genkan.engine.sampling_params import SamplingParams
from genkan.engine.sequence import PrefixOptions, Sequence
from genkan.engine.stream import TokenStream

MAX_ANSWERS = 8


class Compiled(Protocol):
    """A grammar that sequences can be held to."""

    def matcher(self) -> Matcher:
        """A new one, at the grammar's beginning. Cheap."""

    def after(self, ids: Ids[int]) -> "Compiled":
        """The same for answers that go on from ``ids``. Raises InvalidRequest where no answer begins so."""


class GrammarCompiler(Protocol):
    """Where compiled grammars come from; ``engine/grammar/grammars.py`` has the real one."""

    async def compiled(self, spec: GrammarSpec) -> Compiled:
        """That of ``spec``. Raises InvalidRequest."""


class Request:
    """``n`` answers to one prompt. They find each other's pages of it, also where nobody else may.

    ``namespace`` is the request's own in the prefix cache, to be purged at its end; None where it has none.
    """

    def __init__(
        self,
        prompt_ids: Ids[int],
        params: SamplingParams,
        *,
        tenant: str,
        prefix: PrefixOptions,
        n: int,
        priority: int,
        grammar: Compiled | None,
        now_s: float,
    ) -> None:
        self.namespace: bytes | None = None
        is_query = prefix.use
        if n > 1 and not prefix.use:
            self.namespace = prefix.namespace + secrets.token_bytes(16)
            prefix = replace(prefix, namespace=self.namespace, use=True, pin=False)
        self.prompt_ids = prompt_ids
        self.grammar = grammar
        self.sequences = [
            Sequence(
                prompt_ids,
                params,
                tenant=tenant,
                prefix=prefix,
                answer=answer,
                priority=priority,
                is_query=is_query and answer == 0,
                now_s=now_s,
            )
            for answer in range(n)
        ]
        self.num_alive = n  # of the sequences, those that wait or run
        self.stream: TokenStream

    def open_stream(self, limit: int, cancel: Callable[["Request"], None]) -> TokenStream:
        """The reader's end, made in the reader's event loop. ``limit``: of unread tokens, for each answer."""
        self.stream = TokenStream(limit * len(self.sequences), lambda: cancel(self))
        return self.stream

    def sampler(self, sequence: Sequence) -> RowSampler:
        """What draws the tokens of one of ``sequences``. Raises whatever is wrong with the request's options."""
        matcher = None if self.grammar is None else self.grammar.matcher()
        return RowSampler(sequence.params, self.prompt_ids, matcher=matcher, seed_offset=sequence.answer)
