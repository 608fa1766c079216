"""What a batcher raises on its own account; the rest of the tree is drawn in `genkan/errors.py`."""

from genkan.errors import RequestError


class BatcherFull(RequestError):
    """As many items wait to be in a batch as may, or the call alone brings more."""

    status = 503
    type = "service_unavailable_error"
    code = "server_is_overloaded"
    retry_after_s = 1.0

    def __init__(self, *, limit: int, waiting: int, more: int) -> None:
        super().__init__(f"At most {limit} items may wait to be in a batch; {waiting} do, and {more} more came.")
        self.limit = limit


class BatcherStopped(RequestError):
    """The batcher takes nothing: it has not been started, or it has been stopped."""

    status = 503
    type = "service_unavailable_error"
    code = "server_shutting_down"
    retry_after_s = 5.0

    def __init__(self) -> None:
        super().__init__("The batcher is not running.")
