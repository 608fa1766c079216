"""One request through the gateway. The only file that knows the order of the steps.

resolve the model → ask its upstream → count usage as the answer passes → name who answered in headers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from genkan.gateway.router import Deployment, Router
from genkan.gateway.usage import UsageMeter
from genkan.upstream.base import Answer, Responder
from genkan.wire.chat import GenerationRequest


@dataclass(slots=True)
class Outcome:
    """What is known of a request besides its answer; complete once the answer was closed."""

    model: str | None = None
    upstream: str | None = None
    meter: UsageMeter | None = None


class Pipeline:
    """Answers requests by way of the configured upstreams."""

    def __init__(self, router: Router, upstreams: Mapping[str, Responder]) -> None:
        self._router = router
        self._upstreams = upstreams

    async def respond(self, request: GenerationRequest, outcome: Outcome) -> Answer:
        """See Responder. Fills ``outcome`` as it learns, also when it raises."""
        deployment = self._router.resolve(request.model)
        outcome.model, outcome.upstream = deployment.model, deployment.upstream
        outcome.meter = meter = UsageMeter()
        answer = await self._upstreams[deployment.upstream].respond(_for(deployment, request))
        if answer.body is not None:
            meter.read(answer.body)
        elif answer.events is not None:
            answer.on_close(answer.events.aclose)
            answer.events = meter.passing(answer.events, visible=request.include_usage)
        answer.headers += [
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
