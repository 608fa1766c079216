"""Tables to stdout, plots to files, and the result as one line of JSON at the end."""

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Groups = Mapping[str, Mapping[str, float | None]]  # by group (a place on the x axis), then by arm


def table(title: str, groups: Groups) -> str:
    """``groups`` as lines of text: a row a group, a column an arm; a dash for what is not there."""
    arms = _arms(groups)
    rows = [["", *arms]] + [[name, *(number(group.get(arm)) for arm in arms)] for name, group in groups.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(arms) + 1)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([title, *lines])


def bars(path: Path, title: str, unit: str, groups: Groups) -> None:
    """A grouped bar chart of ``groups`` at ``path``. Without matplotlib there is none, and a line says so."""
    if not _can_draw(path):
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    arms = _arms(groups)
    width = 0.8 / len(arms)
    for index, arm in enumerate(arms):
        places = [place + (index - (len(arms) - 1) / 2) * width for place in range(len(groups))]
        drawn = axes.bar(places, [group.get(arm) or 0 for group in groups.values()], width, label=arm)
        axes.bar_label(drawn, labels=[number(group.get(arm)) for group in groups.values()], fontsize=7)
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set(title=title, ylabel=unit)
    axes.legend()
    _save(figure, path)


def shares(path: Path, title: str, unit: str, values: Mapping[str, Sequence[float]]) -> None:
    """For each arm, which share of its values is longer than x, on logarithmic axes: tails show. As ``bars`` else."""
    if not _can_draw(path):
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for arm, some in values.items():
        ordered = sorted(some)
        axes.step(ordered, [1 - index / len(ordered) for index in range(len(ordered))], where="post", label=arm)
    axes.set(title=title, xlabel=unit, ylabel="share that is longer", xscale="log", yscale="log")
    axes.legend()
    _save(figure, path)


def points(path: Path, title: str, unit: str, values: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Each arm's (second of the run, value) as points: what changed while it ran. As ``bars`` else."""
    if not _can_draw(path):
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for arm, some in values.items():
        axes.plot([at for at, _ in some], [value for _, value in some], ".", markersize=3, label=arm)
    axes.set(title=title, xlabel="second of the run", ylabel=unit, ylim=(0, None))
    axes.legend()
    _save(figure, path)


def finish(out: Path | None, name: str, result: Mapping[str, Any]) -> None:
    """Print ``result`` as the last line of stdout, and write it to ``out/<name>.json``, if anywhere.

    Figures are rounded to four digits.
    """
    text = json.dumps(_rounded(result))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{name}.json").write_text(text + "\n")
    print(text, flush=True)


def number(value: float | None) -> str:
    """Three digits, or all before the point; a dash for what is not there."""
    return "-" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _arms(groups: Groups) -> list[str]:
    """Every arm that some group has, in the order they first come."""
    return list(dict.fromkeys(arm for group in groups.values() for arm in group))


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _can_draw(path: Path) -> bool:
    if find_spec("matplotlib") is None:
        print(f"no {path}: matplotlib is not installed")
        return False
    return True


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    print(f"plot: {path}")
