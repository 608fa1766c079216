"""A route with a canary, whose samples and copies are remembered, and a pipeline with it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from accounts_at_hand import AccountsAtHand
from scripted_upstreams import ScriptedUpstream, ServedBy, Told, router_to

from genkan.config import Config, DeploymentConfig, ModelConfig, RouteConfig
from genkan.gateway.arm import Arm, Sample
from genkan.gateway.canary.shadow import Shadows, ShadowSplit
from genkan.gateway.canary.split import ArmSplit
from genkan.gateway.chain import Chain, Split
from genkan.gateway.deployment import Deployment
from genkan.gateway.fallback import Fallback
from genkan.gateway.pipeline import Pipeline
from genkan.gateway.router import Router
from genkan.wire.chat import ChatRequest

WAIT_S = 10.0
CONFIG = Config.model_validate(
    {
        "upstreams": [{"name": name, "kind": "openai", "base_url": "http://h/v1"} for name in ("up-1", "up-2")],
        "models": [{"name": "old", "upstream": "up-1"}, {"name": "new", "upstream": "up-2"}],
        "routes": [{"alias": "nick", "chain": ["old"], "retry": {"max_retries": 0}, "canary": {"model": "new"}}],
    }
)


def ask(**fields: Any) -> ChatRequest:
    return ChatRequest.from_object({"model": "nick", "messages": [{"role": "user", "content": "Hi"}], **fields})


class Notes:
    """An Arm that remembers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.samples: list[Sample] = []

    def ended(self, sample: Sample) -> None:
        self.samples.append(sample)


@dataclass
class Trial:
    """What `Router` wants of an experiment: its share is what a test says, and the next draw too."""

    share: float = 0.5
    state: str = "running"
    point: float = 0.0
    most: int = 16
    is_shadow: bool = False
    dropped: int = 0
    control: Notes = field(default_factory=lambda: Notes("control"))
    canary: Notes = field(default_factory=lambda: Notes("canary"))
    unpaired: Notes = field(default_factory=lambda: Notes("control"))

    def __post_init__(self) -> None:
        self.shadows = Shadows("nick", self, most=self.most)

    def split(self, control: Chain, canary: Chain) -> Split:
        if self.is_shadow:
            return ShadowSplit(control, canary, self, self._draw, self.shadows, self.unpaired)
        return ArmSplit(control, canary, self, self._draw)

    def measured(self, route: str, arm: str, sample: Sample) -> None:
        raise AssertionError("arms tell this, and these arms do not")

    def shadow_dropped(self, route: str) -> None:
        assert route == "nick"
        self.dropped += 1

    async def copied(self) -> None:
        """Returns once no copy is under way."""
        while self.under_way:
            await asyncio.wait(self.shadows._tasks, timeout=WAIT_S)

    @property
    def under_way(self) -> int:
        return len(self.shadows._tasks)

    def _draw(self, request: object, caller: object) -> float:
        return self.point


class CanaryRig(AccountsAtHand):
    """Two upstreams, of which the second is the canary's."""

    def __init__(self, **trial: Any) -> None:
        super().__init__(CONFIG)
        self.trial = Trial(**trial)

    def to(self, first: ServedBy | ScriptedUpstream, second: ServedBy | ScriptedUpstream) -> Pipeline:
        """A pipeline to the control's upstream and the canary's; copies go through it too."""
        router = Router(CONFIG, _deploying(CONFIG, first, second), experiment=self._experiment)
        pipeline = Pipeline(router, Fallback(self.clock, Told(), self.clock.sleep), self.admissions)
        self.trial.shadows.start(pipeline)
        return pipeline

    def scripted(self, name: str, *turns: Any) -> ScriptedUpstream:
        return ScriptedUpstream(name, self.clock, *turns)

    def _experiment(self, route: RouteConfig) -> "_Sides":
        assert route.alias == "nick"
        return _Sides(self.trial.control, self.trial.canary, self.trial.split)


@dataclass
class _Sides:
    control: Arm
    canary: Arm
    split: Callable[[Chain, Chain], Split]


def _deploying(config: Config, *upstreams: Any) -> Callable[[ModelConfig, DeploymentConfig], Deployment]:
    made = {deployment.model: deployment for deployment in router_to(config, upstreams).deployments}
    return lambda model, place: made[model.name]
