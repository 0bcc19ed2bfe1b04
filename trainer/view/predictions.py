"""Stored predictions of a video for a person: segments, and the liked clips with their weights.

`python -m trainer predict` keeps them as JSON in the catalog's `report/`. The files have no
checksum, so every field is checked before it is shown.
"""

from __future__ import annotations

import math
from pathlib import Path

from storage.base.errors import IntegrityError
from storage.base.paths import Layout, video_stem
from storage.base.records import JSON
from storage.files.checksummed_json import parse_json_object
from trainer.view.opened_store import UNREADABLE

MOST_PREDICTIONS = 8
MOST_BYTES = 64 * 2**20
_NO_WEIGHTS = (
    "no attention is stored with this prediction: its model has none, so the liked clips are "
    "shown without weights"
)


def predictions_json(layout: Layout, video_id: str) -> dict[str, JSON]:
    """The stored predictions of one video, the newest first."""
    found: list[JSON] = []
    problems: list[JSON] = []
    paths = list(layout.report.glob(f"{video_stem(video_id)}.*.json"))
    paths.sort(key=lambda path: (-path.stat().st_mtime_ns, path.name))
    for path in paths[:MOST_PREDICTIONS]:
        try:
            found.append(_read(path, video_id))
        except UNREADABLE as error:
            problems.append(f"a prediction cannot be read. {error}")
    left_out = len(paths) - len(paths[:MOST_PREDICTIONS])
    notes: list[JSON] = [f"{left_out} older predictions are not shown"] if left_out else []
    return {"predictions": found, "notes": notes, "problems": problems}


def _read(path: Path, video_id: str) -> JSON:
    size_bytes = path.stat().st_size
    if size_bytes > MOST_BYTES:
        raise IntegrityError(path, f"has {size_bytes:,} bytes; at most {MOST_BYTES:,} are read")
    content = parse_json_object(path, path.read_bytes())
    try:
        return _checked(content, video_id)
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(
            path, f"is not a prediction of this video ({error}); predict again"
        ) from error


def _checked(content: dict[str, JSON], video_id: str) -> JSON:
    if content["video_id"] != video_id:
        raise ValueError(f"it is about {content['video_id']!r}")
    segments = [_segment(row) for row in _list(content["segments"])]
    history = [_clip(row, len(segments)) for row in _list(content["history"])]
    notes = [_text(note) for note in _list(content["notes"])]
    has_attention = any(clip["weights"] for clip in history)
    if history and not has_attention:
        notes.append(_NO_WEIGHTS)
    answer: dict[str, JSON] = {
        "person": _text(content["person"]),
        "model": _text(content["model"]),
        "checkpoint_sha256": _text(content["checkpoint_sha256"]),
        "segments": list(segments),
        "marked": [_pair(row) for row in _list(content["marked"])],
        "history": list(history),
        "has_attention": has_attention,
        "notes": list(notes),
    }
    return answer


def _segment(row: JSON) -> JSON:
    fields = _object(row)
    start, end = _pair([fields["start"], fields["end"]])
    return {
        "start": start,
        "end": end,
        "score": _number(fields["score"]),
        "rank": int(_number(fields["rank"])),
    }


def _clip(row: JSON, n_segments: int) -> dict[str, JSON]:
    fields = _object(row)
    start, end = _pair([fields["start"], fields["end"]])
    weights: dict[str, JSON] = {}
    for kind, values in _object(fields["weights"]).items():
        numbers = [_number(value) for value in _list(values)]
        if len(numbers) != n_segments:
            raise ValueError(f"{len(numbers)} weights {kind!r} for {n_segments} segments")
        weights[kind] = list(numbers)
    return {"video_id": _text(fields["video_id"]), "start": start, "end": end, "weights": weights}


def _pair(row: JSON) -> list[JSON]:
    start, end = map(_number, _list(row))
    if not start < end:
        raise ValueError(f"a span must have start < end, got {start}, {end}")
    return [start, end]


def _number(value: JSON) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)


def _text(value: JSON) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value


def _list(value: JSON) -> list[JSON]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list")
    return value


def _object(value: JSON) -> dict[str, JSON]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is not an object")
    return value
