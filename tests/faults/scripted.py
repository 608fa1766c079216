"""The model that shows whatever fault it is told to."""

from faults.exchange import Exchange
from faults.table import fault, table


@fault("as-told", harmless=True)
async def as_told(exchange: Exchange) -> None:
    """At the n-th attempt of a request, which ends its ``x-client-request-id``, the fault that comes n-th in
    ``x_script`` in the body; healthy after the last of them."""
    script = exchange.request.body.get("x_script", [])
    nth = int(exchange.request.headers.get("x-client-request-id", "").rpartition(".")[2] or 1)
    name = script[nth - 1] if nth <= len(script) else "ok"
    await table()[name].serve(exchange)
