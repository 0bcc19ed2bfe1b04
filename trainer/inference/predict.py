"""What a finished network says of one video to one person, segment by segment, and which liked
parts it looked at.

    person = UserHistory.of_user("00004"), or UserHistory.from_clips(parse_liked(["16WT8mzB-bM:3.2-6.1"]))
    found = predict(restore(model, folder, "cpu"), "aBcDeFgHiJk", person)

The person is a user of the catalog, whose marks in other videos are the history, or is told by some
liked parts of videos that have features. Refuses to know how features were made and how an answer
is drawn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from models.highlight.base.contract import Scores
from storage.base.errors import LookupFailed, SettingsError
from storage.base.records import JSON
from trainer.data import Example, ExampleCounts, HighlightData, HighlightDataset, to_device
from trainer.data.dataset import Positions, SampleSeed, UserVideoReader
from trainer.data.loader import make_collate
from trainer.data.sources.intervals import Intervals, union
from trainer.data.user_examples import ExampleSet
from trainer.evaluation.phd2_protocol import PHD2
from trainer.evaluation.time_grid import TimeGrid
from trainer.metrics.ranking import Floats
from trainer.training.fit import TrainedModel

UNNAMED_USER = "somebody"
"""The person who is no user of the catalog."""
_LIKED = re.compile(r"([A-Za-z0-9_-]{1,64}):(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class UserHistory:
    """Whom a prediction is for."""

    name: str = ""
    """A user of the catalog, or `SOMEBODY`; empty: nobody in particular."""
    liked: Mapping[str, Intervals] = field(default_factory=dict)
    """Video → its liked parts in seconds, of somebody who is no user."""

    @staticmethod
    def of_user(user_id: str) -> UserHistory:
        """Somebody whose marks the catalog has."""
        return UserHistory(user_id)

    @staticmethod
    def from_clips(liked: Mapping[str, Intervals]) -> UserHistory:
        """Somebody of whom only this is known."""
        return UserHistory(UNNAMED_USER if liked else "", liked)


@dataclass(frozen=True)
class HistoryClip:
    """One element of the history, and what a network with attention made of it."""

    video_id: str
    start: float
    end: float
    weights: Mapping[str, Floats] = field(default_factory=dict)
    """Kind of weight → `(M,)`, its mean over the rows of each segment."""


@dataclass(frozen=True)
class Prediction:
    """The answer about one video."""

    video_id: str
    person: str
    model: str
    """Its recipe and seed."""
    checkpoint_sha256: str
    spans: Intervals
    """`(M, 2)`: segments of five seconds at true time, the last one shorter."""
    scores: Floats
    """`(M,)`: higher is more of a highlight; the scale is the network's own."""
    marked: Intervals
    """What the person marked in this very video, if anything is known; never shown to the
    network.
    """
    history: tuple[HistoryClip, ...]
    notes: tuple[str, ...]
    """What anybody who is told these scores has to know."""

    @property
    def ranks(self) -> tuple[int, ...]:
        """1 for the best segment; of equal ones the first comes first."""
        order = np.argsort(-self.scores, kind="stable")
        return tuple((np.argsort(order) + 1).tolist())

    def best_count(self, seconds: float) -> int:
        """How many of the best segments fit into so many seconds together; at least one."""
        lengths = (self.spans[:, 1] - self.spans[:, 0])[np.argsort(self.ranks)]
        return max(1, int((np.cumsum(lengths) <= seconds + 1e-9).sum()))

    def best(self, seconds: float) -> list[tuple[float, float]]:
        """These segments in the order of time; those that touch are one."""
        chosen = self.spans[np.array(self.ranks) <= self.best_count(seconds)]
        return [(float(start), float(end)) for start, end in union(chosen)]

    def describe_length(self, seconds: float) -> str:
        """How long the best segments are together, and why that is not `seconds`."""
        lengths = (self.spans[:, 1] - self.spans[:, 0])[np.argsort(self.ranks)]
        count = self.best_count(seconds)
        total = float(lengths[:count].sum())
        told = f"{total:.2f} of at most {seconds:g} seconds"
        if total > seconds + 1e-9:
            return f"{told}: the best segment alone is longer, and no segment is cut"
        if total > seconds - 0.01:
            return told
        if count == len(lengths):
            return f"{told}: that is all there is of the video"
        return f"{told}: the next best segment, of {lengths[count]:.2f} seconds, would not fit, and no segment is cut"

    def to_json(self) -> dict[str, JSON]:
        """The same as JSON."""
        rows = zip(self.spans.tolist(), self.scores.tolist(), self.ranks, strict=True)
        return {
            "video_id": self.video_id,
            "person": self.person,
            "model": self.model,
            "checkpoint_sha256": self.checkpoint_sha256,
            "segments": [
                {"start": a, "end": b, "score": score, "rank": rank} for (a, b), score, rank in rows
            ],
            "marked": self.marked.tolist(),
            "history": [
                {
                    "video_id": clip.video_id,
                    "start": clip.start,
                    "end": clip.end,
                    "weights": {kind: weights.tolist() for kind, weights in clip.weights.items()},
                }
                for clip in self.history
            ],
            "notes": list(self.notes),
        }


