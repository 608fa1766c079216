"""Gateways restarted one after the other under load; `make soak-rolling` does it ten times."""

import uvloop

from genkan.bench.rolling import is_lossless, result_of, run, shared_redis

RESTARTS, RATE = 2, 20.0
LEAST_S = 4.0  # of load: two restarts take longer on any machine


def test_no_request_is_lost_and_each_is_billed_once_while_both_gateways_are_restarted() -> None:
    with shared_redis() as url:
        counts, balancer, rows = uvloop.run(run(url, RESTARTS, RATE, ends_with_stop=True))
    result = result_of(counts, balancer.refused, rows)
    assert is_lossless(result), (result, counts.failures)
    assert result["restarts"] == RESTARTS
    assert result["rows"] == result["requests"] > RATE * LEAST_S
