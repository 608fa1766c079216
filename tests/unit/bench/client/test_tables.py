"""The report in its three forms."""

import base64
from pathlib import Path
from typing import Any

from genkan.bench.client import tables
from genkan.bench.client.figures import Objective, figures
from genkan.bench.client.outcome import Outcome, Seen


def result(*, faults: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    good = Outcome("a", 0.0, 0.0, Seen(ended_s=1.0, token_s=[0.5, 0.75], cache="miss", prompt_tokens=1234))
    bad = Outcome("b <x>", 0.0, 0.0, Seen(ended_s=1.0, error="status 503 no & no"))
    arms = {one.arm: figures([one], Objective(ttft_s=1.0)) for one in (good, bad)}
    client = {"faults": list(faults)}
    return {
        "url": "http://h/v1",
        "load": "closed loop",
        "command": "genkan bench",
        "arms": arms,
        "client": client,
    } | more


def test_a_terminal_gets_a_row_a_figure_and_the_errors_by_kind() -> None:
    lines = tables.text(result()).splitlines()
    assert lines[0] == "http://h/v1, closed loop"
    assert lines[1].split() == ["a", "b", "<x>"]
    assert ["ttft p50, ms", "500", "-"] in [[line[:12], *line[12:].split()] for line in lines]
    assert "errors, b <x>: 1 × status 503 no & no" in lines
    assert len({len(line) for line in lines[1:8]}) == 1


def test_rows_without_any_figure_are_left_out() -> None:
    names = [name for name, _ in tables.rows(result()["arms"])]
    assert "goodput, share" in names
    assert "cost, $" not in names


def test_the_clients_own_fault_is_told_everywhere() -> None:
    at_fault = result(faults=("it was late",), interrupted=True)
    words = ("The client is at fault too, so do not trust these figures: it was late.", "Interrupted")
    for told in (tables.text(at_fault), tables.markdown(at_fault, []), tables.page(at_fault, [])):
        assert all(word in told for word in words)


def test_markdown_has_a_table_and_plots_beside_it() -> None:
    told = tables.markdown(result(), [Path("out/ttft.png")])
    assert "|  | a | b <x> |\n|---|---:|---:|\n| requests | 1 | 1 |\n" in told
    assert "![ttft](ttft.png)" in told


def test_html_needs_nothing_else_and_escapes_what_it_shows(tmp_path: Path) -> None:
    plot = tmp_path / "ttft.png"
    plot.write_bytes(b"\x89PNG")
    told = tables.page(result(), [plot])
    assert base64.b64encode(b"\x89PNG").decode() in told
    assert "b &lt;x&gt;" in told
    assert "<x>" not in told