def parse_liked(texts: Sequence[str]) -> dict[str, Intervals]:
    """`VIDEO:START-END` in seconds, each a liked part. SettingsError for any that is none."""
    found: dict[str, list[tuple[float, float]]] = {}
    for text in texts:
        match = _LIKED.fullmatch(text.strip())
        if match is None or not float(match[2]) < float(match[3]):
            raise SettingsError(
                (f"a liked part is VIDEO_ID:START-END in seconds, start before end; got {text!r}",)
            )
        found.setdefault(match[1], []).append((float(match[2]), float(match[3])))
    return {video_id: union(np.array(parts)) for video_id, parts in found.items()}


def predict(restored: TrainedModel, video_id: str, person: UserHistory) -> Prediction:
    """Scores of one video for one person, whole, with the full history.

    Raises LookupFailed for a video without features or a user that is not there, SettingsError for
    a liked part outside its video, and for a network that cannot be asked this way.
    """
    dataset = _dataset(restored, video_id, person)
    sample = dataset[SampleSeed(0, restored.about["seed"], 0)]
    loaded = make_collate(dataset)([sample])
    device = next(
        (parameter.device for parameter in restored.model.parameters()), torch.device("cpu")
    )
    restored.model.eval()
    with torch.inference_mode():
        answer: Scores = restored.model(to_device(loaded.batch, device))
    rows = sample.target.spans
    grid = segment_grid(video_id, rows)
    scores = answer.scores[0, : len(rows)].double().cpu().numpy()
    if not np.isfinite(scores).all():
        raise ValueError(f"the network's scores of {video_id} are not all finite numbers")
    weights = {kind: found.double().cpu().numpy() for kind, found in _weights(answer, len(rows))}
    return Prediction(
        video_id=video_id,
        person=person.name,
        model=f"{restored.recipe.name}, seed {restored.about['seed']}",
        checkpoint_sha256=restored.sha256,
        spans=grid.spans,
        scores=grid.mean_scores(rows, scores),
        marked=restored.data.required_user_labels.highlights(person.name, video_id)
        if person.name
        else np.zeros((0, 2)),
        history=tuple(
            _clip(number, one, weights, rows, grid) for number, one in enumerate(sample.history)
        ),
        notes=_notes(
            restored, sample.history, left_out=video_id if video_id in person.liked else ""
        ),
    )


def segment_grid(video_id: str, rows: Floats) -> TimeGrid:
    """The segments of a video whose `(T, 2)` rows are these. Raises SettingsError if it is too
    short for any.
    """
    grid = TimeGrid(float(rows[:, 1].max()), PHD2.segment_seconds, PHD2.frames_per_second)
    if not grid.n_frames:
        shortest = 0.5 / PHD2.frames_per_second
        what = f"{video_id} has features of {grid.duration_seconds:.3g} seconds"
        raise SettingsError(
            (f"{what}, and no segment lies in {shortest:.3g} seconds or less: take a longer video",)
        )
    return grid


