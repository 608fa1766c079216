"""The configuration of a server's end: `server.drain`."""

from pydantic import Field

from genkan.config.base import Section


class DrainConfig(Section):
    """How a server stops serving."""

    notice_s: float = Field(
        default=5.0,
        ge=0,
        le=600,
        allow_inf_nan=False,
        description="How long `genkan drain --wait` waits at the least: balancers have seen `/readyz` by then, and "
        "idle connections have ended.",
    )
    wait_s: float = Field(
        default=60.0,
        ge=0,
        le=86_400,
        allow_inf_nan=False,
        description="How long it waits at the most for requests that are under way.",
    )
    linger_s: float = Field(
        default=0.0,
        ge=0,
        le=600,
        allow_inf_nan=False,
        description="How long new requests are still served after SIGTERM, while `/readyz` is 503; time spent drained "
        "counts. For who has nothing that drains first.",
    )
    grace_s: float = Field(
        default=60.0,
        gt=0,
        le=86_400,
        allow_inf_nan=False,
        description="How long requests under way may then take. What is left ends with an error, a stream with an "
        "error event, and is billed.",
    )
