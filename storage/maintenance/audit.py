"""Compares what is on disk with what the records say, and the states of all ids with the catalog.

Refuses to change anything: `repair.py` does. What it cannot see: rows that were wrong before they
were written.
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
from storage.features.store import open_part, read_settings, variant_layouts
from storage.files.block_checksums import read_checksums
from storage.files.process_identity import owner_of_temporary


class FindingKind(StrEnum):
    """What sort of thing was found."""

    SETTINGS = "settings"
    MANIFEST = "manifest"
    """Lost, damaged, or another shard's."""
    PART = "part"
    """Missing, short, altered, or another shard's."""
    CHECKSUMS = "checksums"
    """The checksums of a part are missing or altered, so it is not read."""
    UNSEALED = "without checksums"
    """Parts of an earlier release: damage in them is seen by a deep audit only."""
    ORPHAN = "orphan part"
    """A part no manifest names: from a killed commit, or the manifest is an old one."""
    MEDIA_RECORD = "media record"
    """Altered, so nothing is known of the file beside it."""
    MEDIA = "media"
    """A kept file that is not what its record says."""
    MISPLACED = "misplaced ids"
    """Ids that the catalog does not put in this shard."""
    LEFTOVER = "leftover"
    """A temporary of a dead process, or a file that is not ours: untidy, but nothing is wrong."""


@dataclass(frozen=True)
class AuditFinding:
    """One thing that is not as it should be."""

    kind: FindingKind
    path: Path
    problem: str
    shard: int | None = None
    video_ids: tuple[str, ...] = ()
    """Ids whose rows cannot be trusted because of it."""

    @property
    def is_violation(self) -> bool:
        """Whether the store is not what it says it is."""
        return self.kind not in (FindingKind.LEFTOVER, FindingKind.UNSEALED)

    def __str__(self) -> str:
        concerned = f" [{len(self.video_ids)} ids]" if self.video_ids else ""
        return f"{self.kind}: {self.path}: {self.problem}{concerned}"


@dataclass(frozen=True)
class VariantAudit:
    """What was found out about one variant."""

    name: str
    ids: int
    """How many ids the catalog has."""
    counts: dict[State, int]
    without_status: int
    findings: tuple[AuditFinding, ...]
    processors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Kind of processor → the shards that have rows made on it; earlier releases did not record
    it.
    """

    @property
    def adds_up(self) -> bool:
        """Whether every id is in exactly one state, or in none yet."""
        return self.ids == sum(self.counts.values()) + self.without_status

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong; ids that have no verdict yet are not wrong."""
        return self.adds_up and not any(finding.is_violation for finding in self.findings)

    def unlike_processors(self) -> str:
        """A sentence if rows were made on several kinds of processor, else nothing."""
        if len(self.processors) < 2:
            return ""
        kinds = "; ".join(
            f"{kind} (shards {_listed(shards)})" for kind, shards in self.processors.items()
        )
        return (
            f"rows were made on {len(self.processors)} kinds of processor, so they differ in their last digits "
            f"(docs/explanation/durability.md says how far): {kinds}"
        )

    def equation(self) -> str:
        """`12 ids = 9 done + 1 unavailable + 2 rejected + 0 pending + 0 quarantined`."""
        terms = [f"{count} {state}" for state, count in self.counts.items()]
        if self.without_status:
            terms.append(f"{self.without_status} without a verdict")
        return f"{self.ids} ids {'=' if self.adds_up else '≠'} {' + '.join(terms)}"


def audit(folder: Path, *, deep: bool) -> list[VariantAudit]:
    """Check every variant of the catalog kept in `folder` (`ROOT/<catalog>`), by name.

    Sizes, structure and the recorded digests always; with `deep` every byte: sha256 of parts,
    digest of every video. Raises IntegrityError if the catalog itself is damaged.
    """
    catalog = read_catalog(folder)
    return [audit_variant(layout, catalog, deep=deep) for layout in variant_layouts(folder)]


def audit_variant(layout: VariantLayout, catalog: Catalog, *, deep: bool) -> VariantAudit:
    """Check one variant."""
    findings = [*_settings(layout), *_strangers(layout)]
    entries: dict[str, State] = {}
    counts: Counter[State] = Counter()
    processors: dict[str, list[int]] = {}
    shards = {*range(catalog.shard_count), *_shards_on_disk(layout), *lost_shards(layout)}
    for shard in sorted(shards):
        manifest, found = audit_shard(layout, catalog, shard, deep=deep)
        findings += found
        if manifest is not None:
            entries |= {
                video_id: entry.status.state for video_id, entry in manifest.entries.items()
            }
            counts.update(manifest.counts)
            for kind in _processors(manifest):
                processors.setdefault(kind, []).append(shard)
    without = sum(video.video_id not in entries for video in catalog.videos)
    return VariantAudit(
        layout.folder.name,
        len(catalog.videos),
        {state: counts[state] for state in State},
        without,
        tuple(findings),
        {kind: tuple(shards) for kind, shards in sorted(processors.items())},
    )


SHOWN_SHARDS = 8


def _listed(shards: Sequence[int]) -> str:
    more = f" and {len(shards) - SHOWN_SHARDS} more" if len(shards) > SHOWN_SHARDS else ""
    return ", ".join(map(str, shards[:SHOWN_SHARDS])) + more


def _processors(manifest: ShardManifest) -> list[str]:
    told = manifest.provenance.get(PROCESSORS)
    return [str(kind) for kind in told] if isinstance(told, list) else []


