"""One request for embeddings through the gateway: is it the right model → admit → embed → settle."""

from typing import NamedTuple

from genkan.errors import InvalidRequest, ModelNotFound, UnsupportedOption
from genkan.gateway.admission import Admissions
from genkan.gateway.embedding_model import EmbeddingModel
from genkan.gateway.router import Router
from genkan.gateway.ticket import Header
from genkan.upstream.embeddings import Embedded, Embeds
from genkan.wire.caller import NOBODY, Caller
from genkan.wire.embeddings import EmbeddingRequest, Vectors, shortened


class EmbeddingAnswer(NamedTuple):
    """What a client gets, but for how it is written."""

    vectors: Vectors  # (texts, dimensions), each of length 1
    tokens: int  # of all texts together
    headers: list[Header]
    cost_nano_usd: int | None


class Embeddings:
    """Answers requests for embeddings by the one model that the configuration names."""

    def __init__(
        self, embedder: Embeds, model: EmbeddingModel, router: Router, admissions: Admissions, *, timeout_s: float
    ) -> None:
        """``timeout_s`` is for all texts of a request."""
        self.model = model
        self._embedder = embedder
        self._router = router
        self._admissions = admissions
        self._timeout_s = timeout_s
        self._dimensions: int | None = None  # once they are known
        self._names: list[Header] = [
            (b"x-genkan-model", model.name.encode()),
            (b"x-genkan-upstream", model.upstream.encode()),
        ]

    async def respond(self, request: EmbeddingRequest, caller: Caller = NOBODY) -> EmbeddingAnswer:
        """The vectors of all texts. Fewer ``dimensions`` are the first ones of each, scaled to length 1 again.

        OpenAI's models are trained for that. Any other, such as those of the e5 family, is merely coarser then.

        Raises ModelNotFound for a name that is none or not the caller's, InvalidRequest for that of a model that
        generates text, for a text that is too long and for too many dimensions, what limits and budgets raise, and
        UpstreamError.
        """
        self._check_model(request, caller)
        self._check_dimensions(request, self._dimensions)
        ticket = await self._admissions.admit_texts(request.texts, caller, self.model)
        try:
            ticket.begun()
            embedded = await self._embedder.embed(request.texts, timeout_s=self._timeout_s)
            vectors = self._as_asked(request, embedded)
        except BaseException as error:
            ticket.failed(error)
            raise
        tokens = sum(embedded.tokens)
        cost = ticket.answered(tokens)
        headers = [*self._names, *ticket.headers]
        if cost is not None:
            headers.append((b"x-genkan-cost-usd", f"{cost // 10**9}.{cost % 10**9:09d}".encode()))
        return EmbeddingAnswer(vectors, tokens, headers, cost)

    def _check_model(self, request: EmbeddingRequest, caller: Caller) -> None:
        if not caller.may_use(request.model):
            raise ModelNotFound(request.model)
        if request.model != self.model.name:
            self._router.resolve(request.model)
            raise InvalidRequest(f"The model '{request.model}' generates text: it has no embeddings.", param="model")
        if request.extras.cache == "only":
            raise UnsupportedOption("genkan.cache", "embeddings are not stored, so none can come from there only")

    def _check_dimensions(self, request: EmbeddingRequest, most: int | None) -> None:
        if most is not None and request.dimensions is not None and request.dimensions > most:
            raise InvalidRequest(
                f"'dimensions' must be at most {most}, which is what this model has; given: {request.dimensions}.",
                param="dimensions",
            )

    def _as_asked(self, request: EmbeddingRequest, embedded: Embedded) -> Vectors:
        self._dimensions = embedded.vectors.shape[1]
        self._check_dimensions(request, self._dimensions)
        if request.dimensions in (None, self._dimensions):
            return embedded.vectors
        return shortened(embedded.vectors, request.dimensions)
