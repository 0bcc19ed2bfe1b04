"""Predicts the highlights of one video for one user, with the weights of the user's liked clips.

    person = UserHistory.of_user("00004")  # or:
    person = UserHistory.from_clips(parse_liked(["16WT8mzB-bM:3.2-6.1"]))
    found = predict(load_trained_model(model, folder, "cpu"), "aBcDeFgHiJk", person)

The user is a user of the catalog, whose marks in other videos are the history. Or the history is
given as liked parts of videos that have features.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from models.highlight.base.contract import Scores
from storage.base.errors import LookupFailed, SettingsError
from storage.base.records import JSON
from trainer.config.model_errors import explain_model_errors
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
"""Name of a person who is not a user of the catalog. Names of report files depend on it."""
_LIKED = re.compile(r"([A-Za-z0-9_-]{1,64}):(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class UserHistory:
    """The person for whom a prediction is made."""

    name: str = ""
    """A user of the catalog, or `UNNAMED_USER`; empty for a prediction without a user."""
    liked: Mapping[str, Intervals] = field(default_factory=dict)
    """Video → its liked parts in seconds, of a person who is not a user."""

    @staticmethod
    def of_user(user_id: str) -> UserHistory:
        """A user of the catalog, with the user's marks as history."""
        return UserHistory(user_id)

    @staticmethod
    def from_clips(liked: Mapping[str, Intervals]) -> UserHistory:
        """A person with only these liked parts as history."""
        return UserHistory(UNNAMED_USER if liked else "", liked)


@dataclass(frozen=True)
class HistoryClip:
    """One element of the history, with its weights in networks that have attention."""

    video_id: str
    start: float
    end: float
    weights: Mapping[str, Floats] = field(default_factory=dict)
    """Kind of weight → `(M,)`, its mean over the rows of each segment."""

    def to_json(self) -> dict[str, JSON]:
        """The clip as JSON."""
        return {
            "video_id": self.video_id,
            "start": self.start,
            "end": self.end,
            "weights": {kind: weights.tolist() for kind, weights in self.weights.items()},
        }


@dataclass(frozen=True)
class Prediction:
    """The scores of one video for one person."""

    video_id: str
    person: str
    model: str
    """Recipe and seed of the network."""
    checkpoint_sha256: str
    spans: Intervals
    """`(M, 2)`: segments of five seconds at true time, the last one shorter."""
    scores: Floats
    """`(M,)`: higher is more of a highlight; the scale is the network's own."""
    marked: Intervals
    """The person's marks in this video, if known; the network never sees them."""
    history: tuple[HistoryClip, ...]
    notes: tuple[str, ...]
    """What a reader of these scores has to know."""

    @property
    def ranks(self) -> tuple[int, ...]:
        """1 for the best segment; of equal scores, the earlier segment is better."""
        # A stable sort keeps equal scores in the order of time.
        order = np.argsort(-self.scores, kind="stable")
        return tuple((np.argsort(order) + 1).tolist())

    def best_count(self, seconds: float) -> int:
        """The number of best segments that fit into `seconds` together; at least one."""
        return max(1, int((np.cumsum(self._lengths_by_rank()) <= seconds + 1e-9).sum()))

    def _lengths_by_rank(self) -> Floats:
        """`(M,)` seconds, of the best segment first."""
        return (self.spans[:, 1] - self.spans[:, 0])[np.argsort(self.ranks)]

    def best(self, seconds: float) -> list[tuple[float, float]]:
        """The best segments that fit, in the order of time; adjacent ones are joined."""
        chosen = self.spans[np.array(self.ranks) <= self.best_count(seconds)]
        return [(float(start), float(end)) for start, end in union(chosen)]

    def describe_length(self, seconds: float) -> str:
        """The total length of the best segments, and why it is shorter or longer than `seconds`."""
        lengths = self._lengths_by_rank()
        count = self.best_count(seconds)
        total = float(lengths[:count].sum())
        text = f"{total:.2f} of at most {seconds:g} seconds"
        if total > seconds + 1e-9:
            return f"{text}: the best segment is longer, and segments are not cut"
        if total > seconds - 0.01:
            return text
        if count == len(lengths):
            return f"{text}: the video has no more"
        return (
            f"{text}: the next best segment, of {lengths[count]:.2f} seconds, does not fit, and "
            "segments are not cut"
        )

    def to_json(self) -> dict[str, JSON]:
        """The prediction as JSON."""
        rows = zip(self.spans.tolist(), self.scores.tolist(), self.ranks, strict=True)
        return {
            "video_id": self.video_id,
            "person": self.person,
            "model": self.model,
            "checkpoint_sha256": self.checkpoint_sha256,
            "segments": [
                {"start": start, "end": end, "score": score, "rank": rank}
                for (start, end), score, rank in rows
            ],
            "marked": self.marked.tolist(),
            "history": [clip.to_json() for clip in self.history],
            "notes": list(self.notes),
        }


