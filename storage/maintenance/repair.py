"""Repairs what an audit found: rebuilds manifests and checksums, sets damaged files aside.

Damaged parts and media are renamed to `*.damaged`, never deleted; parts that no manifest names are
taken in. Ids whose rows are lost lose their status, so the next run processes them again. A shard
that another process builds is not touched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from storage.base.errors import IntegrityError, LookupFailed
from storage.base.paths import (
    Layout,
    VariantLayout,
    part_number,
    part_of_checksums,
    shard_and_number,
)
from storage.base.records import CONTAINER_START, JSON
from storage.catalog.catalog import Catalog, read_catalog
from storage.features.manifest import ManifestEntry, PartRecord, ShardManifest
from storage.features.manifest_file import write_manifest
from storage.features.manifest_index import refresh_index
from storage.features.part_reader import PartReader, part_files
from storage.features.store import variant_layouts
from storage.files.atomic_write import remove, remove_stale_temporaries, size_and_sha256
from storage.files.file_lock import Notify, check_held, lease, remove_dead_leases
from storage.files.os_errors import disk_fault
from storage.maintenance.audit import (
    AuditFinding,
    FindingKind,
    audit_shard,
    audit_variant,
)
from storage.maintenance.media_audit import audit_media
from storage.maintenance.sealing import seal_part

_REPAIRABLE = frozenset(
    {FindingKind.MANIFEST, FindingKind.PART, FindingKind.CHECKSUMS, FindingKind.ORPHAN}
)


def repair(folder: Path, *, deep: bool, notify: Notify | None = None) -> list[str]:
    """Repair the catalog kept in `folder` (`ROOT/<catalog>`); returns a line for each change.

    With `deep` every byte is read to find damage, as in `audit`.

    Raises:
        LeaseHeld: a shard that needs repair is being built. With `notify` the lease is first
            watched for signs of life, as `lease` does.
    """
    catalog = read_catalog(folder)
    layout = Layout(folder.absolute().parent, folder.absolute().name)
    report: list[str] = []
    for variant in variant_layouts(folder):
        # In a renamed folder every part would look like another variant's, and be set aside.
        original_name = _original_name(variant)
        if original_name is None:
            report += _repair_variant(layout, variant, catalog, deep=deep, notify=notify)
        else:
            report.append(
                f"left {variant.folder} as it is: all its parts are of {original_name}, so it was "
                f"renamed, or copied here. Name it {original_name} again, or delete it if that "
                "exists"
            )
    return report + _remove_leftovers(layout)


def _repair_variant(
    layout: Layout, variant: VariantLayout, catalog: Catalog, *, deep: bool, notify: Notify | None
) -> list[str]:
    findings = audit_variant(variant, catalog, deep=deep).findings
    report = _set_settings_aside(findings)
    for shard in sorted({finding.shard for finding in findings if finding.shard is not None}):
        with lease(layout.lease(shard), notify=notify):
            report += _ShardRepair(variant, catalog, shard).run(deep=deep)
    report += _remove_stray_checksums(variant)
    if any(finding.kind is FindingKind.MANIFEST for finding in findings):
        # It may name a shard of which nothing is left, which would count as a lost manifest.
        remove(variant.index_file)
    refresh_index(variant)
    return report


def repair_media(layout: Layout, catalog: Catalog, *, media: bool) -> list[str]:
    """Set damaged media and media records aside, so that the next run fetches them again."""
    report: list[str] = []
    for finding in audit_media(layout, catalog, media=media).findings:
        if finding.is_violation:
            aside = set_aside(finding.path)
            report.append(
                f"set {finding.path} aside as {aside.name}; a run that wants it fetches it again"
            )
    return report


def _original_name(variant: VariantLayout) -> str | None:
    """The folder's name when its parts were written, if all readable parts agree on another one."""
    names: set[str] = set()
    for path in variant.folder.iterdir():
        _, number = shard_and_number(path.name) or (None, None)
        if number is None:
            continue  # not a part
        with contextlib.suppress(IntegrityError):
            header = PartReader(path).header
            names.add(f"{header.variant}-{header.fingerprint}")
    if len(names) != 1 or variant.folder.name in names:
        return None
    return names.pop()


def _set_settings_aside(findings: Sequence[AuditFinding]) -> list[str]:
    report: list[str] = []
    for finding in findings:
        if finding.kind is FindingKind.SETTINGS and finding.path.exists():
            aside = set_aside(finding.path)
            report.append(
                f"set {finding.path} aside as {aside.name}; the next run with the same settings "
                "writes it anew"
            )
    return report


