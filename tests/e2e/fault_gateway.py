"""A gateway in front of two fault upstreams, and the configuration that gives every fault its routes."""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import httpx
import yaml
from e2e.live_server import LiveServer, wait_until
from faults.catalogue import FAULTS, STREAM_ONLY, WHOLE_ONLY
from faults.process import RunningUpstream, running_upstream
from prometheus_client.parser import text_string_to_metric_families

Face = Literal["stream", "whole"]
Chain = Literal["then-ok", "alone"]
CHAINS: Final[tuple[Chain, ...]] = ("then-ok", "alone")

#: The gateway's own key at every upstream. No client and no log may ever see it.
KEY = "sk-genkan-e2e-4f9c2d7b81a05e63"
BACKUP_MODEL = "ok"
#: Faults after which the whole upstream is left alone, and not only the model that showed them.
PARKING = frozenset({"quota", "insufficient-balance", "unauthorized", "forbidden", "unauthorized-gemini"})
#: Whose dead idle connections are forgiven, unless the server just fell over another request.
ON_REUSE = frozenset({"closes-on-reuse", "resets-on-reuse"})
#: Faults that get an upstream, and connections, of their own: what other cases met must change nothing for them.
SECLUDED = PARKING | ON_REUSE
#: Where somebody waits, for a limit or for the time to come back. Upstreams keep each case of them apart, so that many
#: can be asked at once.
WAITING = frozenset(
    {
        *("429-retry-after-seconds", "429-retry-after-date", "429-retry-after-skewed-date", "429-retry-after-garbage"),
        *("429-no-retry-after", "503-once-retry-after", "never-answers", "headers-then-silence", "role-then-silence"),
        *("pings-only", "pings-only-after-40", "stalled-after-40", "endless-tokens", "open-after-done"),
        *("slow-ok", "slow-drip", "one-byte-reads"),
    }
)
#: Which always fail, and count as failures of the upstream.
FAILING = ("503-for-ever", "500-for-ever", "reset-before-headers")
#: With routes for the tests of what an answer tells of its way.
TOLD = ("ok", "500-once", "500-for-ever", "502-html", "error-200", "html-200", "unauthorized")
TIMEOUTS = {"connect_s": 1.0, "first_token_s": 0.75, "between_tokens_s": 0.75, "total_s": 2.0}
PATIENT = {"connect_s": 1.0, "first_token_s": 10.0, "between_tokens_s": 10.0, "total_s": 10.0}
ROUTE_TOTAL_S = 5.0
RETRY = {"backoff_s": 0.02, "max_backoff_s": 0.05}
#: A breaker twenty times faster than the default one, for an outage of 3 s in place of 60 s.
OPEN_S = 1.5
PROBE_INTERVAL_S = 0.3
NARROW_LIMIT, NARROW_QUEUE = 2, 2
_NEVER = 10**9


@dataclass(frozen=True, slots=True)
class Case:
    """A route of its own for one fault: what other cases met changes nothing for it."""

    fault: str
    use: str  # "stream" and "whole" in the tests of single faults, anything else elsewhere
    chain: Chain

    @property
    def route(self) -> str:
        return f"{self.fault}.{self.use}.{self.chain}"

    @property
    def model(self) -> str:
        """Its name for the gateway's clients."""
        return f"{self.route}.model"

    @property
    def name_there(self) -> str:
        """Its name at the upstream."""
        return f"{self.fault}@{self.use}.{self.chain}" if self.fault in WAITING else self.fault

    @property
    def upstream(self) -> str:
        return f"{self.route}.upstream" if self.fault in SECLUDED else "primary"

    @property
    def deployment(self) -> str:
        return f"{self.model}@{self.upstream}"


def faces(fault: str) -> tuple[Face, ...]:
    """The ways of asking in which ``fault`` shows."""
    if fault in STREAM_ONLY:
        return ("stream",)
    return ("whole",) if fault in WHOLE_ONLY else ("stream", "whole")


def cases(chain: Chain) -> list[Case]:
    """Every fault in every way in which it shows."""
    return [Case(fault, face, chain) for fault in FAULTS for face in faces(fault)]


class FaultGateway:
    """A ready gateway, its two upstreams, and what it counts."""

    def __init__(self, server: LiveServer, primary: RunningUpstream, backup: RunningUpstream) -> None:
        self.server = server
        self.primary = primary
        self.backup = backup
        self._http = httpx.Client(base_url=server.base_url, timeout=10, trust_env=False)

    def close(self) -> None:
        self._http.close()

    @property
    def base_url(self) -> str:
        return self.server.base_url

    def forget(self) -> None:
        """Both upstreams are as they were at first."""
        self.primary.reset()
        self.backup.reset()

    def attempts(self, case: Case) -> list[dict[str, Any]]:
        """What the upstream saw of ``case``."""
        return self.primary.attempts(case.name_there)

    def wait_idle(self, limit_s: float = 3.0) -> None:
        """Until neither upstream is busy with anything that it was asked."""
        wait_until(lambda: not self._running(), limit_s, "no attempt is under way")

    def _running(self) -> bool:
        ledgers = [*self.primary.attempts(), *self.backup.attempts()]
        return any(attempt["outcome"] == "running" for attempt in ledgers)

    def metrics(self) -> "Metrics":
        """What the gateway counts now."""
        return Metrics(self._http.get("/metrics").raise_for_status().text)


