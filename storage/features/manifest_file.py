"""Reads and writes a shard's manifest file, and the checksum files that it vouches for.

The manifest is the only file of a shard that is ever replaced. Whoever writes one holds the shard's
lease; that is not checked here.
"""

from __future__ import annotations

import hashlib

from storage.base.errors import IntegrityError
from storage.base.paths import VariantLayout
from storage.features.manifest import ShardManifest
from storage.features.part_reader import PartHeader
from storage.files.atomic_write import publish
from storage.files.block_checksums import BlockChecksums
from storage.files.checksummed_json import seal, unseal


def read_manifest(layout: VariantLayout, shard: int) -> ShardManifest | None:
    """The shard's manifest, or None if there is none yet.

    Raises:
        IntegrityError: it is damaged, or belongs to another shard.
    """
    path = layout.manifest(shard)
    try:
        return parse_manifest(layout, shard, path.read_bytes())
    except FileNotFoundError:
        return None


def parse_manifest(layout: VariantLayout, shard: int, raw: bytes) -> ShardManifest:
    """The manifest in these bytes of the shard's file. Raises IntegrityError as `read_manifest`."""
    path = layout.manifest(shard)
    manifest = ShardManifest.from_json(path, unseal(path, raw))
    expected = PartHeader(
        manifest.catalog, shard, layout.variant, layout.fingerprint, manifest.time_origin
    )
    if manifest.header != expected:
        raise IntegrityError(
            path,
            f"is the manifest of {manifest.header}, expected {expected}; it was copied here",
        )
    return manifest


def write_manifest(layout: VariantLayout, manifest: ShardManifest) -> None:
    """Replace the shard's manifest in one atomic step."""
    publish(layout.manifest(manifest.shard), seal(manifest.to_json()), replace=True)


def write_checksums(layout: VariantLayout, part_file: str, checksums: BlockChecksums) -> str:
    """Publish the checksums of a part's blocks; returns that file's sha256, for the manifest."""
    content = checksums.encode()
    # Replaces what an earlier part of that name, now set aside, may have left.
    publish(layout.checksums(part_file), content, replace=True)
    return hashlib.sha256(content).hexdigest()
