"""Set-up of matplotlib figures, and saving them as PNG with the same bytes every time."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from storage.files import atomic_write
from trainer.plots.captions import literal_text

PALETTE = ("#d1495b", "#2e86ab", "#edae49", "#66a182", "#8d5a97", "#3d405b", "#f4845f", "#577590")
"""Colours of users or categories, repeated if there are more."""
DOTS_PER_INCH = 110


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """An empty figure. It needs no display and is not registered with pyplot."""
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_png(draw: Callable[[], Figure]) -> bytes:
    """The figure that `draw` returns as a PNG that holds only its pixels.

    `draw` is called here, because a text takes its font and its mode when it is made.
    """
    with literal_text():
        figure = draw()
        buffer = io.BytesIO()
        # The version of matplotlib in the file would change its bytes.
        figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()


def save_png(into: Path, draw: Callable[[], Figure]) -> Path:
    """Write such a PNG, and replace an older one as a whole."""
    atomic_write.publish(into, draw_png(draw), replace=True)
    return into
