"""What is known of one video: its file, variants, labels, scores, predictions and pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from storage.base.errors import LookupFailed
from storage.base.records import JSON, Array
from storage.features.part_reader import ArrayFormat
from trainer.view.feature_strips import PICTURES
from trainer.view.lanes import StoredScores, labels_json
from trainer.view.media import MediaFile, NoMedia, find_media
from trainer.view.opened_store import UNREADABLE, OpenVariant, Snapshot
from trainer.view.overlays import CLASSES, KINDS, overlay_arrays
from trainer.view.predictions import predictions_json
from trainer.view.video_list import duration_of, short_state

_JPEG_START = b"\xff\xd8\xff"


def details_json(snapshot: Snapshot, scores: StoredScores, video_id: str) -> dict[str, JSON]:
    """Everything of a video but its rows. Raises LookupFailed for an id of another catalog."""
    check_id(snapshot, video_id)
    seconds, source = duration_of(snapshot, video_id)
    variants: list[JSON] = [
        _variant_json(name, variant, video_id) for name, variant in snapshot.variants.items()
    ]
    metadata: dict[str, JSON] = dict(snapshot.catalog.shareable_metadata.get(video_id, {}))
    return {
        "id": video_id,
        "title": snapshot.title(video_id),
        "metadata": metadata,
        "duration_seconds": seconds,
        "duration_is": source,
        "end_seconds": _end_of_rows(snapshot, video_id),
        **recorded_facts(snapshot, video_id),
        "media": media_json(media_of(snapshot, video_id)),
        "variants": variants,
        "pictures": pictures_json(snapshot, video_id),
        "labels": labels_json(snapshot, video_id),
        "scores": scores.lanes_json(video_id),
        "predictions": _predictions(snapshot, video_id),
        "classes": list(CLASSES),
        "problems": list(snapshot.problems),
    }


def _predictions(snapshot: Snapshot, video_id: str) -> dict[str, JSON]:
    """The stored predictions; each liked clip says whether its video and a picture are here."""
    answer = predictions_json(snapshot.layout, video_id)
    for clip in liked_clips(answer):
        liked = str(clip["video_id"])
        is_known = liked in snapshot.ids
        clip["has_media"] = is_known and isinstance(media_of(snapshot, liked), MediaFile)
        clip["has_picture"] = is_known and _pictures(snapshot, liked) is not None
    return answer


def liked_clips(predictions: Mapping[str, JSON]) -> Iterator[dict[str, JSON]]:
    """Every liked clip of an answer of `predictions_json`."""
    found = predictions["predictions"]
    for one in found if isinstance(found, list) else []:
        history = one.get("history") if isinstance(one, dict) else None
        for clip in history if isinstance(history, list) else []:
            if isinstance(clip, dict):
                yield clip


def check_id(snapshot: Snapshot, video_id: str) -> None:
    """Raise LookupFailed unless it is an id of the catalog."""
    if video_id not in snapshot.ids:
        raise LookupFailed(f"{snapshot.catalog.name} has no video {video_id!r}")


def media_of(snapshot: Snapshot, video_id: str) -> MediaFile | NoMedia:
    """The file of a video of the catalog. Raises LookupFailed for any other id."""
    check_id(snapshot, video_id)
    try:
        return find_media(snapshot.layout, video_id, snapshot.catalog.shard_count)
    except OSError as error:
        return NoMedia(f"its file cannot be read: {error.strerror}")


def media_json(media: MediaFile | NoMedia) -> dict[str, JSON]:
    """Whether there is a file, and its type or why not."""
    if isinstance(media, NoMedia):
        return {"is_available": False, "reason": media.reason}
    return {
        "is_available": True,
        "content_type": media.content_type,
        "size_bytes": media.size_bytes,
        "notes": list(media.notes),
    }


def _variant_json(name: str, variant: OpenVariant, video_id: str) -> JSON:
    status = variant.statuses.get(video_id)
    answer: dict[str, JSON] = {
        "name": name,
        "state": short_state(status),
        "detail": status.detail if status else "",
        "weights": variant.weights,
        "notes": list(variant.notes),
        "rows": None,
        "arrays": [],
        "overlays": [],
        "problem": "",
    }
    if video_id not in variant.reader:
        return answer
    try:
        video = variant.reader[video_id]
        arrays: list[JSON] = [_array_text(array, video[array].format) for array in video.arrays]
        overlays: list[JSON] = [
            {"array": array, "kind": KINDS[array]} for array in overlay_arrays(video)
        ]
        return {**answer, "rows": video.rows, "arrays": arrays, "overlays": overlays}
    except UNREADABLE as error:
        return {**answer, "problem": str(error)}


def _array_text(name: str, form: ArrayFormat) -> str:
    """Name, shape of a row's item and type: `boxes (any number × 5) float32`."""
    sides = ["any number"] if form.ragged else []
    shape = " × ".join([*sides, *map(str, form.item_shape)]) or "1"
    return f"{name} ({shape}) {form.dtype}"


