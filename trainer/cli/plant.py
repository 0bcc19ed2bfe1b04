"""`python -m trainer plant ROOT`: a store with planted tastes or categories, or saliency for a
drawn catalog.

Refuses to know how any of it is planted.
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
    """What the command takes."""
    tastes, videos = SyntheticUserSettings(), CategorySettings()
    parser.add_argument(
        "root", type=Path, metavar="ROOT",
        help="where the catalog `planted` or `planted-category` is to lie; for saliency, the drawn catalog itself",
    )  # fmt: skip
    parser.add_argument("--kind", choices=tuple(_PLANT), default="tastes", help="what is planted")
    parser.add_argument("--seed", type=int, default=tastes.seed)
    of = parser.add_argument_group("tastes")
    of.add_argument("--train-users", type=int, default=tastes.train_users)
    of.add_argument("--test-users", type=int, default=tastes.test_users)
    of.add_argument("--max-videos", type=int, default=tastes.max_videos, help="of a user's history")
    of.add_argument(
        "--fewest-tastes",
        type=int,
        default=tastes.fewest_tastes,
        help="of a user, beside everybody's",
    )
    of.add_argument("--most-tastes", type=int, default=tastes.most_tastes)
    of.add_argument(
        "--with-frames", action="store_true", help="yolov5 and keypoint_rcnn arrays too"
    )
    of = parser.add_argument_group("category")
    of.add_argument("--train-videos", type=int, default=videos.train_videos, help="of each domain")
    of.add_argument("--test-videos", type=int, default=videos.test_videos, help="of each domain")


def run(options: argparse.Namespace) -> Iterator[str]:
    """The folder that was written."""
    try:
        planted = _PLANT[options.kind](options)
    except ValueError as error:
        raise SettingsError((str(error),)) from error
    yield str(planted)


def _tastes(options: argparse.Namespace) -> Path:
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


def _category(options: argparse.Namespace) -> Path:
    settings = CategorySettings(
        seed=options.seed, train_videos=options.train_videos, test_videos=options.test_videos
    )
    return synthesize_categories(options.root, settings)


def _saliency(options: argparse.Namespace) -> Path:
    return synthesize_saliency(options.root, SaliencySettings(seed=options.seed))


_PLANT: dict[str, Callable[[argparse.Namespace], Path]] = {
    "tastes": _tastes,
    "category": _category,
    "saliency": _saliency,
}
