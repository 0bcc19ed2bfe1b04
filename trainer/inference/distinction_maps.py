"""Distinction maps of a trained PLD-VHD, with the frames they are about and the true figures.

Whether a map covers what it should is only known for synthetic catalogs, whose sources have a mask
of the figure.

Letters in shapes: n positions of a video, H and W pixels of a stored frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.highlight.generic.pld_vhd import PLDVHD
from storage.base.errors import LookupFailed, SettingsError
from trainer.data import Loader, LoaderSettings, to_device
from trainer.data.sources.figure_masks import read_figure_mask
from trainer.data.sources.frame_clips import FrameClips
from trainer.data.user_examples import Split
from trainer.losses.pld_vhd import intersection_over_union
from trainer.training.fit import TrainedModel

DISTINCT = 0.5
"""A pixel above this value belongs to a highlight."""


@dataclass(frozen=True)
class VideoMaps:
    """The maps of one video."""

    video_id: str
    pictures: NDArray[np.uint8]
    """`(n, H, W, 3)` RGB."""
    maps: NDArray[np.float32]
    """`(n, H, W)` in [0, 1], resized from the network's size to that of the pictures."""
    is_highlight: NDArray[np.bool_]
    """`(n,)`"""
    frames: NDArray[np.int64]
    """`(n,)`: the frame of the video that each position is about."""


def video_maps(restored: TrainedModel, split: Split, device: str) -> Iterator[VideoMaps]:
    """The maps of each video of a split. Raises SettingsError if the network makes none."""
    model, features = restored.model, restored.data.features
    if not isinstance(model, PLDVHD) or not isinstance(features, FrameClips):
        raise SettingsError(
            (f"{restored.recipe.name} makes no distinction maps: take a recipe of pld_vhd",)
        )
    model.eval()
    # One video at a time: the number of positions differs from video to video.
    for batch, targets, examples in Loader(restored.data.scoring(split), LoaderSettings(1)):
        with torch.inference_mode():
            scores = model(to_device(batch, device))
        small_maps = scores.parts["distinctions"][0].float().cpu().numpy()
        video_id = examples[0].video_id
        pictures = np.stack(features.full_size_frames(video_id, np.arange(len(small_maps))))
        yield VideoMaps(
            video_id,
            pictures,
            _resized(small_maps, *pictures.shape[1:3]),
            targets.positive[0].numpy(),
            features.frame_numbers(video_id),
        )


def _resized(maps: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    resized = [cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR) for small in maps]
    return np.stack(resized).clip(0, 1)


@dataclass(frozen=True)
class MapIoU:
    """Mean intersection over union of the maps of one video's highlights with its figure."""

    iou: float
    elsewhere: float
    """IoU of the same maps with the figures of the video's other highlights: what maps reach that
    do not follow the figure.
    """
    everywhere: float
    """IoU of a map in which every pixel is distinct."""


def map_iou(video: VideoMaps, folder: Path) -> MapIoU | None:
    """None if the video has no highlight, or the catalog has no masks of its figures."""
    try:
        figure = read_figure_mask(folder, video.video_id)[video.frames]
    except LookupFailed:
        return None
    if not video.is_highlight.any():
        return None
    maps = torch.from_numpy(video.maps[video.is_highlight] > DISTINCT)
    figures = torch.from_numpy(figure[video.is_highlight])
    # Half of the highlights away, so that every map meets the figure of another moment.
    other_figures = figures.roll(len(figures) // 2, 0)
    return MapIoU(
        _mean_iou(maps, figures),
        _mean_iou(maps, other_figures),
        _mean_iou(torch.ones_like(maps), figures),
    )


def _mean_iou(maps: Tensor, figures: Tensor) -> float:
    return float(intersection_over_union(maps, figures).mean())
