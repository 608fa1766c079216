"""The model that is down for a while."""

from faults.exchange import Exchange
from faults.outages import Mode
from faults.table import fault


@fault("down-for-60")
async def down_for_60(exchange: Exchange) -> None:
    """Down from its first call on, for 60 seconds or what ``x_down_s`` in the body says, or until told; healthy after.
    Down means RST, or 503 when ``x_down_mode`` is "503"."""
    if exchange.attempt.number > 1:
        await exchange.healthy()  # the outage is over, or this would not have been reached
        return
    mode: Mode = "503" if exchange.request.body.get("x_down_mode") == "503" else "reset"
    seconds = exchange.request.number("x_down_s", 60)
    exchange.outages.begin(exchange.request.model, seconds=seconds, mode=mode)
    await exchange.refuse(mode)
