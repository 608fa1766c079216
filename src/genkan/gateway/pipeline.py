"""One request through the gateway. The only file that knows the order of the steps.

resolve the model → ask its upstream → count usage as the answer passes → name who answered.
"""

from collections.abc import Mapping
from dataclasses import replace

from genkan.gateway.router import Deployment, Router
from genkan.gateway.usage import count_usage
from genkan.upstream.base import Answer, Responder
from genkan.wire.chat import GenerationRequest


class Pipeline:
    """Answers requests by way of the configured upstreams. A Responder."""

    def __init__(self, router: Router, upstreams: Mapping[str, Responder]) -> None:
        self._router = router
        self._upstreams = upstreams

    async def respond(self, request: GenerationRequest) -> Answer:
        """See Responder. Raises ModelNotFound for a name that is neither a model nor a route."""
        deployment = self._router.resolve(request.model)
        answer = await self._upstreams[deployment.upstream].respond(_for(deployment, request))
        count_usage(answer, visible=request.include_usage)
        answer.fields = {"model": deployment.model, "upstream": deployment.upstream}
        answer.headers = [
            (b"x-genkan-model", deployment.model.encode()),
            (b"x-genkan-upstream", deployment.upstream.encode()),
            (b"x-genkan-attempts", b"1"),
            (b"x-genkan-cache", b"bypass"),
        ]
        return answer


def _for(deployment: Deployment, request: GenerationRequest) -> GenerationRequest:
    """``request`` as the deployment gets it: its own model name, and usage asked for."""
    raw = {**request.raw, "model": deployment.model}
    if request.stream:
        raw["stream_options"] = {**(request.raw.get("stream_options") or {}), "include_usage": True}
    return replace(request, model=deployment.model, include_usage=request.stream, raw=raw)