def _remove_stray_checksums(variant: VariantLayout) -> list[str]:
    """Remove checksum files whose part does not exist."""
    report: list[str] = []
    for name in sorted(path.name for path in variant.folder.iterdir()):
        part_file = part_of_checksums(name)
        if part_file is None:
            continue
        if not (variant.folder / part_file).exists():
            remove(variant.folder / name)
            report.append(f"removed {name}, since its part does not exist")
    return report


def set_aside(path: Path) -> Path:
    """Rename a damaged file to `*.damaged`, so that nothing reads it; returns its new path."""
    number = 0
    aside = path.with_name(f"{path.name}.damaged")
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.{number}.damaged")
    # A damaged file of a shard that another process took over is not ours to rename.
    check_held()
    try:
        path.rename(aside)
    except OSError as error:
        raise disk_fault(error, path) from error
    return aside


def _remove_leftovers(layout: Layout) -> list[str]:
    """Remove leases and temporaries of dead processes; returns a line for each."""
    lease_folder = layout.lease(0).parent
    leases = remove_dead_leases(lease_folder)
    # Processes of another boot look the same dead or alive; without any lease none can be writing.
    is_unused = not any(lease_folder.glob("*.lease*"))
    temporaries = remove_stale_temporaries(layout.folder, other_boots=is_unused)
    for folder in sorted(layout.folder.rglob("*")):
        if folder.is_dir():
            temporaries += remove_stale_temporaries(folder, other_boots=is_unused)
    return [f"removed {path}, which a dead process left" for path in temporaries + leases]


class _ShardRepair:
    """The repair of one shard; the caller holds its lease."""

    def __init__(self, layout: VariantLayout, catalog: Catalog, shard: int) -> None:
        self._layout = layout
        self._catalog = catalog
        self._shard = shard
        self._report: list[str] = []

    def run(self, *, deep: bool) -> list[str]:
        """Repair the shard; returns a line for each change."""
        # Audited again, because another process may have changed it until we had the lease.
        manifest, findings = audit_shard(self._layout, self._catalog, self._shard, deep=deep)
        if not any(finding.kind in _REPAIRABLE for finding in findings):
            return []
        repaired = (
            self._empty_manifest() if manifest is None else self._without_damage(manifest, findings)
        )
        repaired = self._take_in_orphans(repaired)
        if manifest is None and not repaired.parts:
            self._report.append(
                f"nothing is left of shard {self._shard}: the next run does its videos"
            )
        elif repaired != manifest:
            # Last, as in a commit: after a kill the repair starts anew and comes to the same.
            write_manifest(self._layout, repaired)
            self._report.append(
                f"wrote {self._layout.manifest(self._shard)}: {len(repaired.parts)} parts, "
                f"{len(repaired.entries)} statuses"
            )
        return self._report

    def _empty_manifest(self) -> ShardManifest:
        path = self._layout.manifest(self._shard)
        if path.exists():
            self._set_aside(path)
        return ShardManifest(
            self._catalog.name,
            self._shard,
            self._layout.variant,
            self._layout.fingerprint,
            time_origin=self._time_origin(),
        )

    def _time_origin(self) -> str:
        """The origin of the first readable part.

        Parts of another origin are then set aside, because a shard never mixes two.
        """
        for path in part_files(self._layout, self._shard):
            with contextlib.suppress(IntegrityError):
                return PartReader(path).header.time_origin
        return CONTAINER_START

    def _without_damage(
        self, manifest: ShardManifest, findings: Sequence[AuditFinding]
    ) -> ShardManifest:
        """The manifest without damaged parts, and with new checksums of sound ones."""
        damaged = {path.name for path in _paths_of(FindingKind.PART, findings)}
        without_checksums = _paths_of(FindingKind.CHECKSUMS, findings)
        parts: list[PartRecord] = []
        for part in manifest.parts:
            needs_checksums = self._layout.checksums(part.file) in without_checksums
            if needs_checksums and part.file not in damaged:
                part = self._seal(part, damaged)
            parts.append(part)
        for file in sorted(damaged):
            self._drop_part(file, len(manifest.live_in(file)))
        return replace(manifest, parts=tuple(parts)).without_parts(damaged)

    def _seal(self, part: PartRecord, damaged: set[str]) -> PartRecord:
        """The part with new checksums; one that turns out to be damaged is added to `damaged`."""
        try:
            sealed = seal_part(self._layout, part)
        except IntegrityError:
            damaged.add(part.file)
            return part
        self._report.append(f"wrote the checksums of {part.file}, which is whole")
        return sealed

    def _drop_part(self, file: str, live_count: int) -> None:
        path = self._layout.folder / file
        if path.exists():
            self._set_aside(path)
        self._report.append(f"dropped the {live_count} ids of {file}; the next run does them")

    def _take_in_orphans(self, manifest: ShardManifest) -> ShardManifest:
        named = {part.file for part in manifest.parts}
        for path in part_files(self._layout, self._shard):
            if path.name not in named:
                manifest = self._take_in(manifest, path)
        return manifest

    def _take_in(self, manifest: ShardManifest, path: Path) -> ShardManifest:
        """The manifest with a part that it did not name, if that part is sound."""
        try:
            part, entries, provenance = _describe_part(path, manifest)
        except (IntegrityError, LookupFailed) as error:
            self._set_aside(path)
            self._report.append(f"{path.name} cannot be taken in: {error}")
            return manifest
        if all(_has_rows(manifest, video_id, entry) for video_id, entry in entries.items()):
            remove(path)
            self._report.append(f"removed {path.name}: other parts hold the same rows")
            return manifest
        return self._add_part(manifest, seal_part(self._layout, part), entries, provenance)

    def _add_part(
        self,
        manifest: ShardManifest,
        part: PartRecord,
        entries: Mapping[str, ManifestEntry],
        provenance: Mapping[str, JSON],
    ) -> ShardManifest:
        number = part_number(part.file)
        # Of two parts with rows of one video the later was meant to replace the earlier.
        newer: dict[str, ManifestEntry] = {}
        for video_id, entry in entries.items():
            known = manifest.entries.get(video_id)
            if known is None or part_number(known.part) < number:
                newer[video_id] = entry
        parts = sorted((*manifest.parts, part), key=lambda item: part_number(item.file))
        is_last = parts[-1] is part
        self._report.append(f"took in {part.file}: {len(newer)} of its {part.videos} videos")
        return replace(
            manifest,
            parts=tuple(parts),
            entries={**manifest.entries, **newer},
            provenance=provenance if is_last else manifest.provenance,
        )

    def _set_aside(self, path: Path) -> None:
        aside = set_aside(path)
        self._report.append(f"set {path.name} aside as {aside.name}")


