"""Notes on the quality of finished videos: damage, choice of stream or file, rescaled times.

They come from the facts in the shard manifests, which take long to read. So the notes of a manifest
are saved under its sha256, and each manifest is read once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.base.errors import IntegrityError
from storage.base.paths import VariantLayout
from storage.base.records import JSON
from storage.features.manifest import ManifestEntry
from storage.features.manifest_file import read_manifest
from storage.features.manifest_index import ShardSummary
from storage.files.atomic_write import publish
from storage.files.checksummed_json import read_sealed, seal

KIND = 4
"""Raise it when the notes change, so that the manifests are read again."""
CONTAINERS_WITH_DURATIONS = ("mov", "avi")
"""Containers whose index states how long each picture is shown: in these, a gap without any other
sign of damage is intended.
"""
_DOUBTS = {
    "frames_dropped": "pictures dropped for want of a time after the one before",
    "damaged_packets": "damaged packets",
    "damaged_pictures": "pictures in part made up by the decoder",
    "clock_jumps": "jumps of the clock, which goes on behind them",
}
"""Count of `pipeline.decoding.video_reader.DecodeSummary` → its meaning."""


@dataclass(frozen=True)
class QualityNotes:
    """Notes by id of a finished video; a video without a note is left out."""

    losses: Mapping[str, str]
    """Damaged videos: what is lost."""
    choices: Mapping[str, str]
    """Videos whose file holds several streams: which one was read."""
    rescaled: Mapping[str, str]
    """Videos with another number of frames than the annotated one: both counts."""
    files: Mapping[str, str]
    """Videos with several files in the folder, or with another one before: which was read."""
    ends: Mapping[str, str]
    """Every decoded video: the second at which its last frame ends."""


def quality_notes(
    folder: Path, layout: VariantLayout, summaries: Mapping[int, ShardSummary]
) -> QualityNotes:
    """Notes on all videos of these shards; those of each manifest are saved in `folder`."""
    path = folder / f"remarks-{layout.folder.name}.{KIND}.json"
    saved = _saved_notes(path)
    present: dict[str, JSON] = {}
    for shard, summary in summaries.items():
        key = summary.sha256
        present[key] = saved[key] if key in saved else _notes_of_shard(layout, shard)
    if present.keys() - saved.keys():
        publish(path, seal({**saved, **present}), replace=True)
    return QualityNotes(*(_merged(present, kind) for kind in _NOTES))


def _merged(notes_of_shards: Mapping[str, JSON], kind: str) -> dict[str, str]:
    """Id → note of one kind, over all shards."""
    merged: dict[str, str] = {}
    for notes in notes_of_shards.values():
        of_kind = _table(notes).get(kind)
        for video_id, note in _table(of_kind).items():
            merged[video_id] = str(note)
    return merged


def _saved_notes(path: Path) -> dict[str, JSON]:
    """Empty if the file is absent or was altered: then the manifests are read again."""
    try:
        return read_sealed(path)
    except (FileNotFoundError, IntegrityError):
        return {}


def _notes_of_shard(layout: VariantLayout, shard: int) -> dict[str, JSON]:
    """Kind of note → id → note."""
    manifest = read_manifest(layout, shard)
    entries = manifest.entries if manifest else {}
    notes: dict[str, dict[str, JSON]] = {kind: {} for kind in _NOTES}
    for kind, note_of in _NOTES.items():
        for video_id, entry in entries.items():
            note = note_of(entry)
            if note:
                notes[kind][video_id] = note
    return {**notes}


def _table(value: JSON) -> Mapping[str, Any]:
    """A JSON object; empty for any other value, since facts of old stores may lack it."""
    return value if isinstance(value, dict) else {}


def _facts(entry: ManifestEntry, name: str) -> Mapping[str, Any]:
    """The facts of this name of a finished video; empty for any other video."""
    return _table(entry.facts.get(name)) if entry.is_done else {}


def frame_loss(entry: ManifestEntry) -> str:
    """What a damaged video lost, in words; empty for a whole one."""
    if not isinstance(entry.facts.get("decode"), dict):
        return ""
    decode = _facts(entry, "decode")
    losses = [*_lost_pictures(_counts(decode)), *_doubts(_counts(decode))]
    file_damage = _file_damage(entry)
    states_durations = _facts(entry, "probe").get("container") in CONTAINERS_WITH_DURATIONS
    if losses or file_damage or not states_durations:
        losses += _gaps(decode)
    return "; ".join([*losses, *file_damage])


def _counts(decode: Mapping[str, Any]) -> dict[str, int]:
    return {name: value for name, value in decode.items() if isinstance(value, int)}


def _lost_pictures(counts: Mapping[str, int]) -> Iterator[str]:
    decoded = counts.get("frames_decoded", 0)
    declared = counts.get("frames_declared", 0)
    errors = counts.get("decode_errors", 0)
    lost = counts.get("frames_lost", 0)
    missing = max(declared - decoded, 0)
    if any((errors, lost, missing)):
        total = declared or decoded + lost or "unknown"
        yield f"{decoded} of {total} frames decoded, {errors} decoding errors"


def _doubts(counts: Mapping[str, int]) -> Iterator[str]:
    for name, meaning in _DOUBTS.items():
        if counts.get(name):
            yield f"{counts[name]} {meaning}"


def _gaps(decode: Mapping[str, Any]) -> Iterator[str]:
    gaps = decode.get("gaps_seconds")
    if not isinstance(gaps, list):
        return
    spans = [gap for gap in gaps if isinstance(gap, list)]
    if not spans:
        return
    unlisted = decode.get("gaps_unlisted")
    places = len(spans)
    if isinstance(unlisted, int):
        places += unlisted
    seconds = sum(float(end) - float(start) for start, end in spans)
    yield (
        f"no picture, or one that stood still, for {seconds:.2f} s in {places} places, "
        f"first at {spans[0][0]:.2f} s"
    )


def _file_damage(entry: ManifestEntry) -> list[str]:
    """What the container and the download say, each once."""
    of_container = _facts(entry, "decode").get("file_damage")
    of_download = _facts(entry, "source").get("damage")
    notes = [str(note) for note in (of_container, of_download) if note]
    return list(dict.fromkeys(notes))


def stream_choice(entry: ManifestEntry) -> str:
    """Which of several video streams in one file was read; empty if there is only one."""
    probe = _facts(entry, "probe")
    others = probe.get("other_streams")
    if not isinstance(others, list):
        return ""
    unread = [
        f"{stream.get('index')} ({stream.get('codec') or 'unknown codec'}, {_size(stream)})"
        for stream in map(_table, others)
        if _is_video(stream)
    ]
    if not unread:
        return ""
    read = f"{probe.get('stream_index')} ({probe.get('codec')}, {_size(probe)})"
    return (
        f"stream {read} was read; not {', '.join(unread)}: "
        "`ffmpeg -map 0:N -c copy` makes a file of one"
    )


def _is_video(stream: Mapping[str, Any]) -> bool:
    return stream.get("kind") == "video" and not stream.get("is_attached_picture")


def _size(stream: Mapping[str, Any]) -> str:
    return f"{stream.get('width')}x{stream.get('height')}"


def rescaling_note(entry: ManifestEntry) -> str:
    """Why annotated frame numbers were scaled to the file's duration; empty if they were not."""
    segments = _facts(entry, "segments")
    return str(segments.get("detail")) if segments.get("clock") == "scaled" else ""


def file_choice(entry: ManifestEntry) -> str:
    """Which of a folder's files was read, and whether another one was read before.

    Empty if the folder has one file, and no other was read before.
    """
    source = _facts(entry, "source")
    notes = []
    passed_over = source.get("passed_over")
    if isinstance(passed_over, list) and passed_over:
        notes.append(f"{source.get('taken')} was read, {', '.join(map(str, passed_over))} not")
    replaced = source.get("replaces_sha256")
    if replaced:
        notes.append(
            f"a file of sha256 {str(replaced)[:12]} was read before; "
            "features made then are of that file"
        )
    return "; ".join(notes)


def decoded_end(entry: ManifestEntry) -> str:
    """The second at which the last frame ends; empty if the facts do not say."""
    end = _facts(entry, "decode").get("end_seconds")
    return f"{end:.3f}" if isinstance(end, float) else ""


_NOTES: Mapping[str, Callable[[ManifestEntry], str]] = {
    "losses": frame_loss,
    "choices": stream_choice,
    "rescaled": rescaling_note,
    "files": file_choice,
    "ends": decoded_end,
}
"""Kind of note, in the order of `QualityNotes` → the function that makes it of an entry."""
