"""When answers that were stored are another's: of servers that genkan starts, where they are says nothing."""

from typing import Any

from served import served_config

from genkan.gateway.answering_identity import answering_identities
from genkan.model_servers.replicas import with_replicas


def identity(**serve: Any) -> bytes:
    config = served_config({"name": "v", "serve": {"model": "org/m", **serve}})
    return answering_identities(with_replicas(config))["of-v"]


def test_more_replicas_at_other_ports_give_the_same_answers() -> None:
    assert identity() == identity(port=9000) == identity(replicas=3)


def test_other_weights_give_others() -> None:
    assert len({identity(), identity(model="org/n"), identity(quantization="fp8"), identity(dtype="float16")}) == 4
