"""The audit: compares files with their records, and the states of all ids with the catalog.

It changes nothing; `repair.py` does. It cannot see rows that were wrong before they were written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from storage.base.errors import IntegrityError, LookupFailed
from storage.base.paths import VariantLayout, part_of_checksums, shard_and_number
from storage.base.video_status import State
from storage.catalog.catalog import Catalog, read_catalog
from storage.features.lazy_arrays import VideoHandle
from storage.features.manifest import PROCESSORS, PartRecord, ShardManifest
from storage.features.manifest_file import read_manifest
from storage.features.manifest_index import lost_shards
from storage.features.part_reader import part_files
from storage.features.store import open_part, read_settings, variant_layouts
from storage.files.block_checksums import read_checksums
from storage.files.process_identity import owner_of_temporary


class FindingKind(StrEnum):
    """The kind of a finding."""

    SETTINGS = "settings"
    MANIFEST = "manifest"
    """Lost, damaged, or of another shard."""
    PART = "part"
    """Missing, short, altered, or of another shard."""
    CHECKSUMS = "checksums"
    """The checksums of a part are missing or altered, so it is not read."""
    UNSEALED = "without checksums"
    """Parts of an earlier release: only a deep audit notices damage in them."""
    ORPHAN = "orphan part"
    """A part that the manifest does not name: after a killed commit, or with an old manifest."""
    MEDIA_RECORD = "media record"
    """Altered, so nothing is known about the file beside it."""
    MEDIA = "media"
    """A kept file that is not what its record says."""
    MISPLACED = "misplaced ids"
    """Ids that the catalog does not put in this shard."""
    FORGOTTEN = "forgotten video"
    """Something of a video that was taken down is left, or back."""
    PUBLISHED = "published file"
    """An annotation file, kept as published, names a video that was taken down."""
    LEFTOVER = "leftover"
    """A temporary of a dead process, or a file of another program; harmless."""


_HARMLESS = (FindingKind.LEFTOVER, FindingKind.UNSEALED, FindingKind.PUBLISHED)


@dataclass(frozen=True)
class AuditFinding:
    """One difference between a file and its record, or one leftover."""

    kind: FindingKind
    path: Path
    problem: str
    shard: int | None = None
    video_ids: tuple[str, ...] = ()
    """Ids whose rows are unreliable because of it."""

    @property
    def is_violation(self) -> bool:
        """Whether the store differs from its records."""
        return self.kind not in _HARMLESS

    def __str__(self) -> str:
        concerned = f" [{len(self.video_ids)} ids]" if self.video_ids else ""
        return f"{self.kind}: {self.path}: {self.problem}{concerned}"


@dataclass(frozen=True)
class VariantAudit:
    """The result of an audit of one variant."""

    name: str
    ids: int
    """Number of ids in the catalog."""
    counts: dict[State, int]
    without_status: int
    findings: tuple[AuditFinding, ...]
    processors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Kind of processor → the shards with rows made on it. Earlier releases did not record it."""

    @property
    def adds_up(self) -> bool:
        """Whether every id is in exactly one state, or in none yet."""
        return self.ids == sum(self.counts.values()) + self.without_status

    @property
    def is_clean(self) -> bool:
        """Whether there is no violation. An id without a status is none."""
        return self.adds_up and not any(finding.is_violation for finding in self.findings)

    def processor_note(self) -> str:
        """A sentence if rows were made on several kinds of processor, else an empty text."""
        if len(self.processors) < 2:
            return ""
        kinds = "; ".join(
            f"{kind} (shards {_format_shards(shards)})" for kind, shards in self.processors.items()
        )
        return (
            f"rows were made on {len(self.processors)} kinds of processor, so they differ in their "
            f'last digits ("What you can rely on" in the README says how far): {kinds}'
        )

    def equation(self) -> str:
        """`12 ids = 9 done + 1 unavailable + 2 rejected + 0 pending + 0 quarantined`."""
        terms = [f"{count} {state}" for state, count in self.counts.items()]
        if self.without_status:
            terms.append(f"{self.without_status} without a status")
        sign = "=" if self.adds_up else "≠"
        return f"{self.ids} ids {sign} {' + '.join(terms)}"


