"""What is damaged or unusual in a decoded video, in words, from the facts that decoding gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

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
Facts = Mapping[str, Any]
"""As JSON, `decode`: a DecodeSummary; `probe`: a Probe; `source`: what a site or folder said."""


def frame_loss(facts: Facts) -> str:
    """What a damaged video lost, in words; empty for a whole one.

    `facts` are those of a finished video in its manifest: `decode`, `probe` and `source`.
    """
    if not isinstance(facts.get("decode"), dict):
        return ""
    decode = _table(facts.get("decode"))
    losses = [*_lost_pictures(_counts(decode)), *_doubts(_counts(decode))]
    file_damage = _file_damage(facts)
    states_durations = _table(facts.get("probe")).get("container") in CONTAINERS_WITH_DURATIONS
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


def _file_damage(facts: Facts) -> list[str]:
    """What the container and the download say, each once."""
    of_container = _table(facts.get("decode")).get("file_damage")
    of_download = _table(facts.get("source")).get("damage")
    notes = [str(note) for note in (of_container, of_download) if note]
    return list(dict.fromkeys(notes))


def stream_choice(facts: Facts) -> str:
    """Which of several video streams in one file was read; empty if there is only one."""
    probe = _table(facts.get("probe"))
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


def _table(value: Any) -> Mapping[str, Any]:
    """A JSON object; empty for any other value, since facts of old stores may lack it."""
    return value if isinstance(value, dict) else {}
