"""Draws where the time of a run went: one bar of pieces for each group of seconds. Refuses to know
what they mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from storage.files import atomic_write
from trainer.plots.captions import as_caption, encode_png, literal_text
from trainer.plots.store_overview import PALETTE

SMALLEST_LABELLED = 0.04
"""Share of the longest bar below which a piece carries no label."""


def draw_times(groups: Mapping[str, Mapping[str, float]], into: Path) -> Path:
    """`groups`: name of a bar → name of a piece → seconds. A PNG at `into`; pieces of no length are
    left out.
    """
    with literal_text():
        atomic_write.publish(into, encode_png(_figure(groups)), replace=True)
    return into


def _figure(groups: Mapping[str, Mapping[str, float]]) -> Figure:
    figure = Figure(figsize=(11, 1.2 + 0.9 * len(groups)), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    longest = max([sum(pieces.values()) for pieces in groups.values()] + [1e-9])
    for row, pieces in enumerate(groups.values()):
        left = 0.0
        for place, (name, seconds) in enumerate(pieces.items()):
            if seconds <= 0:
                continue
            axis.barh(
                row, seconds, left=left, color=PALETTE[place % len(PALETTE)], edgecolor="white"
            )
            if seconds >= SMALLEST_LABELLED * longest:
                told = f"{as_caption(name)}\n{seconds:.1f} s"
                axis.text(left + seconds / 2, row, told, ha="center", va="center", fontsize=7)
            left += seconds
    axis.set_yticks(range(len(groups)), [as_caption(name) for name in groups], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("seconds", fontsize=8)
    return figure
