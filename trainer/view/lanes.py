"""Labels of annotators and scores of models as lanes of a timeline, in seconds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from storage.base.records import JSON, STREAM_CLOCK, Annotation
from storage.features.store import VariantReader
from storage.scores import ScoreRun, ScoreTrack, read_scores, score_run_names
from trainer.view.opened_store import UNREADABLE, OpenedStore, Snapshot

MOST_LANES = 40
"""Most lanes of labels, and of scores; the answer says how many are left out."""
MOST_KEPT_RUNS = 6
"""Runs of scores that stay in memory."""
Spans = Mapping[tuple[float, float], tuple[float, float]]


def labels_json(snapshot: Snapshot, video_id: str) -> dict[str, JSON]:
    """The labels of one video: a lane for each annotator."""
    rows = snapshot.annotations.get(video_id, [])
    is_frames = snapshot.catalog.time_unit == "frames"
    seconds_of = _aligned_seconds(snapshot, video_id) if is_frames and rows else None
    lanes: dict[str, list[JSON]] = {}
    not_placed = 0
    for row in rows:
        span = (row.start, row.end) if not is_frames else (seconds_of or {}).get(_segment(row))
        lane = lanes.setdefault(row.annotator, [])
        if span is None:
            not_placed += 1
        else:
            lane.append([span[0], span[1], row.value])
    shown: list[JSON] = [
        {"annotator": annotator, "spans": spans}
        for annotator, spans in sorted(lanes.items())[:MOST_LANES]
    ]
    return {"lanes": shown, "notes": list(_label_notes(len(lanes), not_placed))}


def _label_notes(lanes: int, not_placed: int) -> list[str]:
    notes = []
    if lanes > MOST_LANES:
        notes.append(f"labels of {lanes - MOST_LANES} more annotators are not shown")
    if not_placed:
        notes.append(
            f"{not_placed} labels count frames of the original file, and no variant of the store "
            "has their times: extract features with a row for each segment, such as c3d.segments"
        )
    return notes


def _segment(row: Annotation) -> tuple[float, float]:
    return row.start + 0.0, row.end + 0.0


def _aligned_seconds(snapshot: Snapshot, video_id: str) -> Spans | None:
    """Annotated segment in frames → its seconds, from a variant with a row for each segment."""
    table = snapshot.catalog.segments
    segments = table.segments.get(video_id, ())
    for variant in snapshot.readers_of(video_id).values():
        described = variant.reader.settings.get("segments")
        if not isinstance(described, dict) or described.get("sha256") != table.sha256:
            continue
        try:
            return _row_spans(variant.reader, video_id, segments)
        except UNREADABLE:
            continue  # the variant's own part of the page says what is wrong
    return None


def _row_spans(
    reader: VariantReader, video_id: str, segments: tuple[tuple[float, float], ...]
) -> Spans:
    video = reader[video_id]
    numbers = np.asarray(video["segment"]).tolist()
    spans = [(float(start), float(end)) for start, end in video.spans]
    return {segments[number]: span for number, span in zip(numbers, spans, strict=True)}


class StoredScores:
    """The runs of scores of one catalog; the last few stay in memory."""

    def __init__(self, store: OpenedStore) -> None:
        self._layout = store.layout
        self._kept: dict[str, tuple[int, ScoreRun]] = {}

    def lanes_json(self, video_id: str) -> dict[str, JSON]:
        """The scores of one video: a lane for each run and user."""
        lanes: list[JSON] = []
        problems: list[JSON] = []
        left_out = 0
        for name in score_run_names(self._layout):
            try:
                run = self._run(name)
            except UNREADABLE as error:
                problems.append(f"a run of scores cannot be read. {error}")
                continue
            tracks = [track for key, track in sorted(run.tracks.items()) if key[1] == video_id]
            room = MOST_LANES - len(lanes)
            left_out += max(0, len(tracks) - room)
            lanes += [_score_lane(name, run, track) for track in tracks[:room]]
        notes: list[JSON] = [f"{left_out} more score lanes are not shown"] if left_out else []
        return {"lanes": lanes, "notes": notes, "problems": problems}

    def _run(self, name: str) -> ScoreRun:
        stamp = (self._layout.scores(name) / "run.json").stat().st_mtime_ns
        kept = self._kept.get(name)
        if kept is None or kept[0] != stamp:
            kept = (stamp, read_scores(self._layout, name))
        # Put last: the first one was used longest ago.
        self._kept.pop(name, None)
        self._kept[name] = kept
        if len(self._kept) > MOST_KEPT_RUNS:
            self._kept.pop(next(iter(self._kept)))
        return kept[1]


def _score_lane(name: str, run: ScoreRun, track: ScoreTrack) -> JSON:
    provenance = run.provenance
    notes: list[JSON] = list(provenance.marks)
    if provenance.time_origin == STREAM_CLOCK:
        notes.append("times count from the stream's own clock")
    return {
        "run": name,
        "model": provenance.model,
        "user": track.user_id,
        "notes": notes,
        "spans": track.spans.tolist(),
        "scores": [float(score) for score in track.scores],
    }