def _dataset(restored: TrainedModel, video_id: str, person: UserHistory) -> HighlightDataset:
    """The one question, asked as scoring asks."""
    data, history = restored.data, _history_videos(restored.data, video_id, person)
    if "per_user" in restored.recipe.stages:
        raise SettingsError(
            (
                f"{restored.recipe.name} fits each user's own weights; `python -m trainer score` asks it about a split",
            )
        )
    if data.settings.history == "none" and person.liked:
        raise SettingsError((f"{restored.recipe.name} knows no user: ask it without liked parts",))
    for name in (video_id, *person.liked):
        reason = _why_absent(data, name)
        if reason is not None:
            raise LookupFailed(f"{name} has no features here ({reason}); there are {_some(data)}")
    marks = (
        data.required_user_labels.with_preferences(person.name, person.liked)
        if person.liked
        else data.required_user_labels
    )
    reader = UserVideoReader(
        data.features, marks, replace(data.settings, whose="own"), None, is_training=False
    )
    example = Example(video_id, person.name, person.name, history)
    one = ExampleCounts("targets", 1, 1)
    found = ExampleSet(
        (example,),
        ExampleCounts("users", 1, 1),
        one,
        ExampleCounts("history videos", len(history), len(history)),
    )
    return HighlightDataset(reader, found, np.zeros(1, np.int64), data.features.notes)


def _history_videos(data: HighlightData, video_id: str, person: UserHistory) -> tuple[str, ...]:
    """The videos, other than the one that is asked about, in which the person liked something."""
    if person.liked:
        _refuse_outside(data, person.liked)
        return tuple(sorted(set(person.liked) - {video_id}))
    if not person.name:
        return ()
    if person.name not in {user.user_id for user in data.catalog.users}:
        first = ", ".join(user.user_id for user in data.catalog.users[:5]) or "nobody"
        raise LookupFailed(
            f"{data.catalog.name} has no user {person.name!r}; there are {first}, ..."
        )
    linked = {link.video_id for link in data.catalog.links if link.user_id == person.name}
    return tuple(
        sorted(one for one in linked - {video_id} if data.features.missing_reason(one) is None)
    )


def _refuse_outside(data: HighlightData, liked: Mapping[str, Intervals]) -> None:
    faults = []
    for video_id, parts in liked.items():
        if _why_absent(data, video_id) is None:
            end = float(data.features.row_spans(video_id)[:, 1].max())
            faults += [
                f"{video_id} ends at {end:g} s; {a:g}-{b:g} is not in it"
                for a, b in parts
                if b > end + 1
            ]
    if faults:
        raise SettingsError(tuple(faults))


def _why_absent(data: HighlightData, video_id: str) -> str | None:
    if video_id not in {video.video_id for video in data.catalog.videos}:
        return f"it is no video of {data.catalog.name}"
    return data.features.missing_reason(video_id)


def _some(data: HighlightData) -> str:
    ids = [
        video.video_id
        for video in data.catalog.videos
        if data.features.missing_reason(video.video_id) is None
    ]
    return ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")


def _weights(answer: Scores, rows: int) -> list[tuple[str, Tensor]]:
    """Kind of weight → `(rows, K)`; one that is the same for all rows is repeated."""
    found = []
    for name, part in answer.parts.items():
        if name == "attention" and part.shape[-1]:
            found.append((name, part[0, :rows]))
        elif name.endswith("_clip_weights"):
            found.append((name.removesuffix("_clip_weights"), part[0].expand(rows, -1)))
    return found


def _clip(
    number: int, one: Positions, weights: Mapping[str, Floats], rows: Intervals, grid: TimeGrid
) -> HistoryClip:
    each = {
        kind: grid.mean_scores(rows, np.ascontiguousarray(found[:, number]))
        for kind, found in weights.items()
    }
    return HistoryClip(one.video_id, float(one.spans[0, 0]), float(one.spans[-1, 1]), each)


def _notes(
    restored: TrainedModel, history: Sequence[Positions], *, left_out: str
) -> tuple[str, ...]:
    notes = [*restored.data.features.notes, *restored.notes]
    if restored.recipe.is_small:
        notes.append("small widths: a trial, no result")
    if left_out:
        notes.append(
            f"liked parts of {left_out} are left out: it is the video that the network is asked about"
        )
    if restored.data.settings.history != "none" and not history:
        notes.append("nothing is known of the person: the network answers as it does for everybody")
    return tuple(notes)
