"""The error of a stream that nobody could go on with."""

from genkan.errors import UpstreamError


class AnswerDiverged(UpstreamError):
    """The stream ended before the answer did, and whoever was asked for it again gave another answer."""

    status = 502
    code = "upstream_answer_diverged"

    def __init__(self, why: str, *, upstream: str) -> None:
        super().__init__(f"The model's answer broke off and cannot be gone on with: {why}.", upstream=upstream)
