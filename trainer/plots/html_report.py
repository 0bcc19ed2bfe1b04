"""A report as one static HTML file: the network's metrics, pictures of its predictions, its origin.

The file holds its pictures and style, so it can be shown on its own. Style and template are those
of the viewer.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainer.evaluation.statistics import ConfidenceInterval
from trainer.view.pages import render_single_file

HIGHER, LOWER = "higher is better", "lower is better"
METRICS: dict[str, tuple[str, str]] = {
    "ap": ("mean average precision, interpolated", HIGHER),
    "ap_uninterpolated": ("mean average precision, not interpolated", HIGHER),
    "ap_step": ("mean average precision, step-wise", HIGHER),
    "ap_trapezoid": ("mean average precision, by trapezoids", HIGHER),
    "nmsd": ("normalized meaningful summary duration", LOWER),
    "nmsd_mean": ("normalized meaningful summary duration, mean over marks", LOWER),
    "nmsd_best": ("normalized meaningful summary duration, best mark", LOWER),
    "recall_at_5": ("recall at 5 segments", HIGHER),
    "top5_half": ("average precision of the top 5, truth: the better half", HIGHER),
    "top5_median": ("average precision of the top 5, truth: above the median", HIGHER),
    "top5_majority": ("average precision of the top 5, truth: by majority", HIGHER),
    "top5_each": ("average precision of the top 5, truth: each annotator", HIGHER),
    "f_mean": ("F-measure, mean over annotators", HIGHER),
    "f_max": ("F-measure, best annotator", HIGHER),
}
"""Metric → its name in words, and which way is better."""


@dataclass(frozen=True)
class ReportSection:
    """A picture with its heading and caption."""

    title: str
    caption: str
    png: bytes

    @property
    def png_base64(self) -> str:
        """The picture as a data URL holds it."""
        return base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class ReportMetric:
    """A metric with its interval, as the page shows it; all three numbers are shares of 1."""

    name: str
    direction: str
    mean: float
    low: float
    high: float

    @property
    def mean_text(self) -> str:
        """Such as `12.3 %`."""
        return f"{100 * self.mean:.2f} %"

    @property
    def interval_text(self) -> str:
        """Such as `[10.1, 14.2]`."""
        return f"[{100 * self.low:.2f}, {100 * self.high:.2f}]"

    @property
    def is_share(self) -> bool:
        """Whether it can be drawn as a bar from 0 to 100 %."""
        return 0 <= self.low <= self.high <= 1 and 0 <= self.mean <= 1

    @property
    def mean_percent(self) -> str:
        """End of the bar."""
        return f"{100 * self.mean:.3f}"

    @property
    def low_percent(self) -> str:
        """Start of the interval."""
        return f"{100 * self.low:.3f}"

    @property
    def width_percent(self) -> str:
        """Width of the interval, wide enough to be seen."""
        return f"{max(0.4, 100 * (self.high - self.low)):.3f}"


@dataclass(frozen=True)
class Report:
    """Everything that a report shows, in its order."""

    title: str
    catalog: str
    notes: Sequence[str]
    """Why the numbers are not a result."""
    summary: str
    """What was measured, over how many users or videos."""
    metrics: Sequence[ReportMetric]
    sections: Sequence[ReportSection]
    made_of: Sequence[tuple[str, str]]
    """Names and values: recipe, checkpoint, protocol."""
    gaps: Sequence[str]
    """What the paper leaves open."""


def report_metrics(intervals: Mapping[str, ConfidenceInterval]) -> list[ReportMetric]:
    """The metrics by their names in words; a metric without one keeps its short name."""
    metrics = []
    for metric, interval in intervals.items():
        name, direction = METRICS.get(metric, (metric, ""))
        metrics.append(ReportMetric(name, direction, interval.mean, interval.low, interval.high))
    return metrics


def render_page(report: Report) -> bytes:
    """The HTML of a report."""
    return render_single_file("report.html.jinja", has_script=False, report=report)
