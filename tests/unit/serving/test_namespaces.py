"""Who may find whose prompts: what namespaces have in common, and what not."""

import itertools

import pytest

from genkan.serving.namespaces import Namespaces

TENANTS = ("a", "ab", "local", "", "người", "\ud800")


@pytest.fixture
def namespaces() -> Namespaces:
    return Namespaces(TENANTS)


def test_a_tenant_and_its_salt_always_have_the_same_namespace(namespaces: Namespaces) -> None:
    assert namespaces.of("a", "s") == namespaces.of("a", "s")
    assert namespaces.of("a", None) == namespaces.of("a", None)
    assert len(namespaces.of("a", "s")) == 32


def test_no_two_tenants_and_salts_share_one(namespaces: Namespaces) -> None:
    # As text put together, many of these pairs are the same.
    pairs = list(itertools.product(TENANTS, (None, "b", "bc", "c", "a", "local", "\0", "người", "\ud801")))
    assert len({namespaces.of(tenant, salt) for tenant, salt in pairs}) == len(pairs)


def test_where_a_name_ends_and_a_salt_begins_matters(namespaces: Namespaces) -> None:
    assert namespaces.of("a", "bc") != namespaces.of("ab", "c")
    assert namespaces.of("a", "bc")[16:] != namespaces.of("ab", "c")[16:]


def test_equal_salts_of_two_tenants_cannot_be_told_to_be_equal(namespaces: Namespaces) -> None:
    assert namespaces.of("a", "s")[16:] != namespaces.of("ab", "s")[16:]


def test_all_namespaces_of_a_tenant_begin_alike_and_no_others(namespaces: Namespaces) -> None:
    prefix = namespaces.prefix_of("a")
    assert len(prefix) == 16
    assert all(namespaces.of("a", salt).startswith(prefix) for salt in (None, "b", "local"))
    assert not any(namespaces.of(tenant, "a").startswith(prefix) for tenant in TENANTS[1:])


@pytest.mark.parametrize("tenant", TENANTS)
@pytest.mark.parametrize("salt", [None, "s"])
def test_a_namespace_leads_back_to_its_tenant(namespaces: Namespaces, tenant: str, salt: str | None) -> None:
    assert namespaces.tenant_of(namespaces.of(tenant, salt)) == tenant


def test_a_tenant_is_known_from_its_first_request_on(namespaces: Namespaces) -> None:
    assert namespaces.tenant_of(namespaces.prefix_of("someone")) is None
    namespace = namespaces.of("someone", "s")
    assert namespaces.tenant_of(namespace) == namespaces.tenant_of(namespaces.prefix_of("someone")) == "someone"


def test_a_tenant_that_is_not_known_cannot_be_named(namespaces: Namespaces) -> None:
    assert namespaces.tenant_of(bytes(32)) is None
    assert namespaces.tenant_of(b"") is None


def test_of_very_many_tenants_the_first_are_forgotten() -> None:
    namespaces = Namespaces(("first",))
    made = [namespaces.of(f"t-{number}", None) for number in range(4096)]
    assert namespaces.tenant_of(namespaces.prefix_of("first")) is None
    assert [namespaces.tenant_of(made[0]), namespaces.tenant_of(made[-1])] == ["t-0", "t-4095"]
    assert len(namespaces._names) == 4096


def test_every_process_has_namespaces_of_its_own(namespaces: Namespaces) -> None:
    other = Namespaces(TENANTS)
    assert other.of("a", None) != namespaces.of("a", None)
    assert other.tenant_of(namespaces.of("a", None)) is None
