"""The configuration of how a route's requests are steered: canaries, hedges, streams that go on elsewhere, windows."""

from typing import Literal

from pydantic import Field

from genkan.config.base import Name, Section

TruncateMode = Literal["off", "oldest"]
Assignment = Literal["random", "key", "tenant", "user"]


class ResumeConfig(Section):
    """What becomes of a stream whose upstream fails after its first token."""

    enabled: bool = Field(
        default=True,
        description="Go on with the answer at another deployment of the same model, of one in its `resume_group`, or "
        "at the same deployment once more; else the stream ends with an error.",
    )
    other_models: bool = Field(
        default=False, description="Go on with any other model of the chain as well; the stream's usage says so."
    )
    attempts: int = Field(default=2, ge=1, le=8, description="For one answer.")
    max_bytes: int = Field(
        default=256 << 10, ge=1024, le=4 << 20, description="An answer that has said more is not gone on with."
    )


class GuardsConfig(Section):
    """How much worse than the control a canary may be. One that is left out is not looked at."""

    error_rate: float | None = Field(
        default=0.005, ge=0, le=1, allow_inf_nan=False, description="So much more of its requests may fail: 0.005 is "
        "half a percentage point."
    )  # fmt: skip
    latency_ratio: float | None = Field(
        default=1.1, ge=1, le=100, allow_inf_nan=False, description="Times the control's time for whole answers, and"
    )
    ttft_ratio: float | None = Field(
        default=1.1, ge=1, le=100, allow_inf_nan=False, description="to the first token of streams;"
    )
    cost_ratio: float | None = Field(
        default=None, ge=1, le=100, allow_inf_nan=False, description="its cost of a request;"
    )
    tokens_ratio: float | None = Field(
        default=None, ge=1, le=100, allow_inf_nan=False, description="the tokens of its answers."
    )


class CanaryConfig(Section):
    """Another model for some of a route's requests, until it has shown that it is no worse, or that it is."""

    model: Name = Field(description="The model that is tried in the place of the chain's first.")
    percent: float = Field(
        default=10.0, gt=0, le=100, allow_inf_nan=False, description="Of the requests, so many get it."
    )
    assign: Assignment = Field(
        default="random",
        description="Each request by chance; or the same arm for all requests of a `key`, a `tenant`, or a `user` as "
        "the body names it, by hash.",
    )
    mode: Literal["split", "shadow"] = Field(
        default="split",
        description="`shadow`: the control answers everybody, and the canary is asked the same behind, at our cost.",
    )
    guards: GuardsConfig = GuardsConfig()
    error_probability: float = Field(
        default=0.05, gt=0, lt=0.5, allow_inf_nan=False,
        description="How probable a rollback of a canary that keeps its guards may be, however often one looks; and "
        "so a promotion of one that does not.",
    )  # fmt: skip
    min_requests: int = Field(default=200, ge=10, le=10_000_000, description="To the canary, before it is decided.")
    on_decision: Literal["act", "report"] = Field(
        default="act", description="`act`: promote it to all requests, or roll it back to none; `report`: only say so."
    )
    max_shadows: int = Field(
        default=16, ge=1, le=10_000, description="Copies under way at once, of each worker; others are not made."
    )


class HedgeConfig(Section):
    """A second attempt at a stream whose first token takes long; who is first answers, the other is cancelled."""

    quantile: float = Field(
        default=0.9, gt=0, lt=1, allow_inf_nan=False, description="After this quantile of recent first-token times,"
    )
    min_samples: int = Field(default=50, ge=10, le=1000, description="of at least so many.")
    budget_ratio: float = Field(
        default=0.06, gt=0, le=1, allow_inf_nan=False, description="In any minute: so large a share of"
    )
    budget_min: int = Field(default=1, ge=0, le=1000, description="the requests, or this number if it is larger.")


class AffinityConfig(Section):
    """Prompts that begin alike go to the same deployment, whose prefix cache knows their beginning."""

    by: Literal["chat", "system"] = Field(
        default="chat",
        description="What decides: all up to the first user's message, that is the chat; or only what stands before "
        "it, where most chats are of one turn.",
    )
    prefix_bytes: int = Field(
        default=2048, ge=64, le=1 << 20, description="So much of what stands before that message counts, in bytes, and "
        "so much of the message."
    )  # fmt: skip
    load_factor: float = Field(
        default=1.25, gt=1, le=10, allow_inf_nan=False,
        description="A deployment with more than so many times its share of the requests in flight, and that share's "
        "square root besides, is passed over.",
    )  # fmt: skip
