"""Who may go on with an answer that another began, and in which order. Pure.

First those who serve the same model, then those whose models stand in the same group, and then, where a route has it
so, any other of its chain; within each in the order of the chain. Of those that have failed this request already, only
the ones that may do better at once are asked again, after all others, who failed last at the end.
"""

from collections.abc import Iterator, Mapping, Sequence

from genkan.gateway.deployment import Deployment
from genkan.gateway.rules import Verdict


def kinship(began: Deployment, other: Deployment) -> int:
    """0 for the same model, 1 for one of the same group, 2 for any other."""
    if other.model == began.model:
        return 0
    return 1 if other.resume_group and other.resume_group == began.resume_group else 2


def candidates(
    order: Sequence[Deployment], began: Deployment, failed: Mapping[str, Verdict], *, other_models: bool
) -> Iterator[tuple[Deployment, bool]]:
    """Each with whether it is asked again. ``failed`` are this request's, by name, who failed last at the end."""
    farthest = 2 if other_models else 1
    kin = sorted((one for one in order if kinship(began, one) <= farthest), key=lambda one: kinship(began, one))
    for one in kin:
        if one.name not in failed:
            yield one, False
    by_name = {one.name: one for one in kin}
    for name, meaning in failed.items():
        if meaning.again and name in by_name:
            yield by_name[name], True
