"""OpenAI's client with a tap on its wire: what its user gets, and the bytes that it was made of."""

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import openai
from faults.canonical import DONE, TEXT, event
from openai.types import CompletionUsage

#: Longer than any answer here may take, the waits of a retry included.
HANGS_AFTER_S = 12.0
QUESTION: list[Any] = [{"role": "user", "content": "Count to sixty."}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One call, as it ended: with an answer, or with an error and what of an answer came before it."""

    text: str = ""
    finish_reason: str | None = None
    model: str | None = None
    usage: CompletionUsage | None = None
    #: Fields of the answer, or of its first chunk, that OpenAI's API does not have.
    more: dict[str, Any]
    error: openai.APIError | None = None
    headers: httpx2.Headers
    wire: bytes
    seconds: float

    @property
    def whole(self) -> bool:
        """Whether it is all of the canonical answer, also for those who look at the wire."""
        ended = not self.streamed or self.wire.endswith(event(DONE))
        return self.error is None and self.text == TEXT and self.finish_reason == "stop" and ended

    @property
    def streamed(self) -> bool:
        return self.headers["content-type"] == "text/event-stream"

    @property
    def status(self) -> int | None:
        return self.error.status_code if isinstance(self.error, openai.APIStatusError) else None

    @property
    def code(self) -> str | None:
        return None if self.error is None else self.error.code

    @property
    def attempts(self) -> int:
        """As the gateway counts them; 0 when it says nothing."""
        return int(self.headers.get("x-genkan-attempts", "0"))


class TappedClient:
    """``openai.OpenAI`` for one thread."""

    def __init__(self, base_url: str, *, max_retries: int = 0) -> None:
        self._tap = _Tap()
        self._sdk = openai.OpenAI(
            base_url=f"{base_url}/v1",
            api_key="unused",
            max_retries=max_retries,
            timeout=HANGS_AFTER_S,
            http_client=openai.DefaultHttpxClient(transport=self._tap, trust_env=False),
        )

    def close(self) -> None:
        self._sdk.close()

    def ask(self, model: str, *, stream: bool, messages: list[Any] | None = None, **extra: Any) -> Outcome:
        """``extra`` goes into the body. Fails when the call hangs, or raises what is no APIError."""
        began_s = time.monotonic()
        body: dict[str, Any] = {"model": model, "messages": messages or QUESTION, "extra_body": extra}
        said: dict[str, Any] = {"more": {}}
        try:
            if stream:
                self._collect(said, self._sdk.chat.completions.create(**body, stream=True), began_s)
            else:
                self._read(said, self._sdk.chat.completions.create(**body))
        except openai.APIError as error:
            said["error"] = error
        seconds = time.monotonic() - began_s
        assert seconds < HANGS_AFTER_S
        return Outcome(**said, headers=self._tap.headers, wire=bytes(self._tap.body), seconds=seconds)

    @staticmethod
    def _read(said: dict[str, Any], answer: Any) -> None:
        (choice,) = answer.choices
        said |= {"text": choice.message.content or "", "finish_reason": choice.finish_reason, "model": answer.model}
        said |= {"usage": answer.usage, "more": answer.model_extra}

    @staticmethod
    def _collect(said: dict[str, Any], chunks: Any, began_s: float) -> None:
        said["text"] = ""
        for chunk in chunks:
            assert time.monotonic() - began_s < HANGS_AFTER_S, f"still streaming: {said['text'][-100:]}"
            said["model"] = chunk.model
            said["more"] = said["more"] or chunk.model_extra
            said["usage"] = chunk.usage or said.get("usage")
            for choice in chunk.choices:
                said["text"] += choice.delta.content or ""
                said["finish_reason"] = choice.finish_reason or said.get("finish_reason")


@contextmanager
def tapped_client(base_url: str, *, max_retries: int = 0) -> Generator[TappedClient, None, None]:
    """A client that is closed at the end."""
    client = TappedClient(base_url, max_retries=max_retries)
    try:
        yield client
    finally:
        client.close()


class _Tap(httpx2.BaseTransport):
    """The usual transport; keeps the headers and the body of the latest response."""

    def __init__(self) -> None:
        self._inner = httpx2.HTTPTransport(verify=False)  # there is no TLS here, and certificates take long to load
        self.headers = httpx2.Headers()
        self.body = bytearray()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = self._inner.handle_request(request)
        assert isinstance(response.stream, httpx2.SyncByteStream)
        self.headers, self.body = response.headers, bytearray()
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=_Tapped(response.stream, self.body),
            extensions=response.extensions,
        )

    def close(self) -> None:
        self._inner.close()


class _Tapped(httpx2.SyncByteStream):
    def __init__(self, inner: httpx2.SyncByteStream, seen: bytearray) -> None:
        self._inner = inner
        self._seen = seen

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._inner:
            self._seen += piece
            yield piece

    def close(self) -> None:
        self._inner.close()