def audit(folder: Path, *, deep: bool) -> list[VariantAudit]:
    """Check every variant of the catalog kept in `folder` (`ROOT/<catalog>`), by name.

    Sizes, structure and stored digests are always checked. With `deep` every byte is read: sha256
    of parts, and the digest of every video.

    Raises:
        IntegrityError: the catalog itself is damaged.
    """
    catalog = read_catalog(folder)
    return [audit_variant(layout, catalog, deep=deep) for layout in variant_layouts(folder)]


def audit_variant(layout: VariantLayout, catalog: Catalog, *, deep: bool) -> VariantAudit:
    """Check one variant."""
    findings = [*_check_settings(layout), *_check_other_files(layout)]
    known_ids: set[str] = set()
    counts: Counter[State] = Counter()
    processors: dict[str, list[int]] = {}
    # Also shards that the catalog does not have: they may be left of another one.
    shards = {*range(catalog.shard_count), *_shards_on_disk(layout), *lost_shards(layout)}
    for shard in sorted(shards):
        manifest, shard_findings = audit_shard(layout, catalog, shard, deep=deep)
        findings += shard_findings
        if manifest is None:
            continue
        known_ids |= manifest.entries.keys()
        counts.update(manifest.counts)
        for kind in _processors(manifest):
            processors.setdefault(kind, []).append(shard)
    return VariantAudit(
        name=layout.folder.name,
        ids=len(catalog.videos),
        counts={state: counts[state] for state in State},
        without_status=sum(video.video_id not in known_ids for video in catalog.videos),
        findings=tuple(findings),
        processors={kind: tuple(shards) for kind, shards in sorted(processors.items())},
    )


MAX_SHOWN_SHARDS = 8


def _format_shards(shards: Sequence[int]) -> str:
    shown = ", ".join(map(str, shards[:MAX_SHOWN_SHARDS]))
    hidden = len(shards) - MAX_SHOWN_SHARDS
    return f"{shown} and {hidden} more" if hidden > 0 else shown


def _processors(manifest: ShardManifest) -> list[str]:
    kinds = manifest.provenance.get(PROCESSORS)
    return [str(kind) for kind in kinds] if isinstance(kinds, list) else []


def audit_shard(
    layout: VariantLayout, catalog: Catalog, shard: int, *, deep: bool
) -> tuple[ShardManifest | None, list[AuditFinding]]:
    """Check one shard: its manifest, if there is a sound one, and the findings."""
    path = layout.manifest(shard)
    # Before the manifest is read: a part that is committed in between is then not an orphan.
    files = part_files(layout, shard)
    try:
        manifest = read_manifest(layout, shard)
    except IntegrityError as error:
        return None, [AuditFinding(FindingKind.MANIFEST, path, error.problem, shard)]
    if manifest is None:
        if shard not in lost_shards(layout):
            return None, []
        problem = "is lost, and the index names it"
        if files:
            problem = f"is lost, but {len(files)} parts of its shard are there"
        return None, [AuditFinding(FindingKind.MANIFEST, path, problem, shard)]
    if manifest.catalog != catalog.name:
        problem = f"belongs to the catalog {manifest.catalog!r}, not to {catalog.name!r}"
        return None, [AuditFinding(FindingKind.MANIFEST, path, problem, shard)]
    findings = [
        *_check_ids(path, manifest, catalog),
        *_check_parts(layout, manifest, deep=deep),
        *_orphans(files, manifest),
    ]
    return manifest, findings


def _orphans(files: Sequence[Path], manifest: ShardManifest) -> Iterator[AuditFinding]:
    named = {part.file for part in manifest.parts}
    orphans = [file for file in files if file.name not in named]
    for file in orphans:
        problem = "is not in the manifest"
        yield AuditFinding(FindingKind.ORPHAN, file, problem, manifest.shard)


def _shards_on_disk(layout: VariantLayout) -> set[int]:
    parsed = [shard_and_number(path.name) for path in layout.folder.iterdir()]
    return {name[0] for name in parsed if name is not None}


def _check_settings(layout: VariantLayout) -> Iterator[AuditFinding]:
    try:
        read_settings(layout)
    except IntegrityError as error:
        yield AuditFinding(FindingKind.SETTINGS, error.path, error.problem)


