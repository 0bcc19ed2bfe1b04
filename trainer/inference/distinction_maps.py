"""Distinction maps of a finished PLD-VHD: over the frames they are about, and beside the figures
that were drawn there.

Refuses to know how networks are trained. Whether a map covers what it should can be said of drawn
catalogs alone, whose sources tell where their figure is.

Letters in shapes: n positions of a video, H and W pixels of a frame as it is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from models.highlight.generic.pld_vhd import PLDVHD
from storage.base.errors import LookupFailed, SettingsError
from trainer.data import Loader, LoaderSettings, to_device
from trainer.data.sources.figure_masks import read_figure_mask
from trainer.data.sources.frame_clips import FrameClips
from trainer.data.user_examples import Split
from trainer.losses.pld_vhd import intersection_over_union
from trainer.training.fit import TrainedModel

DISTINCT = 0.5
"""A pixel above it belongs to a highlight."""


@dataclass(frozen=True)
class VideoMaps:
    """What a network says of one video."""

    video_id: str
    pictures: NDArray[np.uint8]
    """`(n, H, W, 3)` RGB."""
    maps: NDArray[np.float32]
    """`(n, H, W)` in [0, 1]: brought from the network's size to the pictures'."""
    is_highlight: NDArray[np.bool_]
    """`(n,)`"""
    frames: NDArray[np.int64]
    """`(n,)`: which picture of the video each position is about."""


def video_maps(restored: TrainedModel, split: Split, device: str) -> Iterator[VideoMaps]:
    """The maps of each video of a split. Raises SettingsError for a network that makes none."""
    model, features = restored.model, restored.data.features
    if not isinstance(model, PLDVHD) or not isinstance(features, FrameClips):
        raise SettingsError(
            (f"{restored.recipe.name} makes no distinction maps: take a recipe of pld_vhd",)
        )
    model.eval()
    for batch, targets, examples in Loader(restored.data.scoring(split), LoaderSettings(1)):
        with torch.inference_mode():
            found = model(to_device(batch, device)).parts["distinctions"][0].float().cpu().numpy()
        video_id = examples[0].video_id
        numbers = np.arange(len(found))
        pictures = np.stack(features.full_size_frames(video_id, numbers))
        height, width = pictures.shape[1:3]
        maps = np.stack(
            [cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR) for one in found]
        )
        yield VideoMaps(
            video_id,
            pictures,
            maps.clip(0, 1),
            targets.positive[0].numpy(),
            features.frame_numbers(video_id),
        )


@dataclass(frozen=True)
class MapIoU:
    """How well the maps of one video's highlights cover its figure: mean intersection over
    union.
    """

    iou: float
    elsewhere: float
    """Of the same maps with the figures of the video's other highlights: what they would reach
    wherever they lay.
    """
    everywhere: float
    """Of a map that is distinct all over."""


def map_iou(video: VideoMaps, folder: Path) -> MapIoU | None:
    """None for a video without a highlight, or of a catalog that does not tell where its figure
    is.
    """
    try:
        figure = read_figure_mask(folder, video.video_id)[video.frames]
    except LookupFailed:
        return None
    if not video.is_highlight.any():
        return None
    found = torch.from_numpy(video.maps[video.is_highlight] > DISTINCT)
    wanted = torch.from_numpy(figure[video.is_highlight])

    def mean(maps: torch.Tensor, figures: torch.Tensor) -> float:
        return float(intersection_over_union(maps, figures).mean())

    half = len(wanted) // 2
    return MapIoU(
        mean(found, wanted), mean(found, wanted.roll(half, 0)), mean(torch.ones_like(found), wanted)
    )
