"""`python -m trainer maps MODEL FOLDER`: draws and measures distinction maps of a PLD-VHD."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from storage.base.paths import Layout
from trainer.base.progress import ProgressBar
from trainer.cli.options import add_device, add_model_and_folder, check_model_and_folder

if TYPE_CHECKING:
    from trainer.inference.distinction_maps import MapIoU


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model_and_folder(parser, "a model.safetensors of a pld_vhd recipe")
    parser.add_argument("--split", choices=("train", "validation", "test", "all"), default="test")
    parser.add_argument(
        "--videos", type=int, default=4, help="videos to draw, evenly spread over the split"
    )
    parser.add_argument("--columns", type=int, default=10, help="frames to draw of each video")
    add_device(parser)


def run(options: argparse.Namespace) -> Iterator[str]:
    """Make the maps; yields how well they match the figures, if known, and the picture's path."""
    check_model_and_folder(options)
    # Networks take seconds to import.
    from trainer.inference.distinction_maps import map_iou, video_maps
    from trainer.plots.map_overlay import video_contact_sheet, write_sheet
    from trainer.training.fit import load_trained_model

    restored = load_trained_model(options.model, options.folder, options.device)
    recipe_name = restored.recipe.name
    examples = restored.data.scoring(options.split).example_set.examples
    positions = np.linspace(0, len(examples) - 1, max(1, options.videos)).round()
    drawn = {examples[int(position)].video_id for position in positions}
    shown, ious = [], []
    with ProgressBar("video") as bar:
        bar.start(f"maps of {recipe_name}", len(examples))
        for video in video_maps(restored, options.split, options.device):
            iou = map_iou(video, options.folder)
            if iou is not None:
                ious.append(iou)
            if video.video_id in drawn:
                shown.append(video)
            bar.advance(1)
    if ious:
        yield f"{recipe_name}: {_described(ious)}"
    report = Layout(options.folder.absolute().parent, options.folder.absolute().name).report
    path = report / f"{options.model.absolute().parent.name}.{options.split}.maps.png"
    write_sheet(path, video_contact_sheet(shown, columns=options.columns))
    yield str(path)


def _described(ious: Sequence[MapIoU]) -> str:
    """The means over videos."""
    means = {
        field.name: np.mean([getattr(iou, field.name) for iou in ious]) for field in fields(ious[0])
    }
    return (
        f"maps of highlights and the figure, {len(ious)} videos: IoU {means['iou']:.3f}; with "
        f"figures of other moments {means['elsewhere']:.3f}, of a map that is distinct everywhere "
        f"{means['everywhere']:.3f}"
    )