def _check_other_files(layout: VariantLayout) -> Iterator[AuditFinding]:
    """Findings about files that are neither manifests nor parts."""
    expected = {layout.settings_file.name, layout.index_file.name, layout.spool(0).parent.name}
    for path in sorted(layout.folder.iterdir()):
        if path.name in expected or shard_and_number(path.name) is not None:
            continue
        part_file = part_of_checksums(path.name)
        if part_file is None:
            problem = _problem_of_other_file(path)
        elif (layout.folder / part_file).exists():
            problem = ""
        else:
            problem = f"has the checksums of {part_file}, which is missing"
        if problem:
            yield AuditFinding(FindingKind.LEFTOVER, path, problem)


def _problem_of_other_file(path: Path) -> str:
    """Empty for a temporary whose process may still be alive."""
    owner = owner_of_temporary(path)
    if owner is None:
        return "is not a file of a store; it is left alone"
    if owner.is_dead():
        return f"is a temporary of process {owner.pid}, which is dead"
    if owner.is_of_other_boot():
        return (
            f"is a temporary of process {owner.pid} of another boot; repair removes it while no "
            "process builds"
        )
    return ""


def _check_ids(path: Path, manifest: ShardManifest, catalog: Catalog) -> Iterator[AuditFinding]:
    expected: set[str] = set()
    if manifest.shard < catalog.shard_count:
        expected = set(catalog.shard_ids(manifest.shard))
    misplaced = tuple(sorted(manifest.entries.keys() - expected))
    if misplaced:
        problem = (
            f"holds ids that the catalog does not put in shard {manifest.shard}: "
            f"{', '.join(misplaced[:3])}"
        )
        yield AuditFinding(FindingKind.MISPLACED, path, problem, manifest.shard, misplaced)


def _check_parts(
    layout: VariantLayout, manifest: ShardManifest, *, deep: bool
) -> Iterator[AuditFinding]:
    shard = manifest.shard
    if unsealed := sum(not part.checksums_sha256 for part in manifest.parts):
        problem = (
            f"{unsealed} of {len(manifest.parts)} parts have none; run `python -m storage seal`"
        )
        yield AuditFinding(FindingKind.UNSEALED, layout.manifest(shard), problem, shard)
    for part in manifest.parts:
        checksums_finding = _check_checksums(layout, part, shard)
        if checksums_finding is not None:
            yield checksums_finding
            # The part itself may be sound: check it without its checksums.
            part = replace(part, checksums_sha256="")
        try:
            check_part(layout, manifest, part, deep=deep)
        except (IntegrityError, LookupFailed) as error:
            problem = error.problem if isinstance(error, IntegrityError) else str(error)
            path = layout.folder / part.file
            live_ids = tuple(manifest.live_in(part.file))
            yield AuditFinding(FindingKind.PART, path, problem, shard, live_ids)


def _check_checksums(layout: VariantLayout, part: PartRecord, shard: int) -> AuditFinding | None:
    if not part.checksums_sha256:
        return None
    path = layout.checksums(part.file)
    try:
        read_checksums(path, part.checksums_sha256)
    except IntegrityError as error:
        return AuditFinding(FindingKind.CHECKSUMS, path, error.problem, shard)
    return None


def check_part(
    layout: VariantLayout, manifest: ShardManifest, part: PartRecord, *, deep: bool
) -> None:
    """Check one part against its manifest.

    Raises:
        IntegrityError: the part differs from the manifest.
        LookupFailed: a video is not in the part.
    """
    # With `deep` the sha256 is compared here, before libhdf5 parses what may have been altered.
    reader = open_part(
        layout, manifest.header, part, verify=deep, check=bool(part.checksums_sha256)
    )
    video_count = len(reader.ids())
    if (video_count, reader.table.row_count) != (part.videos, part.rows):
        raise IntegrityError(
            reader.path,
            f"has {video_count} videos and {reader.table.row_count} rows, its manifest says "
            f"{part.videos} and {part.rows}",
        )
    for video_id in manifest.live_in(part.file):
        entry = manifest.entries[video_id]
        handle = VideoHandle(reader, video_id, entry.rows, entry.digest)
        if deep and handle.track().digest() != entry.digest:
            raise IntegrityError(
                reader.path, f"the rows of {video_id} are not what its digest says"
            )
