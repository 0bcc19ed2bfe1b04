"""Compares media records with the files beside them, and seals the records of earlier releases.

Where a file of a folder elsewhere lies is not in its record, so that one is counted and not looked
at. Refuses to know sources, and what a record's facts mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from storage.base.errors import IntegrityError
from storage.base.paths import Layout, video_stem
from storage.base.records import JSON
from storage.catalog.catalog import Catalog
from storage.features.media_records import decode_media_record, encode_media_record
from storage.files.atomic_write import publish, size_and_sha256
from storage.maintenance.audit import AuditFinding, FindingKind

_DONE = "done"


@dataclass(frozen=True)
class MediaAudit:
    """What was found out about the media of a catalog."""

    counts: Mapping[str, int]
    """`records`, `files` compared, files `elsewhere` in a folder, files `gone`, records
    `unsealed`.
    """
    findings: tuple[AuditFinding, ...]

    def __str__(self) -> str:
        told = {
            "records": "records",
            "files": "files are there",
            "elsewhere": "files lie in a folder elsewhere",
            "gone": "files are gone, and are fetched again if they are wanted",
            "unsealed": "records are of an earlier release and not sealed: run `python -m storage seal`",
        }
        return "media: " + ", ".join(
            f"{self.counts[name]} {text}" for name, text in told.items() if self.counts[name]
        )


def audit_media(layout: Layout, catalog: Catalog, *, media: bool) -> MediaAudit:
    """Check every media record of a catalog, and the size of each file; with `media` its sha256
    too, which reads it.
    """
    counts: Counter[str] = Counter()
    findings: list[AuditFinding] = []
    for shard in range(catalog.shard_count):
        stems = {video_stem(video_id): video_id for video_id in catalog.shard_ids(shard)}
        for path in _records(layout, shard):
            counts["records"] += 1
            video_ids = (stems[path.stem],) if path.stem in stems else ()
            if not video_ids:
                findings.append(
                    AuditFinding(
                        FindingKind.LEFTOVER, path, f"is the record of no video of shard {shard}"
                    )
                )
            for kind, about, problem in _compared(path, counts, media=media):
                findings.append(AuditFinding(kind, about, problem, video_ids=video_ids))
    return MediaAudit(counts, tuple(findings))


def seal_media_records(layout: Layout, catalog: Catalog) -> int:
    """Seal the records of earlier releases, as they are; returns how many. Raises IntegrityError
    for a damaged one.
    """
    sealed = 0
    for shard in range(catalog.shard_count):
        for path in _records(layout, shard):
            record, is_sealed = decode_media_record(path, path.read_bytes())
            if not is_sealed:
                publish(path, encode_media_record(record), replace=True)
                sealed += 1
    return sealed


def _records(layout: Layout, shard: int) -> list[Path]:
    folder = layout.media_folder(shard)
    return sorted(folder.glob("v_*.json")) if folder.is_dir() else []


def _compared(
    path: Path, counts: Counter[str], *, media: bool
) -> Iterator[tuple[FindingKind, Path, str]]:
    try:
        record, is_sealed = decode_media_record(path, path.read_bytes())
        counts["unsealed"] += not is_sealed
        stated = _file_of(path, record)
    except IntegrityError as error:
        yield FindingKind.MEDIA_RECORD, path, error.problem
        return
    if stated is None:
        return
    file, size_bytes, sha256 = stated
    if not file.is_file():
        counts["elsewhere" if record["asked"] == "folder" else "gone"] += 1
        return
    counts["files"] += 1
    if (found := file.stat().st_size) != size_bytes:
        yield FindingKind.MEDIA, file, f"has {found:,} bytes, its record says {size_bytes:,}"
    elif media and size_and_sha256(file)[1] != sha256:
        yield FindingKind.MEDIA, file, "was altered: its sha256 is not what its record says"


def _file_of(path: Path, record: Mapping[str, JSON]) -> tuple[Path, int, str] | None:
    """Where the record's file would lie, its size and sha256; None if there is none."""
    if record.get("state") != _DONE:
        return None
    suffix, size_bytes, sha256 = (
        record.get("suffix"),
        record.get("size_bytes"),
        record.get("sha256"),
    )
    if (
        not isinstance(suffix, str)
        or "/" in suffix
        or not isinstance(size_bytes, int)
        or not isinstance(sha256, str)
    ):
        raise IntegrityError(
            path, f"is no media record: its file is {suffix!r}, {size_bytes!r}, {sha256!r}"
        )
    return path.with_name(path.stem + suffix), size_bytes, sha256
