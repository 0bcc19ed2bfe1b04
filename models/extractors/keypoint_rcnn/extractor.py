"""Frames in, rows of persons out: the resizing before keypoint R-CNN and the packing after it, for
either backend.

The resizing is Detectron2's own (PIL, bilinear, on uint8). Refuses to know what a network is made
of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from models.extractors.base.contract import random_seed
from models.extractors.base.inference import (
    Picture,
    copy_frame,
    inference_context,
    prefers_planes,
    resize_bilinear,
    split_into_batches,
    stack_frames,
    stacking_key,
)
from models.extractors.base.yuv import Planes
from models.extractors.keypoint_rcnn.network import KeypointRCNN, Persons, RcnnSettings
from models.extractors.keypoint_rcnn.settings import KeypointRCNNSettings
from models.extractors.keypoint_rcnn.weights import expected_shapes, initialise, name_in_network
from models.weights.loading import load_matching_tensors

Detector = Callable[[Tensor, Sequence[tuple[int, int]], RcnnSettings], list[Persons]]
"""(B resized pictures, (B, 3, H, W) uint8 RGB; height and width of the frame each was; rules) → the
persons of each.
"""


@dataclass(frozen=True)
class ResizedFrame:
    """A frame as the network wants it, and how large it was."""

    picture: Picture
    """`(H, W, 3)` uint8 RGB; with the fast resize, the frame as decoded, or its planes."""
    original: tuple[int, int]
    """Height and width of the frame as decoded."""


def resized_size(height: int, width: int, shorter: int, longest: int) -> tuple[int, int]:
    """(height, width) after resizing: the shorter side is `shorter`, unless the longer one would
    exceed `longest`.

    In Detectron2's order of operations: another one rounds some sizes differently, and everything
    after with them.
    """
    scale = shorter / min(height, width)
    new_height, new_width = (
        (float(shorter), scale * width) if height < width else (scale * height, float(shorter))
    )
    if max(new_height, new_width) > longest:
        scale = longest / max(new_height, new_width)
        new_height, new_width = new_height * scale, new_width * scale
    return int(new_height + 0.5), int(new_width + 0.5)


class KeypointRCNNExtractor:
    """A detector with its weights on a device. Frames share a backbone's forward only on a GPU, and
    only with frames of their size; persons are found frame by frame.
    """

    def __init__(self, detector: Detector, settings: KeypointRCNNSettings, device: str) -> None:
        self.detector = detector
        self.settings = settings
        self.rules = RcnnSettings(
            settings.score_threshold, settings.nms_threshold, settings.max_persons
        )
        self.device = device
        self.fast = settings.resize == "fast"
        self.planar = prefers_planes(device, fast=self.fast)

    def prepare(self, frame: Picture) -> ResizedFrame:
        """`(H, W, 3)` uint8 RGB of any size → resized, with the size it had.

        With the fast resize the frame, or its planes, stay as they are until `extract`.
        """
        original = (frame.shape[0], frame.shape[1])
        if self.fast or isinstance(frame, Planes):
            return ResizedFrame(copy_frame(frame), original)
        height, width = self._size(original)
        picture = Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR)
        return ResizedFrame(np.array(picture, dtype=np.uint8), original)

    def _size(self, original: tuple[int, int]) -> tuple[int, int]:
        return resized_size(*original, self.settings.min_size_pixels, self.settings.max_size_pixels)

    def extract(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        """Windows of one prepared frame each → float32 rows of each kept array, `(persons, ...)`,
        best first.
        """
        frames: list[ResizedFrame] = [window[0] for window in windows]
        with inference_context(self.device):
            found = [
                self._persons(batch)
                for batch in split_into_batches(
                    frames, self.device, lambda frame: stacking_key(frame.picture)
                )
            ]
        every = [persons for batch in found for persons in batch]
        counts = [len(persons.boxes) for persons in every]
        # One wait for a GPU an array, and not one a frame.
        arrays = {
            name: torch.cat([getattr(persons, name) for persons in every]).float().cpu()
            for name in self.settings.arrays
        }
        return {
            name: [rows.numpy() for rows in torch.split(array, counts)]
            for name, array in arrays.items()
        }

    def _persons(self, frames: Sequence[ResizedFrame]) -> list[Persons]:
        pictures = stack_frames([frame.picture for frame in frames], self.device)
        if self.fast:
            pictures = resize_bilinear(pictures, *self._size(frames[0].original), antialias=True)
        return self.detector(pictures, [frame.original for frame in frames], self.rules)


def load_network(weights: str) -> KeypointRCNN:
    """The network with the tensors of `model_final_a6e10b.pkl`, by name, or of `random:SEED`."""
    network = KeypointRCNN()
    seed = random_seed(weights)
    if seed is None:
        network.load_state_dict(
            load_matching_tensors(Path(weights), expected_shapes(network), name_in_network)
        )
    else:
        initialise(network, seed)
    return network.eval()


def build_extractor(
    settings: KeypointRCNNSettings, weights: str, device: str
) -> KeypointRCNNExtractor:
    """The extractor of `settings`; `weights` is a file or `random:SEED`, read alike for both
    backends.
    """
    network = load_network(weights)
    if settings.backend == "torchvision":
        network.lower(settings.precision)
        return KeypointRCNNExtractor(network.to(device), settings, device)
    from models.extractors.keypoint_rcnn.detectron2_backend import Detectron2Detector

    return KeypointRCNNExtractor(
        Detectron2Detector(network.state_dict(), settings, device), settings, device
    )
