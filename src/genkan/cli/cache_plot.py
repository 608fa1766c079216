"""Hits against wrong answers over all thresholds, drawn in the terminal and to a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from genkan.cache.evaluation.curve import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH, _HEIGHT = 60, 12
_MARKS = "·o#"


def in_terminal(curves: Sequence[Curve], most_wrong: float) -> str:
    """Lines of 70 characters: hits up to 100 % against wrong answers up to ``most_wrong``, each curve with a sign of
    its own. Where curves meet the later one is seen."""
    cells = [[" "] * (_WIDTH + 1) for _ in range(_HEIGHT + 1)]
    for mark, curve in zip(_MARKS, curves, strict=False):
        for column in range(_WIDTH + 1):
            hits = curve.hits_at(most_wrong * column / _WIDTH)
            cells[_HEIGHT - round(hits * _HEIGHT)][column] = mark
    step = _HEIGHT // 4
    lines = ["hits"]
    for row, line in enumerate(cells):
        label = f"{100 * (_HEIGHT - row) // _HEIGHT} %" if row % step == 0 else ""
        lines.append(f"{label:>6} |{''.join(line)}".rstrip())
    lines.append(f"{'':6} +{'-' * (_WIDTH + 1)}")
    lines.append(f"{'':7}0 %{f'wrong, up to {100 * most_wrong:g} %':>{_WIDTH - 2}}")
    signs = ", ".join(f"{mark} {curve.name}" for mark, curve in zip(_MARKS, curves, strict=False))
    return "\n".join([*lines, f"{'':7}{signs}"])


def to_file(panels: Sequence[tuple[str, Sequence[Curve]]], most_wrong: float, path: Path) -> None:
    """One panel for each language, .png or .svg. Ends the command without matplotlib, or where nothing can be
    written."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise click.ClickException("--plot needs matplotlib, which is not installed") from None
    figure = Figure(figsize=(4.5 * len(panels), 4), layout="constrained")
    columns = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for axes, (title, curves) in zip(columns, panels, strict=True):
        _panel(axes, title, curves, most_wrong)
    columns[0].set_ylabel("% of the same pairs served")
    columns[-1].legend(loc="lower right")
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"cannot draw {path}: {error}") from None


def _panel(axes: "Axes", title: str, curves: Sequence[Curve], most_wrong: float) -> None:
    for curve in curves:
        axes.step(100 * curve.wrong, 100 * curve.hits, where="post", label=curve.name)
    axes.set(title=title, xlabel="% of the different pairs served", xlim=(0, 100 * most_wrong), ylim=(0, 100))
    axes.grid(alpha=0.3)