def audit_shard(
    layout: VariantLayout, catalog: Catalog, shard: int, *, deep: bool
) -> tuple[ShardManifest | None, list[AuditFinding]]:
    """Check one shard: its account, if there is a sound one, and what is wrong."""
    path, files = layout.manifest(shard), part_files(layout, shard)
    try:
        manifest = read_manifest(layout, shard)
    except IntegrityError as error:
        return None, [AuditFinding(FindingKind.MANIFEST, path, error.problem, shard)]
    if manifest is None:
        lost = (
            f"is lost, but {len(files)} parts of its shard are there"
            if files
            else "is lost, and the index names it"
        )
        return None, [
            AuditFinding(FindingKind.MANIFEST, path, lost, shard)
        ] if shard in lost_shards(layout) else []
    if manifest.catalog != catalog.name:
        wrong = f"belongs to the catalog {manifest.catalog!r}, not to {catalog.name!r}"
        return None, [AuditFinding(FindingKind.MANIFEST, path, wrong, shard)]
    named = {part.file for part in manifest.parts}
    findings = [*_misplaced(path, manifest, catalog), *_bad_parts(layout, manifest, deep=deep)]
    for file in files:
        if file.name not in named:
            findings.append(AuditFinding(FindingKind.ORPHAN, file, "is in no manifest", shard))
    return manifest, findings


def part_files(layout: VariantLayout, shard: int) -> list[Path]:
    """The shard's parts on disk, by number."""
    numbered = {
        name[1]: path
        for path in layout.folder.iterdir()
        if (name := shard_and_number(path.name)) is not None
        and name[0] == shard
        and name[1] is not None
    }
    return [numbered[number] for number in sorted(numbered)]


def _shards_on_disk(layout: VariantLayout) -> set[int]:
    return {
        name[0]
        for path in layout.folder.iterdir()
        if (name := shard_and_number(path.name)) is not None
    }


def _settings(layout: VariantLayout) -> Iterator[AuditFinding]:
    try:
        read_settings(layout)
    except IntegrityError as error:
        yield AuditFinding(FindingKind.SETTINGS, error.path, error.problem)


def _strangers(layout: VariantLayout) -> Iterator[AuditFinding]:
    expected = {layout.settings_file.name, layout.index_file.name, layout.spool(0).parent.name}
    for path in sorted(layout.folder.iterdir()):
        if path.name in expected or shard_and_number(path.name) is not None:
            continue
        about = part_of_checksums(path.name)
        if about is not None:
            if not (layout.folder / about).exists():
                yield AuditFinding(
                    FindingKind.LEFTOVER, path, f"are checksums of {about}, which is not there"
                )
            continue
        owner = owner_of_temporary(path)
        if owner is None:
            yield AuditFinding(
                FindingKind.LEFTOVER, path, "is no file of a store; it is left alone"
            )
        elif owner.is_dead():
            yield AuditFinding(
                FindingKind.LEFTOVER, path, f"is a temporary of process {owner.pid}, which is dead"
            )
        elif owner.is_of_other_boot():
            problem = f"is a temporary of process {owner.pid} of another boot; repair removes it while nobody builds"
            yield AuditFinding(FindingKind.LEFTOVER, path, problem)


def _misplaced(path: Path, manifest: ShardManifest, catalog: Catalog) -> Iterator[AuditFinding]:
    expected = (
        set(catalog.shard_ids(manifest.shard)) if manifest.shard < catalog.shard_count else set()
    )
    if strangers := tuple(sorted(manifest.entries.keys() - expected)):
        problem = f"holds ids that the catalog does not put in shard {manifest.shard}: {', '.join(strangers[:3])}"
        yield AuditFinding(FindingKind.MISPLACED, path, problem, manifest.shard, strangers)


def _bad_parts(
    layout: VariantLayout, manifest: ShardManifest, *, deep: bool
) -> Iterator[AuditFinding]:
    if unsealed := sum(not part.checksums_sha256 for part in manifest.parts):
        told = f"{unsealed} of {len(manifest.parts)} parts have none; run `python -m storage seal`"
        yield AuditFinding(
            FindingKind.UNSEALED, layout.manifest(manifest.shard), told, manifest.shard
        )
    for part in manifest.parts:
        if part.checksums_sha256:
            path = layout.checksums(part.file)
            try:
                read_checksums(path, part.checksums_sha256)
            except IntegrityError as error:
                yield AuditFinding(FindingKind.CHECKSUMS, path, error.problem, manifest.shard)
                part = replace(part, checksums_sha256="")
        try:
            check_part(layout, manifest, part, deep=deep)
        except (IntegrityError, LookupFailed) as error:
            problem = error.problem if isinstance(error, IntegrityError) else str(error)
            live = tuple(manifest.live_in(part.file))
            yield AuditFinding(
                FindingKind.PART, layout.folder / part.file, problem, manifest.shard, live
            )


def check_part(
    layout: VariantLayout, manifest: ShardManifest, part: PartRecord, *, deep: bool
) -> None:
    """Check one part against its manifest. Raises IntegrityError, or LookupFailed for a video that
    is not in it.
    """
    # The sha256 comes first, so that libhdf5 is not asked to parse what was altered.
    reader = open_part(
        layout, manifest.header, part, verify=deep, check=bool(part.checksums_sha256)
    )
    if (len(reader.ids()), reader.table.row_count) != (part.videos, part.rows):
        raise IntegrityError(
            reader.path, f"has {len(reader.ids())} videos, its manifest says {part.videos}"
        )
    for video_id in manifest.live_in(part.file):
        entry = manifest.entries[video_id]
        handle = VideoHandle(reader, video_id, entry.rows, entry.digest)
        if deep and handle.track().digest() != entry.digest:
            raise IntegrityError(
                reader.path, f"the rows of {video_id} are not what its digest says"
            )
