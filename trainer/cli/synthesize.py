"""`python -m trainer synthesize ROOT`: writes synthetic features.

These are a catalog of users with known preferences, a catalog of four domains, or saliency for a
synthetic catalog that exists already.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

from storage.base.errors import SettingsError
from trainer.synthetic.category_features import CategorySettings, synthesize_categories
from trainer.synthetic.saliency import SaliencySettings, synthesize_saliency
from trainer.synthetic.user_features import SyntheticUserSettings, synthesize_users


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    users, videos = SyntheticUserSettings(), CategorySettings()
    parser.add_argument(
        "root",
        type=Path,
        metavar="ROOT",
        help="the folder for the catalog `planted` or `planted-category`; for saliency, the "
        "synthetic catalog itself",
    )
    parser.add_argument("--kind", choices=tuple(_WRITERS), default="tastes", help="what is written")
    parser.add_argument("--seed", type=int, default=users.seed)
    group = parser.add_argument_group("tastes")
    group.add_argument("--train-users", type=int, default=users.train_users)
    group.add_argument("--test-users", type=int, default=users.test_users)
    group.add_argument(
        "--max-videos", type=int, default=users.max_videos, help="most videos of a user's history"
    )
    group.add_argument(
        "--fewest-tastes",
        type=int,
        default=users.fewest_tastes,
        help="of a user, besides those of all users",
    )
    group.add_argument("--most-tastes", type=int, default=users.most_tastes)
    group.add_argument(
        "--with-frames", action="store_true", help="yolov5 and keypoint_rcnn arrays too"
    )
    group = parser.add_argument_group("category")
    group.add_argument(
        "--train-videos", type=int, default=videos.train_videos, help="of each domain"
    )
    group.add_argument("--test-videos", type=int, default=videos.test_videos, help="of each domain")


def run(options: argparse.Namespace) -> Iterator[str]:
    """Write the features; yields their folder."""
    try:
        folder = _WRITERS[options.kind](options)
    except ValueError as error:
        raise SettingsError((str(error),)) from error
    yield str(folder)


def _write_users(options: argparse.Namespace) -> Path:
    settings = SyntheticUserSettings(
        seed=options.seed,
        train_users=options.train_users,
        test_users=options.test_users,
        max_videos=options.max_videos,
        fewest_tastes=options.fewest_tastes,
        most_tastes=options.most_tastes,
        with_frames=options.with_frames,
    )
    return synthesize_users(options.root, settings)


def _write_categories(options: argparse.Namespace) -> Path:
    settings = CategorySettings(
        seed=options.seed, train_videos=options.train_videos, test_videos=options.test_videos
    )
    return synthesize_categories(options.root, settings)


def _write_saliency(options: argparse.Namespace) -> Path:
    return synthesize_saliency(options.root, SaliencySettings(seed=options.seed))


_WRITERS: dict[str, Callable[[argparse.Namespace], Path]] = {
    "tastes": _write_users,
    "category": _write_categories,
    "saliency": _write_saliency,
}
