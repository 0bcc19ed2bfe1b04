"""Draws a prediction: scores along the video, best segments, the user's marks, and weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from storage.base.records import FeatureTrack
from trainer.evaluation.phd2_protocol import PHD2
from trainer.inference.predict import HistoryClip, Prediction
from trainer.metrics.ranking import Floats
from trainer.plots.captions import as_caption, font_families
from trainer.plots.figure import draw_png, new_figure
from trainer.plots.store_overview import sample_pictures

PLAIN, BEST, MARKED = "#b9c6d3", "#2e86ab", "#d1495b"
CLOSE = 0.2
"""Scores whose range is a smaller share of their size are drawn on an axis without 0."""
MOST_CLIPS = 12
"""Most clips of a history that are drawn; those with the largest weights are chosen."""


def draw_timeline(
    prediction: Prediction, *, top: int = PHD2.top, pictures: FeatureTrack | None = None
) -> bytes:
    """A PNG. The `top` best segments are blue, if there are more than that.

    `pictures` is the video's track of a `frames` variant, if there is one.
    """
    return draw_png(lambda: _figure(prediction, top, pictures))


def _figure(prediction: Prediction, top: int, pictures: FeatureTrack | None) -> Figure:
    kinds = list(dict.fromkeys(kind for clip in prediction.history for kind in clip.weights))
    clips = _most_weighed(prediction.history, kinds)
    # Inches of the panels: pictures, scores, and one of weights for each kind.
    heights = [0.8] if pictures is not None else []
    heights += [2.2, *[0.5 + 0.22 * len(clips)] * len(kinds)]
    figure = new_figure(11, 1.1 + sum(heights))
    person = f"for {as_caption(prediction.person)}" if prediction.person else "without a user"
    title = f"{as_caption(prediction.video_id)} {person} · {as_caption(prediction.model)}"
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[
        :, 0
    ].tolist()
    if pictures is not None:
        _draw_pictures(axes.pop(0), pictures, prediction)
    _draw_scores(axes.pop(0), prediction, top)
    for kind, axis in zip(kinds, axes, strict=True):
        _draw_weights(axis, kind, clips, prediction)
    # Not figure.axes[-1], which is the colour bar of the last panel.
    last = figure.axes[len(heights) - 1]
    last.set_xlim(0, float(prediction.spans[-1, 1]))
    last.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: minutes_seconds(seconds)))
    last.set_xlabel(
        "; ".join(["minutes:seconds", *map(as_caption, prediction.notes)]), fontsize=7, loc="left"
    )
    return figure


def minutes_seconds(seconds: float) -> str:
    """`1:05` for 65 seconds; with tenths, if there are any: `1:05.3`."""
    minutes, rest = divmod(round(seconds, 1), 60)
    if rest == int(rest):
        return f"{int(minutes)}:{rest:02.0f}"
    return f"{int(minutes)}:{rest:04.1f}"


def _draw_scores(axis: Axes, prediction: Prediction, top: int) -> None:
    bottom, base, height = _score_axis(prediction.scores)
    n_best = _best_count(prediction, top)
    for (start, end), score, rank in zip(
        prediction.spans, prediction.scores, prediction.ranks, strict=True
    ):
        is_best = rank <= n_best
        axis.bar(
            start,
            score - base,
            end - start,
            bottom=base,
            align="edge",
            linewidth=0.8,
            edgecolor="white",
            color=BEST if is_best else PLAIN,
        )
        if is_best:
            above = ((start + end) / 2, max(score, base))
            axis.annotate(str(rank), above, ha="center", va="bottom", fontsize=7, color=BEST)
    for start, end in prediction.marked:
        axis.axvspan(start, end, 0, 0.05, color=MARKED, linewidth=0)
    axis.set_ylim(bottom, bottom + 1.18 * height)
    axis.set_ylabel("score" if base == 0 else "score\n(bars do not begin at 0)", fontsize=8)
    if bottom < 0 < bottom + height:
        axis.axhline(0, color="black", linewidth=0.6)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
    _draw_legend(axis, prediction, n_best)


def _score_axis(scores: Floats) -> tuple[float, float, float]:
    """Lowest value of the axis, where bars begin, and the height up to the highest score.

    Bars begin at 0, unless that would hide the differences between scores far from 0.
    """
    low, high = float(scores.min()), float(scores.max())
    is_close = high - low < CLOSE * max(abs(low), abs(high)) and low * high > 0
    if is_close:
        # 1 if all scores are equal, so that the axis has a length.
        reach = high - low or 1.0
        return low - 0.08 * reach, low - 0.08 * reach, 1.08 * reach
    bottom = min(0.0, low)
    return bottom, 0.0, max(0.0, high) - bottom or 1.0


def _best_count(prediction: Prediction, top: int) -> int:
    """Segments that are drawn as the best; 0 if that would be all of them."""
    return top if top < len(prediction.scores) else 0


def _draw_legend(axis: Axes, prediction: Prediction, n_best: int) -> None:
    handles = [Patch(color=PLAIN, label="segment")]
    if n_best:
        which = "highest score" if n_best == 1 else f"{n_best} highest scores"
        handles = [Patch(color=BEST, label=which), Patch(color=PLAIN, label="other segments")]
    if len(prediction.marked):
        handles.append(Patch(color=MARKED, label="marked by the person"))
    axis.legend(
        handles=handles,
        fontsize=7,
        frameon=False,
        ncols=3,
        loc="upper right",
        bbox_to_anchor=(1, 1.12),
    )


def _draw_pictures(axis: Axes, pictures: FeatureTrack, prediction: Prediction) -> None:
    for picture, start, width in sample_pictures(pictures, float(prediction.spans[-1, 1])):
        axis.imshow(
            picture, extent=(start, start + width, 0, 1), aspect="auto", interpolation="bilinear"
        )
    axis.set_ylim(0, 1)
    axis.set_axis_off()


def _draw_weights(
    axis: Axes, kind: str, clips: Sequence[HistoryClip], prediction: Prediction
) -> None:
    weights = np.stack([clip.weights[kind] for clip in clips])
    edges = np.append(prediction.spans[:, 0], prediction.spans[-1, 1])
    drawn = axis.pcolormesh(
        edges, np.arange(len(clips) + 1), weights, cmap="Blues", vmin=0, vmax=_highest(weights)
    )
    axis.invert_yaxis()
    names = [
        f"{as_caption(clip.video_id)} {minutes_seconds(clip.start)}-{minutes_seconds(clip.end)}"
        for clip in clips
    ]
    axis.set_yticks(
        np.arange(len(clips)) + 0.5, names, fontsize=6, family=list(font_families(monospace=True))
    )
    axis.tick_params(axis="x", labelsize=7)
    axis.set_title(f"{kind}: weight of each liked part", fontsize=8, loc="left")
    bar = axis.figure.colorbar(drawn, ax=axis, pad=0.01, fraction=0.03)
    bar.ax.tick_params(labelsize=6)


def _highest(weights: Floats) -> float:
    """The top of the colour scale; 1 if all weights are 0."""
    return float(weights.max()) or 1.0


def _most_weighed(history: Sequence[HistoryClip], kinds: Sequence[str]) -> list[HistoryClip]:
    """At most `MOST_CLIPS` clips, in the order of the history."""
    if not kinds:
        return []
    peaks = []
    for clip in history:
        peaks.append(max(float(clip.weights[kind].max()) for kind in kinds))
    best_first = np.argsort(-np.array(peaks), kind="stable")
    chosen = sorted(best_first[:MOST_CLIPS].tolist())
    return [history[number] for number in chosen]
