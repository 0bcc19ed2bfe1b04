"""Adds checksums to parts that have none, or lost them, after checking the whole part.

Media records of earlier releases are sealed too. A part that differs from its manifest stays as it
is, and is reported.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from storage.base.errors import IntegrityError
from storage.base.paths import Layout, VariantLayout
from storage.catalog.catalog import read_catalog
from storage.features.manifest import PartRecord, ShardManifest
from storage.features.manifest_file import read_manifest, write_checksums, write_manifest
from storage.features.manifest_index import refresh_index
from storage.features.part_reader import with_repair_advice
from storage.features.store import variant_layouts
from storage.files.block_checksums import checksums_of
from storage.files.file_lock import lease, print_to_stderr
from storage.maintenance.media_audit import seal_media_records

_PIECE_BYTES = 1 << 20


def seal_store(folder: Path) -> Iterator[str]:
    """Give every part of the catalog kept in `folder` checksums; yields a line for each change.

    Raises:
        IntegrityError: a part or a manifest differs from its record.
        LeaseHeld: a shard is being built.

    What was sealed before an error stays sealed.
    """
    catalog = read_catalog(folder)
    layout = Layout(folder.absolute().parent, folder.absolute().name)
    for variant in variant_layouts(folder):
        for shard in range(catalog.shard_count):
            count = _seal_shard(layout, variant, shard)
            if count:
                yield (
                    f"{variant.folder.name} shard {shard}: {count} parts checked whole, and given "
                    "checksums"
                )
        refresh_index(variant)
    if count := seal_media_records(layout, catalog):
        yield f"{count} media records were sealed as they are"


def seal_part(layout: VariantLayout, part: PartRecord) -> PartRecord:
    """Write the checksums of a part; returns the part's new record for the manifest.

    Raises:
        IntegrityError: the part's size or sha256 is not that in the manifest.
    """
    path = layout.folder / part.file
    sha = hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                sha.update(piece)
                yield piece

    try:
        # One pass over the file feeds both checksums.
        checksums = checksums_of(pieces())  # of the same bytes whose sha256 is compared
    except OSError as error:
        raise IntegrityError(path, f"cannot be read: {error.strerror or error}") from error
    # Else checksums would be added to damage, and declare it sound.
    if (checksums.size_bytes, sha.hexdigest()) != (part.size_bytes, part.sha256):
        raise IntegrityError(
            path,
            "was altered: its sha256 is not what its manifest says; "
            f"run `python -m storage audit --repair {layout.folder.parents[1]}`",
        )
    return replace(part, checksums_sha256=write_checksums(layout, part.file, checksums))


def _seal_shard(layout: Layout, variant: VariantLayout, shard: int) -> int:
    """Seal the parts of a shard that have no checksums; returns how many these were."""
    with with_repair_advice():
        known = read_manifest(variant, shard)
    if known is None or not _count_unsealed(known):
        return 0
    with lease(layout.lease(shard), notify=print_to_stderr):
        # Read again: another process may have changed it until we had the lease.
        known = read_manifest(variant, shard)
        if known is None:
            return 0
        parts = tuple(
            part if part.checksums_sha256 else seal_part(variant, part) for part in known.parts
        )
        if parts != known.parts:
            write_manifest(variant, replace(known, parts=parts))
        return _count_unsealed(known)


def _count_unsealed(manifest: ShardManifest) -> int:
    return sum(not part.checksums_sha256 for part in manifest.parts)
