"""`python -m trainer plant ROOT`: a store with planted tastes, to try models on without a video.

Refuses to know how tastes are planted.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from storage.errors import SettingsError
from trainer.planted import PlantedSettings, plant


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    of = PlantedSettings()
    parser.add_argument("root", type=Path, metavar="ROOT", help="where the catalog `planted` is to lie")
    parser.add_argument("--seed", type=int, default=of.seed)
    parser.add_argument("--train-users", type=int, default=of.train_users)
    parser.add_argument("--test-users", type=int, default=of.test_users)
    parser.add_argument("--max-videos", type=int, default=of.max_videos, help="of a user's history")
    parser.add_argument("--fewest-tastes", type=int, default=of.fewest_tastes, help="of a user, beside everybody's")
    parser.add_argument("--most-tastes", type=int, default=of.most_tastes)
    parser.add_argument("--with-frames", action="store_true", help="yolov5 and keypoint_rcnn arrays too")


def run(options: argparse.Namespace) -> Iterator[str]:
    """The catalog's folder."""
    try:
        settings = PlantedSettings(
            seed=options.seed,
            train_users=options.train_users,
            test_users=options.test_users,
            max_videos=options.max_videos,
            fewest_tastes=options.fewest_tastes,
            most_tastes=options.most_tastes,
            with_frames=options.with_frames,
        )
    except ValueError as error:
        raise SettingsError((str(error),)) from error
    yield str(plant(options.root, settings))
