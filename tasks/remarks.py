"""What the account tells of videos that are done, but not as one would wish: damaged ones, and rescaled annotations.

It stands in the facts of the sidecars, which take long to read; so what was found in one is kept under its sha256,
and a sidecar is read once. Refuses to know verdicts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from storage.account import Entry
from storage.atomic import publish
from storage.errors import IntegrityError
from storage.index import Summary
from storage.layout import VariantLayout
from storage.records import JSON
from storage.sealed import seal, unseal
from storage.sidecar import read_sidecar


@dataclass(frozen=True)
class Remarks:
    """By id of a done video."""

    losses: Mapping[str, str]
    """What a damaged one lost."""
    rescaled: Mapping[str, str]
    """One with another number of frames than was annotated: the counts."""


def remarks_on(folder: Path, layout: VariantLayout, found: Mapping[int, Summary]) -> Remarks:
    """On all videos of these shards; what had to be read is kept in `folder`."""
    path = folder / f"remarks-{layout.folder.name}.json"
    known = _kept(path)
    fresh = {
        one.sha256: known[one.sha256] if one.sha256 in known else _read(layout, shard) for shard, one in found.items()
    }
    if fresh.keys() - known.keys():
        publish(path, seal({**known, **fresh}), replace=True)
    return Remarks(_joined(fresh, "losses"), _joined(fresh, "rescaled"))


def _joined(kept: Mapping[str, JSON], name: str) -> dict[str, str]:
    every = [one[name] for one in kept.values() if isinstance(one, dict)]
    return {video_id: str(told) for one in every if isinstance(one, dict) for video_id, told in one.items()}


def _kept(path: Path) -> dict[str, JSON]:
    """Empty if there is nothing, or if it was altered: then the sidecars are read again."""
    try:
        return unseal(path, path.read_bytes())
    except (FileNotFoundError, IntegrityError):
        return {}


def _read(layout: VariantLayout, shard: int) -> dict[str, JSON]:
    sidecar = read_sidecar(layout, shard)
    entries = sidecar.entries if sidecar else {}
    return {
        "losses": {video_id: loss for video_id, entry in entries.items() if (loss := loss_of(entry))},
        "rescaled": {video_id: told for video_id, entry in entries.items() if (told := rescaling_of(entry))},
    }


def loss_of(entry: Entry) -> str:
    """What a damaged video lost, in words; empty for a whole one."""
    decode = entry.facts.get("decode")
    if not entry.is_done or not isinstance(decode, dict):
        return ""
    counts = {name: value for name, value in decode.items() if isinstance(value, int)}
    decoded, declared, errors = (counts.get(name, 0) for name in ("frames_decoded", "frames_declared", "decode_errors"))
    if not errors and decoded >= declared:
        return ""
    return f"{decoded} of {declared or 'unknown'} frames decoded, {errors} decoding errors"


def rescaling_of(entry: Entry) -> str:
    """Why a video's annotated frame numbers were scaled to the file's duration; empty if they were not."""
    segments = entry.facts.get("segments")
    if not entry.is_done or not isinstance(segments, dict) or segments.get("clock") != "scaled":
        return ""
    return str(segments.get("detail"))
