"""Upstreams of several replicas, taken apart, and the servers that are to run."""

from typing import Any

import pytest
from served import served_config

from genkan.errors import ConfigError
from genkan.gateway.prices import PriceBook
from genkan.model_servers.replicas import servers, with_replicas

TWO: dict[str, Any] = {"name": "v", "serve": {"model": "org/m", "replicas": 2, "tensor_parallel": 2}}
ONE: dict[str, Any] = {"name": "w", "serve": {"model": "org/n", "port": 9000}}
ELSEWHERE: dict[str, Any] = {"name": "x", "base_url": "http://h:8000/v1"}


def test_a_configuration_without_replicas_is_left_as_it_is() -> None:
    config = served_config(ONE, ELSEWHERE)
    assert with_replicas(config) is config


def test_each_replica_is_an_upstream_and_a_deployment_of_its_own() -> None:
    config = with_replicas(served_config(TWO, ELSEWHERE))
    assert [(u.name, u.base_url) for u in config.openai_upstreams] == [
        ("v-0", "http://127.0.0.1:8000/v1"),
        ("v-1", "http://127.0.0.1:8001/v1"),
        ("x", "http://h:8000/v1"),
    ]
    assert [[place.upstream for place in model.places] for model in config.models] == [["v-0", "v-1"], ["x"]]


def test_weight_limits_and_name_there_are_those_of_each_replica() -> None:
    place = {"upstream": "v", "model": "there", "weight": 3, "limits": {"concurrent": 5}}
    config = with_replicas(served_config(TWO, models=[{"name": "m", "deployments": [place]}]))
    [model] = config.models
    assert [(p.upstream, p.model, p.weight, p.limits.concurrent) for p in model.places] == [
        ("v-0", "there", 3, 5),
        ("v-1", "there", 3, 5),
    ]


def test_a_price_at_the_upstream_is_one_at_each_replica() -> None:
    prices = {"models": [{"model": "of-v", "upstream": "v", "input": 1.0, "output": 2.0}]}
    book = PriceBook(with_replicas(served_config(TWO, prices=prices)).prices)
    assert book.price("of-v", upstream="v-0") is not None
    assert book.price("of-v", upstream="v-1") is not None
    assert book.price("of-v") is None


def test_embeddings_are_asked_of_the_first_replica() -> None:
    config = served_config(TWO, embedder={"name": "e", "model": "upstream:v/there"})
    assert servers(config)[0].names == ("of-v", "there")
    embedder = with_replicas(config).embedder
    assert embedder is not None
    assert embedder.model == "upstream:v-0/there"


def test_a_replicas_name_must_be_free() -> None:
    with pytest.raises(ConfigError, match="'v-1' is taken"):
        with_replicas(served_config(TWO, {"name": "v-1", "base_url": "http://h/v1"}))


def test_the_servers_have_ports_and_gpus_one_after_the_other() -> None:
    found = servers(served_config(TWO, ELSEWHERE, ONE))
    assert [(s.name, s.port, s.first_gpu, s.names) for s in found] == [
        ("v-0", 8000, 0, ("of-v",)),
        ("v-1", 8001, 2, ("of-v",)),
        ("w", 9000, 4, ("of-w",)),
    ]


def test_with_gpus_of_its_own_an_upstream_counts_from_their_first() -> None:
    own = {"name": "w", "serve": {"model": "org/n", "port": 9000, "gpus": [6, 7], "tensor_parallel": 2}}
    assert [s.first_gpu for s in servers(served_config(TWO, own))] == [0, 2, 0]


def test_two_cannot_have_one_port() -> None:
    with pytest.raises(ConfigError, match="port 8001 is of 'v-1' and of 'w'"):
        servers(served_config(TWO, {"name": "w", "serve": {"model": "n", "port": 8001}}))


def test_a_server_that_nobody_asks_anything_is_refused() -> None:
    with pytest.raises(ConfigError, match="must name the upstream 'w'"):
        servers(served_config(TWO, ONE, models=[{"name": "m", "upstream": "v"}]))