def parse_liked(texts: Sequence[str]) -> dict[str, Intervals]:
    """Liked parts of videos, from `VIDEO_ID:START-END` in seconds.

    Raises SettingsError for a text of another form.
    """
    parts: dict[str, list[tuple[float, float]]] = {}
    for text in texts:
        match = _LIKED.fullmatch(text.strip())
        if match is None or not float(match[2]) < float(match[3]):
            raise SettingsError(
                (f"a liked part is VIDEO_ID:START-END in seconds, start before end; got {text!r}",)
            )
        parts.setdefault(match[1], []).append((float(match[2]), float(match[3])))
    return {video_id: union(np.array(of_video)) for video_id, of_video in parts.items()}


def predict(restored: TrainedModel, video_id: str, person: UserHistory) -> Prediction:
    """Scores of one whole video for one person, with the full history.

    Raises LookupFailed for a video without features or an unknown user, and SettingsError for a
    liked part outside its video, or a network that cannot be used for a single video.
    """
    # The same reading and collating as for a split, so that the scores are the same too.
    dataset = _single_example(restored, video_id, person)
    sample = dataset[SampleSeed(0, restored.about["seed"], 0)]
    loaded = make_collate(dataset)([sample])
    parameters = restored.model.parameters()
    device = next((parameter.device for parameter in parameters), torch.device("cpu"))
    restored.model.eval()
    with torch.inference_mode(), explain_model_errors(restored.recipe):
        answer: Scores = restored.model(to_device(loaded.batch, device))
    rows = sample.target.spans
    grid = segment_grid(video_id, rows)
    scores = answer.scores[0, : len(rows)].double().cpu().numpy()
    if not np.isfinite(scores).all():
        raise ValueError(f"the network's scores of {video_id} are not all finite")
    weights = {kind: part.double().cpu().numpy() for kind, part in _weights(answer, len(rows))}
    marked = np.zeros((0, 2))
    if person.name:
        marked = restored.data.required_user_labels.highlights(person.name, video_id)
    return Prediction(
        video_id=video_id,
        person=person.name,
        model=f"{restored.recipe.name}, seed {restored.about['seed']}",
        checkpoint_sha256=restored.sha256,
        spans=grid.spans,
        scores=grid.mean_scores(rows, scores),
        marked=marked,
        history=tuple(
            _history_clip(number, positions, weights, rows, grid)
            for number, positions in enumerate(sample.history)
        ),
        notes=_notes(restored, sample.history, video_id, person),
    )


def segment_grid(video_id: str, rows: Floats) -> TimeGrid:
    """The segments of a video with these `(T, 2)` rows.

    Raises SettingsError if it is too short for a segment.
    """
    grid = TimeGrid(float(rows[:, 1].max()), PHD2.segment_seconds, PHD2.frames_per_second)
    if not grid.n_frames:
        shortest = 0.5 / PHD2.frames_per_second
        length = f"{video_id} has features of {grid.duration_seconds:.3g} seconds"
        raise SettingsError(
            (
                f"{length}, and no segment lies in {shortest:.3g} seconds or less: take a longer "
                "video",
            )
        )
    return grid


def _single_example(restored: TrainedModel, video_id: str, person: UserHistory) -> HighlightDataset:
    """A dataset with one example, read as for scoring a split."""
    data, history = restored.data, _history_videos(restored.data, video_id, person)
    _check_usable(restored, video_id, person)
    labels = data.required_user_labels
    if person.liked:
        labels = labels.with_preferences(person.name, person.liked)
    # The recipe may have been trained on the history of another user, to show that it matters.
    settings = replace(data.settings, whose="own")
    reader = UserVideoReader(data.features, labels, settings, None, is_training=False)
    example_set = ExampleSet(
        (Example(video_id, person.name, person.name, history),),
        ExampleCounts("users", 1, 1),
        ExampleCounts("targets", 1, 1),
        ExampleCounts("history videos", len(history), len(history)),
    )
    return HighlightDataset(reader, example_set, np.zeros(1, np.int64), data.features.notes)


