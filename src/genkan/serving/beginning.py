"""What an answer begins with that goes on from a text: see `wire/continuing.py`."""

from collections.abc import Set as AbstractSet
from typing import NamedTuple

from genkan.engine.client import Capability
from genkan.errors import UnsupportedOption
from genkan.wire.chat import GenerationRequest
from genkan.wire.continuing import CONTINUE_TEXT


class Beginning(NamedTuple):
    """A text, and how many tokens that is."""

    text: str
    num_tokens: int


def check_rules(request: GenerationRequest, capabilities: AbstractSet[Capability], *, has_form: bool) -> None:
    """Raises UnsupportedOption where the answer's rules depend on its beginning, and the engine does not see that."""
    sampling = request.sampling
    if Capability.CONTINUED_RULES in capabilities:
        return
    if has_form or sampling.presence_penalty or sampling.frequency_penalty:
        raise UnsupportedOption(CONTINUE_TEXT, "its engine cannot go on with a form or with penalties")
