"""TASED-Net as an extractor: prepares frames and computes saliency maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from models.extractors.base.contract import random_seed
from models.extractors.base.inference import (
    Picture,
    clip_stacking_key,
    collect_rows,
    copy_frame,
    inference_context,
    prefers_planes,
    split_into_batches,
    stack_clips,
    to_precision,
)
from models.extractors.base.yuv import Planes
from models.extractors.tased.network import TasedNet
from models.extractors.tased.settings import MAP_HEIGHT, MAP_WIDTH, TasedSettings
from models.extractors.tased.weights import initialise, load_weights


class TasedExtractor:
    """TASED-Net with its weights on a device, fed frame by frame."""

    def __init__(self, network: TasedNet, settings: TasedSettings, device: str) -> None:
        self.network = to_precision(network.eval(), settings.precision).to(device)
        self.block_pixels = settings.block_pixels
        self.device = device
        self.fast = settings.resize == "fast"
        self.planar = prefers_planes(device, fast=self.fast)

    def prepare(self, frame: Picture) -> Picture:
        """`(H, W, 3)` uint8 RGB of any size → `(224, 384, 3)` uint8, as OpenCV resizes by default
        (bilinear).

        With the fast resize the frame, or its planes, stay as they are until `extract`.
        """
        if self.fast or isinstance(frame, Planes):
            return copy_frame(frame)
        resized = cv2.resize(frame, (MAP_WIDTH, MAP_HEIGHT), interpolation=cv2.INTER_LINEAR)
        return np.asarray(resized, dtype=np.uint8)

    def extract(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        """Windows of 32 prepared frames → the float32 map of each one's last frame, averaged over
        blocks.
        """
        with inference_context(self.device):
            outputs = [
                {"saliency": self._maps(self._clips(batch))}
                for batch in split_into_batches(windows, self.device, clip_stacking_key)
            ]
        return {"saliency": collect_rows(outputs, "saliency")}

    def _clips(self, windows: Sequence[Sequence[Any]]) -> Tensor:
        """`(B, 3, T, H, W)` uint8 on the device."""
        clips = stack_clips(windows, self.device, (MAP_HEIGHT, MAP_WIDTH) if self.fast else None)
        return (
            clips.contiguous()
        )  # the authors' memory layout, so that convolutions add up in their order

    def _maps(self, clips: Tensor) -> Tensor:
        """`(B, H, W)` with blocks for pixels."""
        return nn.functional.avg_pool2d(self.network(clips)[:, None].float(), self.block_pixels)[
            :, 0
        ]


def build_extractor(settings: TasedSettings, weights: str, device: str) -> TasedExtractor:
    """TASED-Net from the released state dict file, or from `random:SEED`."""
    network = TasedNet()
    seed = random_seed(weights)
    if seed is None:
        network.load_state_dict(load_weights(Path(weights)))
    else:
        initialise(network, seed)
    return TasedExtractor(network, settings, device)
