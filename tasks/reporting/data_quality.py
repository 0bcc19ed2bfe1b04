"""Notes on the quality of finished videos: damage, choice of stream or file, rescaled times.

They come from the facts in the shard manifests, which take long to read. So the notes of a manifest
are saved under its sha256, and each manifest is read once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.diagnostics import video_quality
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
    ends: Mapping[str, str] = field(default_factory=dict)
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
    return video_quality.frame_loss(entry.facts) if entry.is_done else ""


def stream_choice(entry: ManifestEntry) -> str:
    """Which of several video streams in one file was read; empty if there is only one."""
    return video_quality.stream_choice(entry.facts) if entry.is_done else ""


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
