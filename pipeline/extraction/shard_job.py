"""What a shard's extraction is given: catalog, variants and folders."""

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
"""(video id, whether somebody asked for a retry) → its file; raises VideoError. May run in another
thread.
"""


@dataclass(frozen=True)
class ShardJob:
    """What one shard is to become."""

    layout: Layout
    shard: int
    video_ids: tuple[str, ...]
    """Every id the catalog puts in this shard, sorted."""
    variants: tuple[Variant, ...]
    part_bytes: int

    def variant_layout(self, variant: Variant) -> VariantLayout:
        """Where this variant's files lie."""
        return self.layout.variant(variant.name, variant.fingerprint())

    def manifest(self, variant: Variant) -> ShardManifest | None:
        """What is known so far; None before the first commit."""
        return read_manifest(self.variant_layout(variant), self.shard)

    def missing(self, variant: Variant) -> tuple[str, ...]:
        """Ids without a verdict, or with a retry asked for."""
        known = read_summary(self.variant_layout(variant), self.shard)
        return self.missing_from(known.statuses if known else {})

    def missing_from(self, statuses: Mapping[str, VideoStatus]) -> tuple[str, ...]:
        """The same, for verdicts that are known already."""
        return tuple(
            i for i in self.video_ids if i not in statuses or statuses[i].reason == "requested"
        )

    def todo(self) -> frozenset[str]:
        """Ids that some variant is missing."""
        return frozenset(
            video_id for variant in self.variants for video_id in self.missing(variant)
        )

    def is_complete(self) -> bool:
        """Whether every id has a verdict from every variant."""
        return not self.todo()
