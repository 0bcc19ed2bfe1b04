"""C3D as an extractor: prepares frames and computes rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

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
from models.extractors.c3d.network import C3D, LAYOUTS, RESIZED_HEIGHT, RESIZED_WIDTH, initialise
from models.extractors.c3d.settings import C3DSettings
from models.weights.key_mapping import load_best_layout


class C3DExtractor:
    """C3D with its weights on a device, fed frame by frame."""

    def __init__(self, network: C3D, device: str) -> None:
        self.network = to_precision(network.eval(), network.settings.precision).to(device)
        self.device = device
        self.fast = network.settings.resize == "fast"
        self.planar = prefers_planes(device, fast=self.fast)

    def prepare(self, frame: Picture) -> Picture:
        """`(H, W, 3)` uint8 RGB of any size → `(128, 171, 3)` uint8, as OpenCV resizes by default
        (bilinear).

        With the fast resize the frame, or its planes, stay as they are until `extract`.
        """
        if self.fast or isinstance(frame, Planes):
            return copy_frame(frame)
        resized = cv2.resize(frame, (RESIZED_WIDTH, RESIZED_HEIGHT), interpolation=cv2.INTER_LINEAR)
        return np.asarray(resized, dtype=np.uint8)

    def extract(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        """Windows of 16 prepared frames → float32 rows of each kept array."""
        with inference_context(self.device):
            outputs = [
                self.network(self._clips(batch))
                for batch in split_into_batches(windows, self.device, clip_stacking_key)
            ]
        return {name: collect_rows(outputs, name) for name in self.network.settings.arrays}

    def _clips(self, windows: Sequence[Sequence[Any]]) -> Tensor:
        """`(B, 3, T, H, W)` uint8 on the device."""
        return stack_clips(
            windows, self.device, (RESIZED_HEIGHT, RESIZED_WIDTH) if self.fast else None
        )


def build_extractor(settings: C3DSettings, weights: str, device: str) -> C3DExtractor:
    """C3D from a published state dict file, or from `random:SEED`."""
    network = C3D(settings)
    seed = random_seed(weights)
    if seed is None:
        network.load_state_dict(load_best_layout(Path(weights), LAYOUTS))
    else:
        initialise(network, seed)
    return C3DExtractor(network, device)
