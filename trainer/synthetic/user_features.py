"""Generates a catalog of users with known preferences and its features, without any video.

Users, GIFs and durations are timed as in PHD2. The scenes of a video show kinds, a user marks
scenes of the kinds that this user likes, and features are made of kinds (`feature_generator`). So
claims about models can be tried, for three reasons:

- there are two kinds that all users like, so a model without users beats chance;
- each user has kinds of their own, so a model with users is better, and loses the gain with another
  user's history. These kinds are random directions for each user: no network can memorise those of
  test users;
- there are decoys midway between two kinds that a user likes, which the user does not mark. They
  are as near to the mean of the user's history as anything, and farther from each of its elements,
  so attention over elements can win.

The weights are named `planted:SEED`.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from storage.base.fingerprint import to_json_value
from storage.base.paths import Layout
from storage.base.records import JSON, Annotation, Link, User, Video
from storage.base.video_status import failure_status
from storage.catalog.catalog import Catalog, default_shard_count, shard_of, write_catalog
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
from trainer.synthetic.variant_writer import write_variant

__all__ = ["SyntheticUserSettings", "Timing", "published_timing", "synthesize_users", "timing_of"]


def synthesize_users(
    root: Path,
    settings: SyntheticUserSettings,
    timing: Timing | None = None,
    *,
    name: str = "planted",
) -> Path:
    """Write the catalog, its feature variants, and the truth: `sources/scenes.csv`, `tastes.csv`.

    Returns the catalog's folder, which `trainer.data.open_data` opens. Writing the same again
    changes nothing.
    """
    plan = Plan.draw(settings, timing or published_timing())
    layout = Layout(root, name)
    catalog = _catalog(plan, settings, name)
    scenes = _table(("video_id", "start", "end", "kind"), plan.scene_rows())
    tastes = _table(("user_id", "kind", "share"), plan.taste_rows())
    publish(layout.sources / "scenes.csv", scenes, replace=False)
    publish(layout.sources / "tastes.csv", tastes, replace=False)
    write_catalog(layout, catalog)
    variants = [clip_variant(settings.width)]
    if settings.with_frames:
        variants += frame_variants(settings.object_shape, settings.joint_channels)
    for variant in variants:
        _write_variant(layout, catalog, variant, plan, settings)
    return layout.folder


def _catalog(plan: Plan, settings: SyntheticUserSettings, name: str) -> Catalog:
    durations: dict[str, float] = {}
    links: list[Link] = []
    annotations: list[Annotation] = []
    for user_id, viewing in plan.all_viewings():
        video_id = viewing.video_id
        durations[video_id] = viewing.scenes[-1].end
        links.append(Link(user_id, video_id, "target" if viewing.is_target else "history"))
        annotations += [Annotation(video_id, user_id, start, end) for start, end in viewing.gifs]
    return Catalog(
        name=name,
        videos=tuple(
            # Catalogs claim whole seconds, as PHD2 does.
            Video(video_id, float(math.ceil(seconds)))
            for video_id, seconds in durations.items()
        ),
        users=tuple(User(user_id, split) for user_id, split in plan.splits.items()),
        links=tuple(links),
        annotations=tuple(annotations),
        shard_count=default_shard_count(len(durations)),
        time_unit="seconds",
        origin={"reader": settings.mark, "settings": to_json_value(settings)},
    )


def _write_variant(
    layout: Layout,
    catalog: Catalog,
    variant: FeatureVariant,
    plan: Plan,
    settings: SyntheticUserSettings,
) -> None:
    described: dict[str, JSON] = {
        "extractor": variant.name,
        "settings": to_json_value(settings),
        "arrays": {name: list(shape) for name, shape in variant.arrays.items()},
        "weights": settings.mark,
    }
    scenes = {viewing.video_id: viewing.scenes for _, viewing in plan.all_viewings()}
    # Lost videos are the same in all variants, as on the web.
    removed = failure_status("removed", settings.mark)
    write_variant(
        layout,
        catalog,
        variant.name,
        described,
        lambda video_id: generate_track(
            video_id, scenes[video_id], variant, seed=settings.seed, noise=settings.noise
        ),
        failures={video_id: removed for video_id in scenes if _is_lost(video_id, settings)},
    )


def _is_lost(video_id: str, settings: SyntheticUserSettings) -> bool:
    return shard_of(f"{settings.seed}{video_id}", 10_000) < settings.lost_share * 10_000


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()
