"""Write configs/grafana/dashboard.json: rows of panels, each one or more queries. Run by `make dashboard`.

Names of metrics are checked against the code's own by tests/unit/deploy/test_grafana.py.
"""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent.parent
PATH = HERE / "configs" / "grafana" / "dashboard.json"
_WIDTH, _HEIGHT, _COLUMNS = 8, 8, 3
_RATE = "$__rate_interval"


class Panel(NamedTuple):
    """A time series; ``queries`` are pairs of a legend and PromQL."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    help: str = ""


def rate(metric: str, by: str = "", where: str = "") -> str:
    """Per second, summed over instances."""
    labels = f'{{job=~"$job"{"," + where if where else ""}}}'
    total = f"rate({metric}{labels}[{_RATE}])"
    return f"sum by ({by}) ({total})" if by else f"sum({total})"


def share(status: str) -> str:
    """Of all answers, those whose status matches."""
    some = rate("genkan_requests_total", where=f'status=~"{status}"')
    return f"({some} or vector(0)) / {rate('genkan_requests_total')}"


def quantiles(histogram: str, by: str = "") -> tuple[tuple[str, str], ...]:
    """p50, p95 and p99."""
    buckets = rate(f"{histogram}_bucket", f"le, {by}" if by else "le")
    legend = f" {{{{{by}}}}}" if by else ""
    return tuple((f"p{100 * q:g}{legend}", f"histogram_quantile({q}, {buckets})") for q in (0.5, 0.95, 0.99))


def now(metric: str, by: str = "", how: str = "sum") -> str:
    """A gauge, over instances."""
    value = f'{metric}{{job=~"$job"}}'
    return f"{how} by ({by}) ({value})" if by else f"{how}({value})"


ROWS: dict[str, tuple[Panel, ...]] = {
    "Requests": (
        Panel("Answers by status", "reqps", (("{{status}}", rate("genkan_requests_total", "status")),)),
        Panel(
            "Failed share",
            "percentunit",
            (("5xx", share("5..")), ("429", share("429"))),
        ),
        Panel("In flight", "short", (("{{path}}", now("genkan_requests_in_flight", "path")),)),
        Panel("Whole answers", "s", quantiles("genkan_request_seconds")),
        Panel("First token, as clients see it", "s", quantiles("gen_ai_server_time_to_first_token_seconds")),
        Panel(
            "A token after the first, as clients see it", "s", quantiles("gen_ai_server_time_per_output_token_seconds")
        ),
        Panel("Errors by code", "reqps", (("{{code}}", rate("genkan_errors_total", "code")),)),
        Panel(
            "Refused by limits and budgets",
            "reqps",
            (("{{scope}} {{unit}}", rate("genkan_denied_total", "scope, unit")),),
        ),
        Panel(
            "Refused by overloaded workers",
            "reqps",
            (("{{path}}", rate("genkan_shed_total", "path")),),
        ),
    ),
    "Upstreams": (
        Panel(
            "Attempts", "reqps", (("{{deployment}} {{outcome}}", rate("genkan_attempts_total", "deployment, outcome")),)
        ),
        Panel(
            "Attempt p95",
            "s",
            (
                (
                    "{{deployment}}",
                    f"histogram_quantile(0.95, {rate('genkan_attempt_seconds_bucket', 'le, deployment')})",
                ),
            ),
        ),
        Panel("First token of upstreams", "s", quantiles("genkan_upstream_ttft_seconds")),
        Panel(
            "Circuits",
            "short",
            (("{{deployment}}", now("genkan_breaker_state", "deployment", "max")),),
            "0 closed, 1 half open, 2 open",
        ),
        Panel(
            "Retries and fallbacks",
            "reqps",
            (
                ("retry {{deployment}}", rate("genkan_retries_total", "deployment")),
                ("fallback {{route}} {{reason}}", rate("genkan_fallbacks_total", "route, reason")),
            ),
        ),
        Panel(
            "Resumed and hedged streams",
            "reqps",
            (
                ("resume {{way}} {{outcome}}", rate("genkan_resumes_total", "way, outcome")),
                ("hedge {{outcome}}", rate("genkan_hedges_total", "outcome")),
            ),
        ),
        Panel(
            "Busy connections and waiting requests",
            "short",
            (
                ("busy {{upstream}}", now("genkan_upstream_busy_connections", "upstream")),
                ("waiting {{upstream}}", now("genkan_upstream_waiting_requests", "upstream")),
            ),
        ),
        Panel(
            "Affinity",
            "reqps",
            (("{{model}} {{outcome}}", rate("genkan_affinity_requests_total", "model, outcome")),),
            "Whether the deployment that knows how a prompt begins is asked first",
        ),
        Panel(
            "Model servers of ours",
            "short",
            (("{{upstream}}", now("genkan_model_server_up", "upstream")),),
            "1 for each instance on which it is well",
        ),
    ),
    "Cost and stored answers": (
        Panel(
            "Dollars an hour",
            "currencyUSD",
            (("{{deployment}}", f"3600 * {rate('genkan_cost_usd_total', 'deployment')}"),),
        ),
        Panel(
            "Tokens",
            "short",
            (("{{deployment}} {{kind}}", rate("genkan_tokens_total", "deployment, kind")),),
            "a second",
        ),
        Panel(
            "Saved dollars an hour",
            "currencyUSD",
            (
                ("upstreams' caches", f"3600 * {rate('genkan_saved_usd_total')}"),
                ("stored answers", f"3600 * {rate('genkan_spared_usd_total')}"),
            ),
        ),
        Panel("Cache", "reqps", (("{{result}}", rate("genkan_cache_lookups_total", "result")),)),
        Panel(
            "Ledger",
            "reqps",
            (
                ("settled {{outcome}}", rate("genkan_ledger_settled_total", "outcome")),
                ("lost", rate("genkan_ledger_lost_total")),
            ),
        ),
        Panel("Settlements that wait", "short", (("waiting", now("genkan_ledger_queue")),)),
    ),
    "Engine": (
        Panel(
            "Sequences",
            "short",
            (
                ("running {{model}}", now("genkan_engine_running_sequences", "model")),
                ("waiting {{model}}", now("genkan_engine_waiting_sequences", "model")),
            ),
        ),
        Panel(
            "Tokens",
            "short",
            (
                ("generated {{model}}", rate("genkan_engine_generated_tokens_total", "model")),
                ("prompt {{model}}", rate("genkan_engine_prompt_tokens_total", "model")),
                ("of these cached {{model}}", rate("genkan_engine_cached_tokens_total", "model")),
            ),
            "a second",
        ),
        Panel("KV blocks in use", "percentunit", (("{{model}}", now("genkan_engine_kv_use_ratio", "model", "max")),)),
        Panel("TTFT", "s", quantiles("genkan_engine_ttft_seconds")),
        Panel("ITL", "s", quantiles("genkan_engine_itl_seconds")),
        Panel(
            "Preemptions, evictions, failed steps",
            "ops",
            (
                ("preempted {{model}}", rate("genkan_engine_preemptions_total", "model")),
                ("evicted {{model}}", rate("genkan_engine_prefix_evictions_total", "model")),
                ("failed {{model}}", rate("genkan_engine_failed_steps_total", "model")),
            ),
        ),
        Panel(
            "Grammars",
            "reqps",
            (("{{model}} {{result}}", rate("genkan_engine_grammars_total", "model, result")),),
        ),
    ),
    "Embedder": (
        Panel(
            "Texts",
            "short",
            (
                ("texts", rate("genkan_embedder_batch_texts_sum")),
                ("batches", rate("genkan_embedder_batch_texts_count")),
                ("refused requests", rate("genkan_embedder_refused_total")),
            ),
            "a second",
        ),
        Panel("A batch", "s", quantiles("genkan_embedder_batch_seconds")),
        Panel(
            "Requests that wait or are computed", "short", (("{{instance}}", now("genkan_embedder_queue", "instance")),)
        ),
    ),
    "Canaries and processes": (
        Panel(
            "Canaries",
            "short",
            (("{{route}}", now("genkan_canary_state", "route", "max")),),
            "0 running, 1 found no worse, 2 found worse, 3 promoted, 4 rolled back",
        ),
        Panel(
            "Canary p95",
            "s",
            (
                (
                    "{{route}} {{arm}}",
                    f"histogram_quantile(0.95, {rate('genkan_canary_seconds_bucket', 'le, route, arm')})",
                ),
            ),
        ),
        Panel("Event loop lag", "s", quantiles("genkan_loop_lag_seconds")),
        Panel("Draining", "short", (("{{instance}}", now("genkan_draining", "instance", "max")),), "1 while it drains"),
        Panel(
            "Lines and spans lost",
            "ops",
            (
                ("log lines", rate("genkan_log_lines_dropped_total")),
                ("spans", rate("genkan_trace_spans_total", where='outcome="lost"')),
            ),
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """The whole of it, as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        panels.append({"type": "row", "title": title, "id": len(panels) + 1, "collapsed": False, "panels": [],
                       "gridPos": {"x": 0, "y": y, "w": _WIDTH * _COLUMNS, "h": 1}})  # fmt: skip
        for place, panel in enumerate(row):
            at = {"x": _WIDTH * (place % _COLUMNS), "y": y + 1 + _HEIGHT * (place // _COLUMNS)}
            panels.append(_panel(panel, len(panels) + 1, at))
        y += 1 + _HEIGHT * -(-len(row) // _COLUMNS)
    return {
        "title": "genkan",
        "uid": "genkan",
        "tags": ["genkan"],
        "schemaVersion": 41,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "editable": True,
        "templating": {"list": [_datasource(), _job()]},
        "panels": panels,
    }


_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}


def _job() -> dict[str, Any]:
    query = "label_values(genkan_requests_total, job)"
    return {
        "name": "job",
        "type": "query",
        "label": "Job",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": "job"},
        "definition": query,
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panel(panel: Panel, number: int, at: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + place), "datasource": _SOURCE, "expr": query, "legendFormat": legend, "range": True}
        for place, (legend, query) in enumerate(panel.queries)
    ]
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.help,
        "id": number,
        "datasource": _SOURCE,
        "gridPos": {**at, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": {"fillOpacity": 10}}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }


def main() -> int:
    text = json.dumps(dashboard(), indent=2) + "\n"
    if sys.argv[1:] == ["--print"]:
        sys.stdout.write(text)
    else:
        PATH.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
