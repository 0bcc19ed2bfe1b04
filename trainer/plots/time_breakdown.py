"""Draws how a run's time is spent: a bar for each group, divided into pieces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trainer.plots.captions import as_caption
from trainer.plots.figure import PALETTE, new_figure, save_png

SMALLEST_LABELLED = 0.04
"""Share of the longest bar below which a piece has no label."""
Groups = Mapping[str, Mapping[str, float]]
"""Name of a bar → name of a piece → seconds."""


def draw_times(groups: Groups, into: Path) -> Path:
    """Draw the bars as a PNG at `into`; pieces without length are left out."""
    return save_png(into, lambda: _figure(groups))


def _figure(groups: Groups) -> Figure:
    figure = new_figure(11, 1.2 + 0.9 * len(groups))
    axis = figure.subplots()
    totals = [sum(pieces.values()) for pieces in groups.values()]
    # Above 0 even for an empty run, so that shares of it are defined.
    longest = max([*totals, 1e-9])
    for row, pieces in enumerate(groups.values()):
        _draw_bar(axis, row, pieces, longest)
    axis.set_yticks(range(len(groups)), [as_caption(name) for name in groups], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("seconds", fontsize=8)
    return figure


def _draw_bar(axis: Axes, row: int, pieces: Mapping[str, float], longest: float) -> None:
    left = 0.0
    for number, (name, seconds) in enumerate(pieces.items()):
        if seconds <= 0:
            continue
        colour = PALETTE[number % len(PALETTE)]
        axis.barh(row, seconds, left=left, color=colour, edgecolor="white")
        if seconds >= SMALLEST_LABELLED * longest:
            label = f"{as_caption(name)}\n{seconds:.1f} s"
            axis.text(left + seconds / 2, row, label, ha="center", va="center", fontsize=7)
        left += seconds
