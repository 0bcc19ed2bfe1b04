"""`python -m trainer maps MODEL FOLDER`: distinction maps of a finished PLD-VHD as a picture, and
numbers.

Refuses to know how maps are made.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from storage.base.paths import Layout
from trainer.base.progress import ProgressBar
from trainer.cli.given_paths import check_given_paths


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model", type=Path, help="a model.safetensors of a pld_vhd recipe")
    parser.add_argument("folder", type=Path, help="the catalog, ROOT/NAME")
    parser.add_argument("--split", choices=("train", "validation", "test", "all"), default="test")
    parser.add_argument(
        "--videos", type=int, default=4, help="how many are drawn, evenly spread over the split"
    )
    parser.add_argument("--columns", type=int, default=10, help="frames of each that are drawn")
    parser.add_argument("--device", default="cpu")


def run(options: argparse.Namespace) -> Iterator[str]:
    """How well maps cover the planted figures, if there are any; then the picture's path."""
    check_given_paths(options.model, options.folder)
    from trainer.inference.distinction_maps import MapIoU, VideoMaps, map_iou, video_maps
    from trainer.plots.map_overlay import video_contact_sheet, write_sheet
    from trainer.training.fit import load_trained_model  # networks take seconds to import

    restored = load_trained_model(options.model, options.folder, options.device)
    asked = restored.data.scoring(options.split).example_set.examples
    drawn = {
        asked[int(place)].video_id
        for place in np.linspace(0, len(asked) - 1, max(1, options.videos)).round()
    }
    shown: list[VideoMaps] = []
    covers: list[MapIoU] = []
    with ProgressBar("video") as watched:
        watched.start(f"maps of {restored.recipe.name}", len(asked))
        for video in video_maps(restored, options.split, options.device):
            covers += [found for found in [map_iou(video, options.folder)] if found is not None]
            shown += [video] if video.video_id in drawn else []
            watched.advance(1)
    if covers:
        means = {
            name: np.mean([getattr(one, name) for one in covers])
            for name in ("iou", "elsewhere", "everywhere")
        }
        yield (
            f"{restored.recipe.name}: maps of highlights and the planted figure, {len(covers)} videos: IoU "
            f"{means['iou']:.3f}; with figures of other moments {means['elsewhere']:.3f}, of a map that is distinct "
            f"all over {means['everywhere']:.3f}"
        )
    layout = Layout(options.folder.absolute().parent, options.folder.absolute().name)
    path = (
        layout.folder
        / "report"
        / f"{options.model.absolute().parent.name}.{options.split}.maps.png"
    )
    write_sheet(path, video_contact_sheet(shown, columns=options.columns))
    yield str(path)
