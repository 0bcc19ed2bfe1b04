"""What the account tells of videos that are done, but not as one would wish: damaged, of several
films, rescaled.

It stands in the facts of the sidecars, which take long to read; so what was found in one is kept
under its sha256, and a sidecar is read once. Refuses to know verdicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from storage.base.errors import IntegrityError
from storage.base.paths import VariantLayout
from storage.base.records import JSON
from storage.features.manifest import ManifestEntry
from storage.features.manifest_file import read_manifest
from storage.features.manifest_index import ShardSummary
from storage.files.atomic_write import publish
from storage.files.checksummed_json import read_sealed, seal

KIND = 3
"""Raised when remarks are made otherwise, so that sidecars are read again."""


@dataclass(frozen=True)
class QualityNotes:
    """By id of a done video."""

    losses: Mapping[str, str]
    """What a damaged one lost."""
    choices: Mapping[str, str]
    """One whose file holds several films: which was read."""
    rescaled: Mapping[str, str]
    """One with another number of frames than was annotated: the counts."""
    files: Mapping[str, str]
    """One for which a folder has several files, or had another before."""


def remarks_on(
    folder: Path, layout: VariantLayout, found: Mapping[int, ShardSummary]
) -> QualityNotes:
    """On all videos of these shards; what had to be read is kept in `folder`."""
    path = folder / f"remarks-{layout.folder.name}.{KIND}.json"
    known = _kept(path)
    fresh = {
        one.sha256: known[one.sha256] if one.sha256 in known else _read(layout, shard)
        for shard, one in found.items()
    }
    if fresh.keys() - known.keys():
        publish(path, seal({**known, **fresh}), replace=True)
    return QualityNotes(*(_joined(fresh, name) for name in _TOLD))


def _joined(kept: Mapping[str, JSON], name: str) -> dict[str, str]:
    every = [one[name] for one in kept.values() if isinstance(one, dict)]
    return {
        video_id: str(told)
        for one in every
        if isinstance(one, dict)
        for video_id, told in one.items()
    }


def _kept(path: Path) -> dict[str, JSON]:
    """Empty if there is nothing, or if it was altered: then the sidecars are read again."""
    try:
        return read_sealed(path)
    except (FileNotFoundError, IntegrityError):
        return {}


def _read(layout: VariantLayout, shard: int) -> dict[str, JSON]:
    manifest = read_manifest(layout, shard)
    entries = manifest.entries if manifest else {}
    return {
        name: {i: told for i, entry in entries.items() if (told := tell(entry))}
        for name, tell in _TOLD.items()
    }


TELL_DURATIONS = ("mov", "avi")
"""Containers whose index knows every picture and how long it stands: alone, a gap in one of them is
no loss.
"""


def frame_loss(entry: ManifestEntry) -> str:
    """What a damaged video lost, in words; empty for a whole one."""
    decode = entry.facts.get("decode")
    if not entry.is_done or not isinstance(decode, dict):
        return ""
    counts = {name: value for name, value in decode.items() if isinstance(value, int)}
    sure = [*_lost_pictures(counts), *_doubts(counts)]
    of_file = [*_file_damage(entry)]
    probe = entry.facts.get("probe")
    stands_still = isinstance(probe, dict) and probe.get("container") in TELL_DURATIONS
    return "; ".join(
        [*sure, *(_gaps(decode) if sure or of_file or not stands_still else ()), *of_file]
    )


def _lost_pictures(counts: Mapping[str, int]) -> Iterator[str]:
    decoded, declared, errors = (
        counts.get(name, 0) for name in ("frames_decoded", "frames_declared", "decode_errors")
    )
    lost = counts.get("frames_lost", 0)
    if errors or lost or decoded < declared:
        yield f"{decoded} of {declared or decoded + lost or 'unknown'} frames decoded, {errors} decoding errors"


_DOUBTS = {
    "frames_dropped": "pictures dropped for want of a time after the one before",
    "damaged_packets": "damaged packets",
    "damaged_pictures": "pictures in part made up by the decoder",
    "clock_jumps": "jumps of the clock, which goes on behind them",
}
"""Count of `pipeline.decoding.video_reader.DecodeSummary` → what it counts."""


def _doubts(counts: Mapping[str, int]) -> Iterator[str]:
    yield from (f"{counts[name]} {what}" for name, what in _DOUBTS.items() if counts.get(name))


def _gaps(decode: Mapping[str, JSON]) -> Iterator[str]:
    gaps = decode.get("gaps_seconds")
    spans = [gap for gap in gaps if isinstance(gap, list)] if isinstance(gaps, list) else []
    if not spans:
        return
    unlisted = decode.get("gaps_unlisted")
    places = len(spans) + (unlisted if isinstance(unlisted, int) else 0)
    seconds = sum(float(str(end)) - float(str(start)) for start, end in spans)
    yield f"no picture, or one that stood still, for {seconds:.2f} s in {places} places, first at {spans[0][0]:.2f} s"


def _file_damage(entry: ManifestEntry) -> Iterator[str]:
    decode, source = entry.facts.get("decode"), entry.facts.get("source")
    told = [decode.get("file_damage") if isinstance(decode, dict) else ""]
    told.append(source.get("damage") if isinstance(source, dict) else "")
    yield from dict.fromkeys(str(one) for one in told if one)


def choice_of(entry: ManifestEntry) -> str:
    """Which of several films in one file was read, in words; empty where there is one."""
    probe = entry.facts.get("probe")
    if not entry.is_done or not isinstance(probe, dict):
        return ""
    listed = probe.get("other_streams")
    others = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    left = [
        f"{one.get('index')} ({one.get('codec') or 'unknown codec'}, {one.get('width')}x{one.get('height')})"
        for one in others
        if one.get("kind") == "video" and not one.get("is_attached_picture")
    ]
    if not left:
        return ""
    film = f"{probe.get('stream_index')} ({probe.get('codec')}, {probe.get('width')}x{probe.get('height')})"
    return f"stream {film} was read; not {', '.join(left)}: `ffmpeg -map 0:N -c copy` makes a file of one"


def rescaling_of(entry: ManifestEntry) -> str:
    """Why a video's annotated frame numbers were scaled to the file's duration; empty if they were
    not.
    """
    segments = entry.facts.get("segments")
    if not entry.is_done or not isinstance(segments, dict) or segments.get("clock") != "scaled":
        return ""
    return str(segments.get("detail"))


def files_of(entry: ManifestEntry) -> str:
    """Which of a folder's files was read, and that another one was read before, in words; empty if
    neither is so.
    """
    source = entry.facts.get("source")
    if not entry.is_done or not isinstance(source, dict):
        return ""
    told = []
    passed_over = source.get("passed_over")
    if isinstance(passed_over, list) and passed_over:
        told.append(f"{source.get('taken')} was read, {', '.join(map(str, passed_over))} not")
    if before := source.get("replaces_sha256"):
        told.append(
            f"a file of sha256 {str(before)[:12]} was read before; features made then are of that"
        )
    return "; ".join(told)


_TOLD: Mapping[str, Callable[[ManifestEntry], str]] = {
    "losses": frame_loss,
    "choices": choice_of,
    "rescaled": rescaling_of,
    "files": files_of,
}
"""Name of a kind of remarks, in the order of `QualityNotes` → what tells one of an entry."""