def _end_of_rows(snapshot: Snapshot, video_id: str) -> float | None:
    """The latest end of a row in any variant, in seconds."""
    ends: list[float] = []
    for variant in snapshot.readers_of(video_id).values():
        try:
            spans = variant.reader[video_id].spans
        except UNREADABLE:
            continue  # the variant's own entry says what is wrong
        if len(spans):
            ends.append(float(spans[:, 1].max()))
    return max(ends, default=None)


def recorded_facts(snapshot: Snapshot, video_id: str) -> dict[str, JSON]:
    """What decoding recorded of the file; None for what no variant recorded.

    `frame_size`: width and height of a decoded, upright frame. `container_start_seconds`: the
    container's start on its own clock; browsers show times on that clock, rows count from its
    start. `first_frame_seconds`: the first frame, since the container's start.
    """
    answer: dict[str, JSON] = dict.fromkeys(
        ("frame_size", "container_start_seconds", "first_frame_seconds")
    )
    for variant in snapshot.readers_of(video_id).values():
        try:
            facts = variant.reader.entry(video_id).facts
        except UNREADABLE:
            continue  # the variant's own entry says what is wrong
        probe, decode = facts.get("probe"), facts.get("decode")
        if isinstance(probe, dict):
            answer["frame_size"] = _upright_size(probe)
            answer["container_start_seconds"] = _number(probe.get("container_start_seconds"))
            first = decode.get("first_pts_seconds") if isinstance(decode, dict) else None
            answer["first_frame_seconds"] = _number(first)
            break
    return answer


def _number(value: JSON) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None  # type: ignore[arg-type]


def _upright_size(probe: Mapping[str, JSON]) -> list[JSON] | None:
    width, height, matrix = (probe.get(key) for key in ("width", "height", "display_matrix"))
    if not isinstance(width, int) or not isinstance(height, int) or min(width, height) < 1:
        return None
    # Frames are turned upright before extractors see them; the probe has the stored size.
    is_turned = isinstance(matrix, list) and matrix[:1] == [0]
    return [height, width] if is_turned else [width, height]


def pictures_json(snapshot: Snapshot, video_id: str) -> JSON:
    """The variant with stored pictures, and the spans of its rows; None if there is none."""
    found = _pictures(snapshot, video_id)
    if found is None:
        return None
    name, spans = found
    return {"variant": name, "spans": spans.tolist()}


def _pictures(snapshot: Snapshot, video_id: str) -> tuple[str, NDArray[np.float64]] | None:
    """The first variant that has pictures of the video."""
    for name, variant in snapshot.readers_of(video_id).items():
        try:
            video = variant.reader[video_id]
            if PICTURES in video.arrays and video.rows:
                return name, video.spans
        except UNREADABLE:
            continue
    return None


def picture(snapshot: Snapshot, video_id: str, seconds: float) -> bytes:
    """The stored JPEG shown at a time: of the last row that begins by then, or the first row.

    Raises LookupFailed if there is none, and ValueError if the row is not a JPEG.
    """
    check_id(snapshot, video_id)
    found = _pictures(snapshot, video_id)
    if found is None:
        raise LookupFailed(f"no variant has pictures of {video_id}")
    name, spans = found
    # Times in addresses are rounded to microseconds.
    row = int(np.searchsorted(spans[:, 0], seconds + 1e-6, side="right")) - 1
    return jpeg_of(snapshot.variants[name].reader[video_id][PICTURES][max(row, 0)])


def jpeg_of(values: object) -> bytes:
    """The bytes of a stored picture. Raises ValueError for anything but a JPEG."""
    array: Array = np.asarray(values)
    content = array.astype(np.uint8).tobytes()
    if not content.startswith(_JPEG_START):
        raise ValueError("a stored picture is not a JPEG file")
    return content