def _paths_of(kind: FindingKind, findings: Sequence[AuditFinding]) -> set[Path]:
    return {finding.path for finding in findings if finding.kind is kind}


def _has_rows(manifest: ShardManifest, video_id: str, entry: ManifestEntry) -> bool:
    known = manifest.entries.get(video_id)
    return known is not None and known.digest == entry.digest


def _describe_part(
    path: Path, manifest: ShardManifest
) -> tuple[PartRecord, dict[str, ManifestEntry], Mapping[str, JSON]]:
    """The record, entries and provenance of a part, for the manifest.

    Raises:
        IntegrityError: the part is of another shard, or a row is not as it was written.
        LookupFailed: a video is not in the part.
    """
    reader = PartReader(path)
    if reader.header != manifest.header:
        raise IntegrityError(path, f"is a part of {reader.header}, not of {manifest.header}")
    records = reader.table.records()
    stored, provenance = records.get("entries"), records.get("provenance")
    if not isinstance(stored, dict) or not isinstance(provenance, dict):
        raise IntegrityError(path, "its records lack entries or provenance")
    if set(stored) != set(reader.ids()):
        raise IntegrityError(path, "its records are not those of its videos")
    entries: dict[str, ManifestEntry] = {}
    for video_id in reader.ids():
        entry = replace(ManifestEntry.from_json(path, stored[video_id]), part=path.name)
        track = reader.track(video_id)
        digests = {entry.digest, reader.table.stored_digest(video_id), track.digest()}
        if entry.rows != track.rows or len(digests) > 1:
            raise IntegrityError(path, f"the rows of {video_id} are not what its record says")
        entries[video_id] = entry
    size_bytes, sha256 = size_and_sha256(path)
    part = PartRecord(path.name, sha256, size_bytes, len(entries), reader.table.row_count)
    return part, entries, provenance
