"""A catalog with features in which tastes are planted: what claims about models can be tried on
without any video.

Users, GIFs and durations are timed as in PHD2. The scenes of a video show kinds, a user marks
scenes of the kinds that this user likes, and features are drawn per kind (`planted_features.py`).
Three things are planted on purpose:

- two kinds that everybody likes, so that a model that knows no user beats chance;
- kinds of the user's own, so that one that knows the user beats it, and loses the gain with
  another's history. They are directions drawn anew for each user: no network can know those of test
  users by heart;
- decoys midway between two kinds that a user likes, which the user does not mark. They are as near
  to the mean of the user's history as anything, and farther from each of its elements: attention
  over elements can win.

Everything written says `planted:SEED` where real features name their weights. Refuses to know any
model.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from storage.base.fingerprint import fingerprint, readable_json, to_json_value
from storage.base.paths import Layout
from storage.base.records import JSON, Annotation, Link, User, Video
from storage.base.video_status import DONE, failure_status
from storage.catalog.catalog import Catalog, default_shard_count, shard_of, write_catalog
from storage.features.commit import DEFAULT_PART_BYTES, commit
from storage.features.manifest import ManifestEntry
from storage.files.atomic_write import publish
from trainer.synthetic.feature_generator import (
    FeatureVariant,
    clip_variant,
    frame_variants,
    generate_track,
)
from trainer.synthetic.user_plan import (
    Plan,
    SyntheticUserSettings,
    Timing,
    published_timing,
    timing_of,
)

__all__ = ["SyntheticUserSettings", "Timing", "published_timing", "synthesize_users", "timing_of"]


def synthesize_users(
    root: Path,
    settings: SyntheticUserSettings,
    timing: Timing | None = None,
    *,
    name: str = "planted",
) -> Path:
    """Write the catalog, its feature variants, and what was planted (`sources/scenes.csv`,
    `tastes.csv`).

    Returns the catalog's folder, which `trainer.data.open_data` opens. Planting the same again
    changes nothing.
    """
    plan = Plan.draw(settings, timing or published_timing())
    layout = Layout(root, name)
    catalog = _catalog(plan, settings, name)
    publish(
        layout.sources / "scenes.csv",
        _table(("video_id", "start", "end", "kind"), plan.scene_rows()),
        replace=False,
    )
    publish(
        layout.sources / "tastes.csv",
        _table(("user_id", "kind", "share"), plan.taste_rows()),
        replace=False,
    )
    write_catalog(layout, catalog)
    frames = (
        frame_variants(settings.object_shape, settings.joint_channels)
        if settings.with_frames
        else ()
    )
    for stream in (clip_variant(settings.width), *frames):
        _write_variant(layout, catalog, stream, plan, settings)
    return layout.folder


def _catalog(plan: Plan, settings: SyntheticUserSettings, name: str) -> Catalog:
    viewings = list(plan.all_viewings())
    videos = {viewing.video_id: viewing.scenes[-1].end for _, viewing in viewings}
    return Catalog(
        name=name,
        videos=tuple(
            Video(video_id, float(math.ceil(seconds))) for video_id, seconds in videos.items()
        ),
        users=tuple(User(user_id, split) for user_id, split in plan.splits.items()),
        links=tuple(
            Link(u, viewing.video_id, "target" if viewing.is_target else "history")
            for u, viewing in viewings
        ),
        annotations=tuple(
            Annotation(v.video_id, u, start, end) for u, v in viewings for start, end in v.gifs
        ),
        shard_count=default_shard_count(len(videos)),
        time_unit="seconds",
        origin={"reader": settings.mark, "settings": to_json_value(settings)},
    )


def _write_variant(
    layout: Layout,
    catalog: Catalog,
    stream: FeatureVariant,
    plan: Plan,
    settings: SyntheticUserSettings,
) -> None:
    described: dict[str, JSON] = {
        "extractor": stream.variant,
        "settings": to_json_value(settings),
        "arrays": {name: list(shape) for name, shape in stream.arrays.items()},
        "weights": settings.mark,
    }
    variant = layout.variant(stream.variant, fingerprint(described))
    publish(variant.settings_file, readable_json(described), replace=False)
    scenes = {viewing.video_id: viewing.scenes for _, viewing in plan.all_viewings()}
    lost = {video_id for video_id in scenes if _is_lost(video_id, settings)}
    for shard in range(catalog.shard_count):
        ids = catalog.shard_ids(shard)
        entries = {
            v: ManifestEntry(failure_status("removed", settings.mark) if v in lost else DONE)
            for v in ids
        }
        tracks = (
            generate_track(v, scenes[v], stream, seed=settings.seed, noise=settings.noise)
            for v in ids
            if v not in lost
        )
        commit(
            variant, catalog.name, shard, entries=entries, tracks=tracks,
            max_part_bytes=DEFAULT_PART_BYTES, provenance={"weights": settings.mark},
        )  # fmt: skip


def _is_lost(video_id: str, settings: SyntheticUserSettings) -> bool:
    return shard_of(f"{settings.seed}{video_id}", 10_000) < settings.lost_share * 10_000


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()
