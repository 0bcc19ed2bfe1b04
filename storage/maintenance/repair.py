"""Mends what an audit found: rebuilds manifests from parts, and checksums; sets damaged parts aside;
takes in orphans.

Nothing that may still be of use is deleted: what is damaged is renamed `*.damaged`. Ids whose rows
are gone lose their verdict, so that the next run does them again. Refuses to work on a shard that
somebody builds at the moment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from storage.features.part_reader import PartReader
from storage.features.store import variant_layouts
from storage.files.atomic_write import remove, remove_stale_temporaries, size_and_sha256
from storage.files.file_lock import Notify, check_held, lease, remove_dead_leases
from storage.files.os_errors import disk_fault
from storage.maintenance.audit import (
    AuditFinding,
    FindingKind,
    audit_shard,
    audit_variant,
    part_files,
)
from storage.maintenance.media_audit import audit_media
from storage.maintenance.sealing import seal_part

_MENDABLE = frozenset(
    {FindingKind.MANIFEST, FindingKind.PART, FindingKind.CHECKSUMS, FindingKind.ORPHAN}
)


def repair(folder: Path, *, deep: bool, notify: Notify | None = None) -> list[str]:
    """Mend the catalog kept in `folder` (`ROOT/<catalog>`); one sentence for each thing done.

    `deep` decides, as in `audit`, how hard to look for damage. Raises LeaseHeld if a shard in need
    is being built; with `notify`, only after watching whether its holder lives, as `lease` does.
    """
    catalog = read_catalog(folder)
    layout = Layout(folder.absolute().parent, folder.absolute().name)
    told: list[str] = []
    for variant in variant_layouts(folder):
        if (named := _other_name(variant)) is not None:
            told.append(
                f"left {variant.folder} as it is: its parts are all of {named}, so it was renamed, or copied here. "
                f"Name it {named} again, or delete it if that is there"
            )
            continue
        findings = audit_variant(variant, catalog, deep=deep).findings
        told += _settings_aside(findings)
        for shard in sorted({finding.shard for finding in findings if finding.shard is not None}):
            with lease(layout.lease(shard), notify=notify):
                told += _Mending(variant, catalog, shard).run(deep=deep)
        told += _without_strays(variant)
        if any(finding.kind is FindingKind.MANIFEST for finding in findings):
            remove(variant.index_file)  # it may name a shard of which nothing is left
        refresh_index(variant)
    return told + _tidy_up(layout)


def repair_media(layout: Layout, catalog: Catalog, *, media: bool) -> list[str]:
    """Set damaged media and media records aside, so that the next run that wants them fetches them
    again.
    """
    told = []
    for finding in audit_media(layout, catalog, media=media).findings:
        if finding.is_violation:
            aside = set_aside(finding.path)
            told.append(
                f"set {finding.path} aside as {aside.name}; a run that wants it fetches it again"
            )
    return told


def _other_name(variant: VariantLayout) -> str | None:
    """What a folder was named when its parts were written, if all that can be read agree on another
    name.
    """
    names = set()
    for path in variant.folder.iterdir():
        if (
            (named := shard_and_number(path.name)) is not None
            and named[1] is not None
            and path.suffix == ".h5"
        ):
            with contextlib.suppress(IntegrityError):
                header = PartReader(path).header
                names.add(f"{header.variant}-{header.fingerprint}")
    return names.pop() if len(names) == 1 and variant.folder.name not in names else None


def _settings_aside(findings: Sequence[AuditFinding]) -> list[str]:
    told = []
    for finding in findings:
        if finding.kind is FindingKind.SETTINGS and finding.path.exists():
            aside = set_aside(finding.path)
            told.append(
                f"set {finding.path} aside as {aside.name}; the next run with the same settings writes it anew"
            )
    return told


def _without_strays(variant: VariantLayout) -> list[str]:
    names = [path.name for path in variant.folder.iterdir()]
    strays = [
        name for name in sorted(names) if (about := part_of_checksums(name)) and about not in names
    ]
    for name in strays:
        remove(variant.folder / name)
    return [f"removed {name}, since its part is not there" for name in strays]


def set_aside(path: Path) -> Path:
    """Rename a damaged file to `*.damaged`, so that nothing takes it for whole and nobody misses
    it; its new place.
    """
    number, aside = 0, path.with_name(f"{path.name}.damaged")
    while aside.exists():
        number, aside = number + 1, path.with_name(f"{path.name}.{number + 1}.damaged")
    check_held()
    try:
        path.rename(aside)
    except OSError as error:
        raise disk_fault(error, path) from error
    return aside


def _tidy_up(layout: Layout) -> list[str]:
    folders = [layout.folder, *(path for path in sorted(layout.folder.rglob("*")) if path.is_dir())]
    leases_folder = layout.lease(0).parent
    leases = remove_dead_leases(leases_folder)
    nobody_builds = not any(leases_folder.glob("*.lease*"))
    temporaries = [
        path
        for folder in folders
        for path in remove_stale_temporaries(folder, other_boots=nobody_builds)
    ]
    return [f"removed {path}, which a dead process left" for path in temporaries + leases]


@dataclass
class _Mending:
    """The repair of one shard, step by step."""

    layout: VariantLayout
    catalog: Catalog
    shard: int
    told: list[str] = field(default_factory=list)

    def run(self, *, deep: bool) -> list[str]:
        """Look again, now that nobody else writes, and mend."""
        manifest, findings = audit_shard(self.layout, self.catalog, self.shard, deep=deep)
        if not any(finding.kind in _MENDABLE for finding in findings):
            return []
        account = (
            self._rebuildable() if manifest is None else self._without_damage(manifest, findings)
        )
        for path in part_files(self.layout, self.shard):
            if path.name not in {part.file for part in account.parts}:
                account = self._take_in(account, path)
        if manifest is None and not account.parts:
            self.told.append(f"nothing is left of shard {self.shard}: the next run does its videos")
            return self.told
        if account != manifest:
            write_manifest(self.layout, account)
            self.told.append(
                f"wrote {self.layout.manifest(self.shard)}: {len(account.parts)} parts, {len(account.entries)} verdicts"
            )
        return self.told

    def _rebuildable(self) -> ShardManifest:
        path = self.layout.manifest(self.shard)
        if path.exists():
            self._set_aside(path)
        own = (self.layout.variant, self.layout.fingerprint)
        return ShardManifest(self.catalog.name, self.shard, *own, time_origin=self._time_origin())

    def _time_origin(self) -> str:
        """That of the first part that says; parts of another one are then set aside, for a shard
        never mixes them.
        """
        for path in part_files(self.layout, self.shard):
            with contextlib.suppress(IntegrityError):
                return PartReader(path).header.time_origin
        return CONTAINER_START

    def _without_damage(
        self, manifest: ShardManifest, findings: list[AuditFinding]
    ) -> ShardManifest:
        damaged = {finding.path.name for finding in findings if finding.kind is FindingKind.PART}
        unchecked = {finding.path for finding in findings if finding.kind is FindingKind.CHECKSUMS}
        parts = []
        for part in manifest.parts:
            if part.file not in damaged and self.layout.checksums(part.file) in unchecked:
                try:
                    part = seal_part(self.layout, part)
                    self.told.append(f"wrote the checksums of {part.file}, which is whole")
                except IntegrityError:
                    damaged.add(part.file)
            parts.append(part)
        for file in sorted(damaged):
            if (path := self.layout.folder / file).exists():
                self._set_aside(path)
            self.told.append(
                f"dropped the {len(manifest.live_in(file))} ids of {file}; the next run does them"
            )
        return replace(manifest, parts=tuple(parts)).without_parts(damaged)

    def _take_in(self, account: ShardManifest, path: Path) -> ShardManifest:
        try:
            part, entries, provenance = _describe(path, account)
        except (IntegrityError, LookupFailed) as error:
            self._set_aside(path)
            self.told.append(f"{path.name} cannot be taken in: {error}")
            return account
        known = account.entries
        if all(
            video_id in known and known[video_id].digest == entry.digest
            for video_id, entry in entries.items()
        ):
            remove(path)
            self.told.append(f"removed {path.name}: other parts hold the same rows")
            return account
        return self._joined(account, seal_part(self.layout, part), entries, provenance)

    def _joined(
        self,
        account: ShardManifest,
        part: PartRecord,
        entries: Mapping[str, ManifestEntry],
        provenance: Mapping[str, JSON],
    ) -> ShardManifest:
        # Of two parts with rows of one video the later was meant to replace the earlier.
        newer = {
            video_id: entry
            for video_id, entry in entries.items()
            if part_number(account.entries[video_id].part if video_id in account.entries else "")
            < part_number(part.file)
        }
        is_last = all(part_number(other.file) < part_number(part.file) for other in account.parts)
        self.told.append(f"took in {part.file}: {len(newer)} of its {part.videos} videos")
        return replace(
            account,
            parts=tuple(sorted((*account.parts, part), key=lambda item: part_number(item.file))),
            entries={**account.entries, **newer},
            provenance=provenance if is_last else account.provenance,
        )

    def _set_aside(self, path: Path) -> None:
        aside = set_aside(path)
        self.told.append(f"set {path.name} aside as {aside.name}")


def _describe(
    path: Path, account: ShardManifest
) -> tuple[PartRecord, dict[str, ManifestEntry], Mapping[str, JSON]]:
    """What a manifest would say of this part. Raises IntegrityError unless every row in it is as it
    was written.
    """
    reader = PartReader(path)
    if reader.header != account.header:
        raise IntegrityError(path, f"is a part of {reader.header}, not of {account.header}")
    records = reader.table.records()
    kept, provenance = records.get("entries"), records.get("provenance")
    if (
        not isinstance(kept, dict)
        or not isinstance(provenance, dict)
        or set(kept) != set(reader.ids())
    ):
        raise IntegrityError(path, "its records are not those of its videos")
    entries = {}
    for video_id in reader.ids():
        track = reader.track(video_id)
        entries[video_id] = replace(ManifestEntry.from_json(path, kept[video_id]), part=path.name)
        digests = {entries[video_id].digest, reader.table.stored_digest(video_id), track.digest()}
        if entries[video_id].rows != track.rows or len(digests) > 1:
            raise IntegrityError(path, f"the rows of {video_id} are not what its record says")
    size_bytes, sha256 = size_and_sha256(path)
    return (
        PartRecord(path.name, sha256, size_bytes, len(entries), reader.table.row_count),
        entries,
        provenance,
    )
