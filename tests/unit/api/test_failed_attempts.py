"""Wrong keys, counted by where they come from."""

import sys

from scripted_upstreams import VirtualClock

from genkan.api.failed_attempts import FailedAttempts


def test_twenty_at_once_and_then_one_every_three_seconds() -> None:
    clock = VirtualClock()
    failures = FailedAttempts(clock)
    assert [failures.add("192.0.2.1") for _ in range(21)] == [0.0] * 20 + [3.0]
    clock.now_s += 1
    assert failures.add("192.0.2.1") == 2.0
    clock.now_s += 2
    assert [failures.add("192.0.2.1") for _ in range(2)] == [0.0, 3.0]


def test_after_a_minute_all_is_forgiven() -> None:
    clock = VirtualClock()
    failures = FailedAttempts(clock)
    for _ in range(50):
        failures.add("192.0.2.1")
    clock.now_s += 60
    assert [failures.add("192.0.2.1") for _ in range(21)] == [0.0] * 20 + [3.0]


def test_addresses_of_one_ipv6_network_are_one_and_ipv4_addresses_are_not() -> None:
    failures = FailedAttempts(VirtualClock())
    for n in range(20):
        assert failures.add(f"2001:db8::{n:x}") == 0
        assert failures.add(f"192.0.2.{n}") == 0
        assert failures.add(f"::ffff:198.51.100.{n}") == 0
    assert failures.add("2001:db8::ffff:1:2:3") > 0
    assert failures.add("2001:db8:0:1::1") == 0
    assert failures.add("192.0.2.77") == 0
    assert failures.add("::ffff:198.51.100.77") == 0


def test_all_who_come_from_no_address_are_one() -> None:
    failures = FailedAttempts(VirtualClock())
    for n in range(10):
        assert failures.add(f"nowhere-{n}") == 0
        assert failures.add(f"2001:db8::{n}%{'x' * 60_000}") == 0
    assert failures.add("") > 0
    assert list(failures._states) == ["unknown"]
    assert failures.add("192.0.2.1") == 0


def test_an_ipv4_address_in_an_ipv6_one_is_the_same_whatever_its_interface() -> None:
    failures = FailedAttempts(VirtualClock())
    for peer in ("198.51.100.7", "::ffff:198.51.100.7", "::ffff:198.51.100.7%eth0"):
        failures.add(peer)
    assert list(failures._states) == ["198.51.100.7"]


def test_many_addresses_leave_little_behind() -> None:
    failures = FailedAttempts(VirtualClock())
    for n in range(20_000):
        failures.add(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
    states = failures._states
    assert len(states) == 4096
    assert sys.getsizeof(states) < 1 << 20
