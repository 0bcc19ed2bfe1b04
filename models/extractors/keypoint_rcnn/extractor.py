"""Keypoint R-CNN as an extractor, for either backend: resizes frames, packs persons into rows.

The resizing is Detectron2's own: PIL, bilinear, on uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from models.extractors.base.contract import Frame, random_seed
from models.extractors.base.inference import inference_context, resize_bilinear
from models.extractors.base.resizing_extractor import FrameExtractor, SizedFrame
from models.extractors.keypoint_rcnn.network import KeypointRCNN, Persons, RcnnSettings
from models.extractors.keypoint_rcnn.settings import KeypointRCNNSettings
from models.extractors.keypoint_rcnn.weights import expected_shapes, initialise, name_in_network
from models.weights.loading import load_matching_tensors

Detector = Callable[[Tensor, Sequence[tuple[int, int]], RcnnSettings], list[Persons]]
"""`(B, 3, H, W)` uint8 RGB, resized; height and width of each frame before; settings → the persons
of each picture.
"""


def resized_size(height: int, width: int, shorter: int, longest: int) -> tuple[int, int]:
    """(height, width) with a shorter side of `shorter`, unless the longer exceeds `longest`."""
    # In Detectron2's order of operations: another order rounds some sizes differently, and moves
    # every box after it.
    scale = shorter / min(height, width)
    if height < width:
        new_height, new_width = float(shorter), scale * width
    else:
        new_height, new_width = scale * height, float(shorter)
    new_longest = max(new_height, new_width)
    if new_longest > longest:
        scale = longest / new_longest
        new_height, new_width = new_height * scale, new_width * scale
    return int(new_height + 0.5), int(new_width + 0.5)


class KeypointRCNNExtractor(FrameExtractor):
    """A detector with its weights on a device.

    On a GPU frames of one size share the forward of the backbone; persons are found frame by frame.
    """

    def __init__(self, detector: Detector, settings: KeypointRCNNSettings, device: str) -> None:
        super().__init__(settings, device)
        self.detector = detector
        self.settings = settings
        self.rcnn_settings = RcnnSettings(
            settings.score_threshold, settings.nms_threshold, settings.max_persons
        )

    def resize(self, frame: Frame) -> Frame:
        """`(H, W, 3)` uint8 RGB → the size that Detectron2 would give it."""
        height, width = self._resized_size((frame.shape[0], frame.shape[1]))
        picture = Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR)
        return np.array(picture, dtype=np.uint8)

    def _resized_size(self, frame_size: tuple[int, int]) -> tuple[int, int]:
        height, width = frame_size
        return resized_size(
            height, width, self.settings.min_size_pixels, self.settings.max_size_pixels
        )

    def extract(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        """Windows of one prepared frame → float32 rows of each kept array.

        A row is `(persons, ...)`, best first.
        """
        persons_of_frames: list[Persons] = []
        with inference_context(self.device):
            for frames in self.frame_batches(windows):
                persons_of_frames.extend(self._detect(frames))
        counts = [len(persons.boxes) for persons in persons_of_frames]
        rows: dict[str, Sequence[NDArray[Any]]] = {}
        for name in self.settings.arrays:
            arrays = [persons.array(name) for persons in persons_of_frames]
            # Joined first: one wait for a GPU per array, and not one per frame.
            joined = torch.cat(arrays).float().cpu()
            rows[name] = [part.numpy() for part in torch.split(joined, counts)]
        return rows

    def _detect(self, frames: Sequence[SizedFrame]) -> list[Persons]:
        pictures = self.stack(frames)
        frame_sizes = [frame.frame_size for frame in frames]
        if self.resizes_on_device:
            height, width = self._resized_size(frame_sizes[0])
            pictures = resize_bilinear(pictures, height, width, antialias=True)
        return self.detector(pictures, frame_sizes, self.rcnn_settings)


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
    """The extractor of `settings`; `weights` is a file or `random:SEED`, for either backend."""
    network = load_network(weights)
    if settings.backend == "torchvision":
        network.set_precision(settings.precision)
        return KeypointRCNNExtractor(network.to(device), settings, device)
    # Imported here, because that package is optional.
    from models.extractors.keypoint_rcnn.detectron2_backend import Detectron2Detector

    detector = Detectron2Detector(network.state_dict(), settings, device)
    return KeypointRCNNExtractor(detector, settings, device)
