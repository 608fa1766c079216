"""Whether prompts go where their beginning is known, as it is scraped."""

import pytest
from prometheus_client import CollectorRegistry
from scripted_upstreams import Place, Told, VirtualClock, request

from genkan.config import AffinityConfig
from genkan.gateway.affinity import Affinity
from genkan.telemetry.affinity_metrics import AffinityMetrics
from genkan.telemetry.tally import Tally

NOW_S = 1000.0


class Rig:
    def __init__(self) -> None:
        clock, told = VirtualClock(NOW_S), Told()
        self.registry, self.tally = CollectorRegistry(), Tally()
        self.places = {name: Place(name, clock, told) for name in "abc"}
        self.affinity = Affinity(AffinityConfig(), [place.deployment for place in self.places.values()])
        AffinityMetrics(self.tally, {"m": self.affinity}, self.registry)

    def order(self) -> str:
        return "".join(one.model for one in self.affinity.order(request(), "acme", NOW_S))

    def shown(self) -> dict[str, float | None]:
        self.tally.flush()
        name = "genkan_affinity_requests_total"
        return {
            outcome: self.registry.get_sample_value(name, {"model": "m", "outcome": outcome})
            for outcome in ("kept", "spilled", "left_alone")
        }


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_all_are_0_from_the_start(rig: Rig) -> None:
    assert rig.shown() == {"kept": 0, "spilled": 0, "left_alone": 0}


def test_each_request_is_one_of_three(rig: Rig) -> None:
    before = rig.order()
    assert rig.order() == before
    first = rig.places[before[0]]
    first.deployment.in_flight = 9
    assert rig.order()[0] == before[1]
    assert rig.shown() == {"kept": 2, "spilled": 1, "left_alone": 0}
    first.open_breaker(NOW_S)
    rig.order()
    assert rig.shown() == {"kept": 2, "spilled": 1, "left_alone": 1}
    assert rig.shown() == {"kept": 2, "spilled": 1, "left_alone": 1}, "what was written is not written again"


def test_where_all_are_full_the_first_is_kept(rig: Rig) -> None:
    affinity = Affinity(AffinityConfig(), [rig.places["a"].deployment])
    rig.places["a"].deployment.in_flight = 50
    affinity.order(request(), "acme", NOW_S)
    assert affinity.counts == (1, 0, 0)


def test_deployments_of_weight_0_have_no_first() -> None:
    affinity = Affinity(AffinityConfig(), [Place("z", VirtualClock(NOW_S), Told(), weight=0).deployment])
    assert len(affinity.order(request(), "acme", NOW_S)) == 1
    assert affinity.counts == (0, 0, 0)