@dataclass(slots=True)
class Metrics:
    """One reading of ``/metrics``."""

    text: str = field(repr=False)

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples called ``genkan_<name>`` that have these labels."""
        # There are thousands of lines, and parsing them all takes half a second.
        lines = "".join(line for line in self.text.splitlines(keepends=True) if line.startswith(f"genkan_{name}{{"))
        samples = (sample for family in text_string_to_metric_families(lines) for sample in family.samples)
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


@contextmanager
def running_fault_gateway(folder: Path) -> Generator[FaultGateway, None, None]:
    """All of it, ready; its configuration lies in ``folder``.

    Ends it cleanly, or fails: also when the gateway's log holds a traceback or the key.
    """
    with running_upstream() as primary, running_upstream() as backup:
        configuration = folder / "faults.yaml"
        configuration.write_text(yaml.safe_dump(_configuration(primary.base_url, backup.base_url)))
        server = LiveServer(env={"FAULT_KEY": KEY, "GENKAN_CONFIG": str(configuration)})
        try:
            server.start()
            server.wait_ready()
            with closing(FaultGateway(server, primary, backup)) as gateway:
                yield gateway
            server.stop()
            assert KEY not in server.log
        finally:
            server.destroy()


def _configuration(primary: str, backup: str) -> dict[str, Any]:
    every = [*cases("then-ok"), *cases("alone"), *mixed_cases(), *_told_cases()]
    return {
        "upstreams": [*_upstreams(primary, backup), *_secluded_upstreams(primary, every)],
        "models": [*_models(), *(_model(case.model, case.upstream, case.name_there) for case in every)],
        "routes": [*_routes(), *(_route(case.route, *_chain(case)) for case in every)],
    }


def mixed_cases() -> list[Case]:
    """Routes for random traffic, which may meet each fault again and again."""
    return [Case(fault, "mix", chain) for fault in FAULTS for chain in CHAINS]


def _told_cases() -> list[Case]:
    return [Case(fault, "told", chain) for fault in TOLD for chain in CHAINS]


def _chain(case: Case) -> list[str]:
    return [case.model, BACKUP_MODEL] if case.chain == "then-ok" else [case.model]


def _upstreams(primary: str, backup: str) -> Iterator[dict[str, Any]]:
    scaled = {"open_s": OPEN_S}
    never = {"consecutive_failures": _NEVER, "alone_failures": _NEVER, "min_attempts": _NEVER}
    yield _upstream("primary", primary)
    yield _upstream("backup", backup)
    yield _upstream("outage", primary, breaker=scaled)
    yield _upstream("outage-probed", primary, breaker=scaled, health={"interval_s": PROBE_INTERVAL_S})
    for fault in FAILING:  # each with connections of its own: none is left over from a milder fault
        yield _upstream(f"{fault}.primary", primary)
        yield _upstream(f"{fault}.backup", backup)
        yield _upstream(f"{fault}.stubborn-primary", primary, breaker=never)
        yield _upstream(f"{fault}.stubborn-backup", backup, breaker=never)
    connections = {"limit": NARROW_LIMIT, "queue": NARROW_QUEUE}
    yield _upstream("narrow", primary, connections=connections, timeouts=PATIENT)


def _secluded_upstreams(primary: str, every: list[Case]) -> Iterator[dict[str, Any]]:
    return (_upstream(case.upstream, primary) for case in every if case.fault in SECLUDED)


def _upstream(name: str, base_url: str, **settings: Any) -> dict[str, Any]:
    own = {"timeouts": TIMEOUTS, "health": {"interval_s": 0.0}, "headers": {"x-tenant": name}, **settings}
    return {"name": name, "kind": "openai", "base_url": base_url, "api_key_env": "FAULT_KEY", **own}


def _models() -> Iterator[dict[str, Any]]:
    yield _model(BACKUP_MODEL, "backup", "ok")
    for upstream in ("outage", "outage-probed"):
        yield _model(upstream, upstream, "ok")
    yield _model("slow", "narrow", "slow-ok")
    for fault in FAILING:
        for place in ("primary", "backup", "stubborn-primary", "stubborn-backup"):
            yield _model(f"{fault}.{place}", f"{fault}.{place}", fault)
    yield _model("small-window", "primary", "context-too-long", context_tokens=8192)
    yield _model("same-window", "backup", "ok", context_tokens=8192)
    yield _model("large-window", "backup", "ok", context_tokens=16384)
    yield _model("filtered", "primary", "content-filter")
    yield _model("filtered-finish", "primary", "content-filter-finish")
    yield _model("no-prefill", "backup", "rejects-prefill")
    yield _model("broken", "primary", "500-for-ever")


def _model(name: str, upstream: str, name_there: str, **settings: Any) -> dict[str, Any]:
    return {"name": name, "deployments": [{"upstream": upstream, "model": name_there}], **settings}


def _routes() -> Iterator[dict[str, Any]]:
    for upstream in ("outage", "outage-probed"):
        yield _route(f"{upstream}-then-ok", upstream, BACKUP_MODEL)
    for fault in FAILING:
        yield _route(f"{fault}.all", f"{fault}.primary", f"{fault}.backup")
        yield _route(f"{fault}.all-stubborn", f"{fault}.stubborn-primary", f"{fault}.stubborn-backup")
    yield _route("slow-then-ok", "slow", BACKUP_MODEL)
    yield _route("windows", "small-window", "same-window", "large-window")
    yield _route("windows-too-small", "small-window", "same-window")
    everything = ["error", "context_too_long", "content_filter"]
    for filtered in ("filtered", "filtered-finish"):
        yield _route(f"{filtered}-then-ok", filtered, BACKUP_MODEL, fallback_on=everything)
    yield _route("then-no-prefill", "broken", "no-prefill")


def _route(alias: str, *chain: str, **settings: Any) -> dict[str, Any]:
    return {"alias": alias, "chain": list(chain), "total_s": ROUTE_TOTAL_S, "retry": RETRY, **settings}
