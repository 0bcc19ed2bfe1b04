"""The input of a shard's extraction: videos, variants and folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pipeline.extraction.variant import Variant
from pipeline.media.media_file import Media
from storage.base.paths import Layout, VariantLayout
from storage.base.video_status import VideoStatus
from storage.features.manifest import ShardManifest
from storage.features.manifest_file import read_manifest
from storage.features.manifest_index import read_summary

Fetch = Callable[[str, bool], Media]
"""(video id, whether a user asked for a retry) → its file.

Raises VideoError. May run in another thread.
"""


@dataclass(frozen=True)
class ShardJob:
    """One shard to be built."""

    layout: Layout
    shard: int
    video_ids: tuple[str, ...]
    """All ids that the catalog assigns to this shard, sorted."""
    variants: tuple[Variant, ...]
    part_bytes: int

    def variant_layout(self, variant: Variant) -> VariantLayout:
        """The folder of this variant's files."""
        return self.layout.variant(variant.name, variant.fingerprint())

    def manifest(self, variant: Variant) -> ShardManifest | None:
        """The shard's manifest; None before the first commit."""
        return read_manifest(self.variant_layout(variant), self.shard)

    def missing(self, variant: Variant) -> tuple[str, ...]:
        """Ids without a status, or with a requested retry."""
        # The index of manifests, which is much faster to read than the manifest.
        known = read_summary(self.variant_layout(variant), self.shard)
        return self.missing_from(known.statuses if known else {})

    def missing_from(self, statuses: Mapping[str, VideoStatus]) -> tuple[str, ...]:
        """As `missing`, with statuses that were read already."""
        # A failure is final until a user requests a retry.
        retries = {i for i, status in statuses.items() if status.reason == "requested"}
        finished = statuses.keys() - retries
        return tuple(video_id for video_id in self.video_ids if video_id not in finished)

    def todo(self) -> frozenset[str]:
        """Ids that at least one variant is missing."""
        return frozenset(
            video_id for variant in self.variants for video_id in self.missing(variant)
        )

    def is_complete(self) -> bool:
        """Whether every id has a status from every variant."""
        return not self.todo()
