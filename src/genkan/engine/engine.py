"""The engine's async face: token ids in, tokens out, one thread that owns the model.

The thread takes waiting sequences in the order they came, one at a time. Everything it hands back goes
through the event loop. A sequence is cancelled by closing its generator; the thread looks before every token and
between the chunks of a prompt.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from collections.abc import Sequence as Ids
from typing import Any, Protocol

import torch

from genkan.engine.config import EngineConfig
from genkan.engine.sampler import Sampler
from genkan.engine.sequence import FinishReason, SamplingParams, Sequence, Token
from genkan.engine.statistics import EngineStatistics
from genkan.errors import EngineFailed, EngineOverloaded, EngineUnavailable

_log = logging.getLogger("genkan.engine")


class Runner(Protocol):
    """The model's forward pass; ``engine/model_runner.py`` has the real one."""

    max_model_len: int

    def forward(self, ids: list[int], kv: Any) -> tuple[torch.Tensor, Any]:
        """Logits after the last of ``ids`` (``[vocab]``), and the KV cache grown by them; ``kv`` None begins one."""


class Engine:
    """Generates tokens for sequences, in a thread of its own."""

    def __init__(
        self,
        runner: Runner,
        config: EngineConfig,
        on_change: Callable[[EngineStatistics], None] = lambda _: None,
    ) -> None:
        """The thread starts at once and lives until ``stop``.

        ``on_change`` is called whenever a sequence begins to wait, starts or ends, in the thread where it does and
        under the engine's lock, so that the last snapshot it got is the newest.
        """
        self.max_model_len = runner.max_model_len
        self._runner = runner
        self._max_waiting = config.max_waiting
        self._prefill_chunk = config.prefill_chunk
        self._on_change = on_change
        self._changed = threading.Condition()  # guards the queue, and the counts against torn snapshots
        self._waiting: deque[Sequence] = deque()
        self._running = 0
        self._generated_tokens = 0
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Fail what runs and waits with EngineUnavailable and end the thread, at most one forward pass later."""
        with self._changed:
            self._stopped = True
            while self._waiting:
                self._waiting.popleft().deliver(_stopping())
            self._changed.notify()
        self._thread.join(timeout=10)

    def statistics(self) -> EngineStatistics:
        with self._changed:
            return EngineStatistics(self._running, len(self._waiting), self._generated_tokens)

    async def generate(self, prompt_ids: Ids[int], params: SamplingParams) -> AsyncGenerator[Token, None]:
        """The tokens after ``prompt_ids``, each as soon as it is there; the last has a finish reason.

        The caller has checked that the prompt is not empty and fits the window together with ``params.max_tokens``.
        Closing the generator cancels the sequence within one token. Raises EngineOverloaded before the first token,
        EngineFailed and EngineUnavailable at any time.
        """
        sequence = self._submit(prompt_ids, params)
        try:
            while True:
                item = await sequence.outbox.get()
                if isinstance(item, Exception):
                    raise item
                yield item
                if item.finish_reason is not None:
                    return
        finally:
            self._cancel(sequence)

    def _submit(self, prompt_ids: Ids[int], params: SamplingParams) -> Sequence:
        sequence = Sequence(prompt_ids, params, asyncio.get_running_loop())
        with self._changed:
            if self._stopped:
                raise _stopping()
            if self._running + len(self._waiting) > self._max_waiting:
                raise EngineOverloaded(f"The engine is busy: at most {self._max_waiting} requests may wait for it.")
            self._waiting.append(sequence)
            self._changed.notify()
            self._on_change(self.statistics())
        return sequence

    def _cancel(self, sequence: Sequence) -> None:
        with self._changed:
            sequence.cancelled = True
            if sequence in self._waiting:
                self._waiting.remove(sequence)
                self._on_change(self.statistics())

    def _run(self) -> None:
        while (sequence := self._next()) is not None:
            self._serve(sequence)
            with self._changed:
                self._running = 0
                self._on_change(self.statistics())

    def _next(self) -> Sequence | None:
        """Wait for a sequence and take it out of the queue; None once the engine has stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopped)
            if self._stopped:
                return None
            self._running = 1
            sequence = self._waiting.popleft()
            self._on_change(self.statistics())
            return sequence

    def _serve(self, sequence: Sequence) -> None:
        try:
            self._generate(sequence)
        except Exception:  # noqa: BLE001 - whatever it is, it fails one sequence and not the engine
            _log.exception("a sequence of %d prompt tokens failed", len(sequence.prompt_ids))
            sequence.deliver(EngineFailed("The engine failed on this request."))

    def _generate(self, sequence: Sequence) -> None:
        params, sampler = sequence.params, Sampler(sequence.params)
        kv, ids = None, list(sequence.prompt_ids)
        for start in range(0, len(ids), self._prefill_chunk):
            if self._gone(sequence):
                return
            logits, kv = self._runner.forward(ids[start : start + self._prefill_chunk], kv)
        for num_generated in range(1, params.max_tokens + 1):
            token = sampler.sample(logits)
            self._generated_tokens += 1  # only this thread writes it
            reason = self._finish_reason(token, num_generated, params)
            sequence.deliver(Token(token, reason))
            if reason is not None or self._gone(sequence):
                return
            logits, kv = self._runner.forward([token], kv)

    @staticmethod
    def _finish_reason(token: int, num_generated: int, params: SamplingParams) -> FinishReason | None:
        if token in params.stop_ids:
            return "stop"
        return "length" if num_generated == params.max_tokens else None

    def _gone(self, sequence: Sequence) -> bool:
        if self._stopped and not sequence.cancelled:
            sequence.deliver(_stopping())
            return True
        return sequence.cancelled


def _stopping() -> EngineUnavailable:
    return EngineUnavailable("The engine is stopping.")
