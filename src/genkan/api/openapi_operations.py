"""What can be asked of genkan, operation by operation, for `openapi.py`."""

from dataclasses import dataclass
from typing import Any, Final

from genkan.api.openapi_shapes import TEXT, Schema, ref

#: Media types, as the document names them.
JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
PLAIN: Final = "text/plain"

#: Statuses of errors. Anyone may get these,
ALWAYS: Final = (400, 401, 429, 500, 503)
#: who sends a body these too,
WITH_BODY: Final = (408, 413, 415)
#: who asks a model these (an upstream that refuses a request chooses its own status from 400 to 499),
OF_MODELS: Final = (404, 502, 504, "4XX")
#: and who is no administrator this.
OF_ADMINS: Final = (403,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter in the query, or in the path if ``required`` and ``place`` say so."""

    name: str
    schema: Schema
    meaning: str
    place: str = "query"
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path.

    ``route`` is its place in the table of paths (`genkan.api.routes.PathTable`), ``path`` the template that clients
    fill in: the same, unless the route ends with a star. ``answers`` are the bodies of a success by media type.
    """

    route: str
    method: str
    path: str = ""
    tag: str
    summary: str
    body: Schema | None = None
    example: dict[str, Any] | None = None
    body_is_optional: bool = False
    parameters: tuple[Parameter, ...] = ()
    status: int = 200
    answers: dict[str, Schema]
    errors: tuple[int | str, ...] = ALWAYS
    is_open: bool = False  # to callers without a key
    is_public: bool = True  # else for administrators

    @property
    def template(self) -> str:
        return self.path or self.route


_CHAT_EXAMPLE: Final = {
    "model": "default",
    "messages": [{"role": "user", "content": "Say hi."}],
    "max_tokens": 4,
    "temperature": 0,
}
_NATIVE_EXAMPLE: Final = {"messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 4}
_GENERATION_ERRORS: Final = ALWAYS + WITH_BODY + OF_MODELS
_PROBE_ERRORS: Final = (503,)


def _generation(route: str, summary: str, request: str, answer: str, example: dict[str, Any]) -> Operation:
    return Operation(
        route=route,
        method="POST",
        tag="OpenAI",
        summary=summary,
        body=ref(request),
        example=example,
        answers={JSON: ref(answer), EVENTS: TEXT},
        errors=_GENERATION_ERRORS,
    )


def _probe(route: str, summary: str, answers: dict[str, Schema], errors: tuple[int, ...] = ()) -> Operation:
    return Operation(
        route=route, method="GET", tag="operations", summary=summary, answers=answers, errors=errors, is_open=True
    )


PUBLIC: Final[tuple[Operation, ...]] = (
    _generation("/v1/chat/completions", "The next message of a chat", "ChatRequest", "ChatCompletion", _CHAT_EXAMPLE),
    _generation(
        "/v1/completions",
        "How texts go on",
        "CompletionRequest",
        "Completion",
        {"model": "default", "prompt": "Once upon a time", "max_tokens": 4, "temperature": 0},
    ),
    Operation(
        route="/v1/embeddings",
        method="POST",
        tag="OpenAI",
        summary="A vector for each text",
        body=ref("EmbeddingRequest"),
        example={"model": "multilingual-e5-small", "input": "xin chào"},
        answers={JSON: ref("Embeddings")},
        errors=_GENERATION_ERRORS,
    ),
    Operation(
        route="/v1/models",
        method="GET",
        tag="OpenAI",
        summary="The models and routes that the caller may use",
        answers={JSON: ref("Models")},
    ),
    Operation(
        route="/v1/models/*",
        path="/v1/models/{model}",
        method="GET",
        tag="OpenAI",
        summary="One of them",
        parameters=(Parameter(name="model", schema=TEXT, meaning="May have slashes.", place="path", required=True),),
        answers={JSON: ref("Model")},
        errors=(*ALWAYS, 404),
    ),
    Operation(
        route="/call",
        method="POST",
        tag="native",
        summary="One chat request in, one flat object out; BentoML's own face",
        body=ref("NativeRequest"),
        example=_NATIVE_EXAMPLE,
        answers={JSON: ref("NativeAnswer")},
        errors=_GENERATION_ERRORS,
    ),
    Operation(
        route="/batch_predict",
        method="POST",
        tag="native",
        summary="Many chat requests, answered one by one and returned together",
        body=ref("BatchRequest"),
        example={"requests": [_NATIVE_EXAMPLE]},
        answers={JSON: ref("BatchAnswer")},
        errors=ALWAYS + WITH_BODY,
    ),
    Operation(
        route="/models",
        method="GET",
        tag="native",
        summary="The models with their prices",
        answers={JSON: ref("PricedModels")},
    ),
    _probe("/health", "How the worker that answers has been doing", {JSON: ref("Health")}, ALWAYS),
    _probe("/", "What this is", {JSON: ref("Index")}, ALWAYS),
    _probe("/openapi.json", "This document", {JSON: {"type": "object"}}, ALWAYS),
    _probe("/livez", "Whether the process lives", {PLAIN: TEXT}),
    _probe("/readyz", "Whether requests can be answered", {PLAIN: TEXT}, _PROBE_ERRORS),
    _probe("/healthz", "The same as /livez", {PLAIN: TEXT}),
    _probe("/metrics", "Metrics in Prometheus' text format", {PLAIN: TEXT}),
    _probe("/schema.json", "BentoML's description of `/call`", {JSON: {"type": "object"}}),
)