def _check_usable(restored: TrainedModel, video_id: str, person: UserHistory) -> None:
    """Raise unless the network can score a single video, and all videos have features."""
    data, name = restored.data, restored.recipe.name
    if "per_user" in restored.recipe.stages:
        raise SettingsError(
            (f"{name} fits weights for each user: score a split with `python -m trainer score`",)
        )
    if data.settings.history == "none" and person.liked:
        raise SettingsError((f"{name} uses no history: give no liked parts",))
    for needed in (video_id, *person.liked):
        reason = _missing_reason(data, needed)
        if reason is not None:
            known = _some_videos(data)
            raise LookupFailed(f"{needed} has no features here ({reason}); there are {known}")


def _history_videos(data: HighlightData, video_id: str, person: UserHistory) -> tuple[str, ...]:
    """The videos with the person's history; without the scored video, which would reveal marks."""
    if person.liked:
        _check_liked_parts(data, person.liked)
        return tuple(sorted(set(person.liked) - {video_id}))
    if not person.name:
        return ()
    users = [user.user_id for user in data.catalog.users]
    if person.name not in users:
        known = ", ".join(users[:5]) or "none"
        raise LookupFailed(
            f"{data.catalog.name} has no user {person.name!r}; there are {known}, ..."
        )
    linked = {link.video_id for link in data.catalog.links if link.user_id == person.name}
    return tuple(sorted(_with_features(data, linked - {video_id})))


def _with_features(data: HighlightData, video_ids: Iterable[str]) -> list[str]:
    return [name for name in video_ids if data.features.missing_reason(name) is None]


def _check_liked_parts(data: HighlightData, liked: Mapping[str, Intervals]) -> None:
    """Raise SettingsError for parts that end after their video."""
    faults = []
    for video_id, parts in liked.items():
        if _missing_reason(data, video_id) is not None:
            continue  # `_check_usable` reports it
        video_end = float(data.features.row_spans(video_id)[:, 1].max())
        for start, end in parts:
            # A second is allowed, because the last row may end before the video does.
            if end > video_end + 1:
                faults.append(f"{video_id} ends at {video_end:g} s; {start:g}-{end:g} is not in it")
    if faults:
        raise SettingsError(tuple(faults))


def _missing_reason(data: HighlightData, video_id: str) -> str | None:
    if video_id not in {video.video_id for video in data.catalog.videos}:
        return f"it is not a video of {data.catalog.name}"
    return data.features.missing_reason(video_id)


def _some_videos(data: HighlightData) -> str:
    ids = _with_features(data, [video.video_id for video in data.catalog.videos])
    return ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")


def _weights(answer: Scores, rows: int) -> list[tuple[str, Tensor]]:
    """Kind of weight → `(rows, K)`, for K elements of the history."""
    weights = []
    # Only these two parts of the models' answers are weights of history elements.
    for name, part in answer.parts.items():
        if name == "attention" and part.shape[-1]:
            weights.append((name, part[0, :rows]))
        elif name.endswith("_clip_weights"):
            # The weights are the same for all rows.
            weights.append((name.removesuffix("_clip_weights"), part[0].expand(rows, -1)))
    return weights


def _history_clip(
    number: int,
    positions: Positions,
    weights: Mapping[str, Floats],
    rows: Intervals,
    grid: TimeGrid,
) -> HistoryClip:
    """The element of the history with this number, and its weights."""
    of_clip = {}
    for kind, of_all in weights.items():
        of_clip[kind] = grid.mean_scores(rows, np.ascontiguousarray(of_all[:, number]))
    start, end = float(positions.spans[0, 0]), float(positions.spans[-1, 1])
    return HistoryClip(positions.video_id, start, end, of_clip)


def _notes(
    restored: TrainedModel, history: Sequence[Positions], video_id: str, person: UserHistory
) -> tuple[str, ...]:
    notes = [*restored.data.features.notes, *restored.notes]
    if restored.recipe.is_small:
        notes.append("small widths: a trial, not a result")
    if video_id in person.liked:
        notes.append(f"liked parts of {video_id} are left out: it is the scored video")
    if restored.data.settings.history != "none" and not history:
        notes.append("the history is empty: the scores are the same for all users")
    return tuple(notes)
