"""Writes the shards of a synthetic feature variant."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from storage.base.fingerprint import fingerprint, readable_json
from storage.base.paths import Layout, VariantLayout
from storage.base.records import JSON, FeatureTrack
from storage.base.video_status import DONE, VideoStatus
from storage.catalog.catalog import Catalog
from storage.features.commit import DEFAULT_PART_BYTES, commit
from storage.features.manifest import ManifestEntry
from storage.files.atomic_write import publish


def write_variant(
    layout: Layout,
    catalog: Catalog,
    name: str,
    settings: Mapping[str, JSON],
    make_track: Callable[[str], FeatureTrack],
    *,
    failures: Mapping[str, VideoStatus],
) -> VariantLayout:
    """Write a variant of the catalog; writing the same again changes nothing.

    `settings` has `weights`, which marks the features as synthetic. `make_track` is called for each
    video without a status in `failures`.
    """
    variant = layout.variant(name, fingerprint(settings))
    publish(variant.settings_file, readable_json(settings), replace=False)
    for shard in range(catalog.shard_count):
        ids = catalog.shard_ids(shard)
        commit(
            variant,
            catalog.name,
            shard,
            entries={video_id: ManifestEntry(failures.get(video_id, DONE)) for video_id in ids},
            # A generator, so that only one video is in memory.
            tracks=(make_track(video_id) for video_id in ids if video_id not in failures),
            max_part_bytes=DEFAULT_PART_BYTES,
            provenance={"weights": settings["weights"]},
        )
    return variant
