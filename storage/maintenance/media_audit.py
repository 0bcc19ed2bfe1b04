"""Compares media records with the files beside them, and seals records of earlier releases.

A file of a user's own folder lies elsewhere, and its record does not say where, so it is counted
and not looked at.
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
    """The result of an audit of a catalog's media."""

    counts: Mapping[str, int]
    """`records`, compared `files`, files `elsewhere`, files `gone`, `unsealed` records."""
    findings: tuple[AuditFinding, ...]

    def __str__(self) -> str:
        texts = {
            "records": "records",
            "files": "files are there",
            "elsewhere": "files lie in a folder elsewhere",
            "gone": "files are gone, and are fetched again if they are wanted",
            "unsealed": (
                "records are of an earlier release and not sealed: run `python -m storage seal`"
            ),
        }
        counted = [
            f"{self.counts[name]} {text}" for name, text in texts.items() if self.counts[name]
        ]
        return f"media: {', '.join(counted)}"


def audit_media(layout: Layout, catalog: Catalog, *, media: bool) -> MediaAudit:
    """Check every media record of a catalog, and the size of each file.

    With `media` each file is read too, and its sha256 compared.
    """
    counts: Counter[str] = Counter()
    findings: list[AuditFinding] = []
    for shard in range(catalog.shard_count):
        id_of_stem = {video_stem(video_id): video_id for video_id in catalog.shard_ids(shard)}
        for path in _records(layout, shard):
            counts["records"] += 1
            video_ids: tuple[str, ...] = ()
            if path.stem in id_of_stem:
                video_ids = (id_of_stem[path.stem],)
            else:
                problem = f"is not the record of a video of shard {shard}"
                findings.append(AuditFinding(FindingKind.LEFTOVER, path, problem))
            findings += _check_record(path, video_ids, counts, media=media)
    return MediaAudit(counts, tuple(findings))


def seal_media_records(layout: Layout, catalog: Catalog) -> int:
    """Seal the records of earlier releases, as they are; returns how many.

    Raises IntegrityError for a damaged record.
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


def _check_record(
    path: Path, video_ids: tuple[str, ...], counts: Counter[str], *, media: bool
) -> Iterator[AuditFinding]:
    """Check a record and its file; adds to `counts`."""
    try:
        record, is_sealed = decode_media_record(path, path.read_bytes())
        counts["unsealed"] += not is_sealed
        stated = _file_of(path, record)
    except IntegrityError as error:
        yield AuditFinding(FindingKind.MEDIA_RECORD, path, error.problem, video_ids=video_ids)
        return
    if stated is None:
        return
    if not stated.path.is_file():
        # Its record does not say where in the user's folder it lies.
        counts["elsewhere" if record["asked"] == "folder" else "gone"] += 1
        return
    counts["files"] += 1
    problem = _problem_of_file(stated, media=media)
    if problem:
        yield AuditFinding(FindingKind.MEDIA, stated.path, problem, video_ids=video_ids)


@dataclass(frozen=True)
class _StatedFile:
    """A media file as its record describes it."""

    path: Path
    size_bytes: int
    sha256: str


def _problem_of_file(stated: _StatedFile, *, media: bool) -> str:
    """Empty if the file is as its record says."""
    size_bytes = stated.path.stat().st_size
    if size_bytes != stated.size_bytes:
        return f"has {size_bytes:,} bytes, its record says {stated.size_bytes:,}"
    if media and size_and_sha256(stated.path)[1] != stated.sha256:
        return "was altered: its sha256 is not what its record says"
    return ""


def _file_of(path: Path, record: Mapping[str, JSON]) -> _StatedFile | None:
    """The file that a record describes; None if the video was not fetched."""
    if record.get("state") != _DONE:
        return None
    suffix = record.get("suffix")
    size_bytes = record.get("size_bytes")
    sha256 = record.get("sha256")
    # A slash in the suffix would lead out of the folder.
    is_suffix = isinstance(suffix, str) and "/" not in suffix
    if not is_suffix or not isinstance(size_bytes, int) or not isinstance(sha256, str):
        raise IntegrityError(
            path, f"is not a media record: its file is {suffix!r}, {size_bytes!r}, {sha256!r}"
        )
    return _StatedFile(path.with_name(f"{path.stem}{suffix}"), size_bytes, sha256)
