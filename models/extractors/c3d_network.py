"""The C3D network (Sports-1M) and its exact preprocessing.

Source: D. Tran et al., "Learning Spatiotemporal Features with 3D Convolutional Networks", ICCV 2015, and the test
settings of its Caffe release (facebookarchive/C3D): frames squeezed to 128×171 whatever their aspect, BGR on the 0 to
255 scale, mean subtracted, 112×112 centre crop, pooling in Caffe's ceil mode (windows {0,1} {2,3} {4,5} {6} at pool5).

Letters: B clips, T = 16 frames, H = 128 and W = 171 pixels before the crop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.extractors.spec import Frame, random_seed
from models.weights import load_state_dict

RESIZED_HEIGHT, RESIZED_WIDTH = 128, 171
CROP = 112
TOP, LEFT = (RESIZED_HEIGHT - CROP) // 2, (RESIZED_WIDTH - CROP) // 2
MEAN_RGB = (102.0, 98.0, 90.0)
"""Sports-1M means on the 0 to 255 scale, in RGB order (the ports that use one mean per channel write them as BGR)."""

CONVOLUTIONS = {
    "conv1": (3, 64), "conv2": (64, 128), "conv3a": (128, 256), "conv3b": (256, 256),
    "conv4a": (256, 512), "conv4b": (512, 512), "conv5a": (512, 512), "conv5b": (512, 512),
}  # fmt: skip
LINEARS = {"fc6": (8192, 4096), "fc7": (4096, 4096), "fc8": (4096, 487)}


class C3D(nn.Module):
    """uint8 RGB clips in, features out; normalises itself."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, (inputs, outputs) in CONVOLUTIONS.items():
            self.add_module(name, nn.Conv3d(inputs, outputs, kernel_size=3, padding=1))
        for name, (inputs, outputs) in LINEARS.items():
            self.add_module(name, nn.Linear(inputs, outputs))
        self.register_buffer("mean", torch.tensor(MEAN_RGB).view(1, 3, 1, 1, 1), persistent=False)

    def forward(self, clips: Tensor) -> dict[str, Tensor]:
        """`(B, 3, T, H, W)` uint8 RGB → `pool5` (B, 8192), `fc6` and `fc7` (B, 4096), all after ReLU."""
        x = clips.float() - self.mean
        x = x[..., TOP : TOP + CROP, LEFT : LEFT + CROP].flip(1)  # (B, 3, 16, 112, 112), BGR as Caffe read it
        x = self._pool(self._conv("conv1", x), frames=1)  # (B, 64, 16, 56, 56)
        x = self._pool(self._conv("conv2", x))  # (B, 128, 8, 28, 28)
        x = self._pool(self._conv("conv3b", self._conv("conv3a", x)))  # (B, 256, 4, 14, 14)
        x = self._pool(self._conv("conv4b", self._conv("conv4a", x)))  # (B, 512, 2, 7, 7)
        x = self._pool(self._conv("conv5b", self._conv("conv5a", x)))  # (B, 512, 1, 4, 4)
        pool5 = x.flatten(1)  # (B, 8192)
        fc6 = torch.relu(self.get_submodule("fc6")(pool5))
        return {"pool5": pool5, "fc6": fc6, "fc7": torch.relu(self.get_submodule("fc7")(fc6))}

    def _conv(self, name: str, x: Tensor) -> Tensor:
        return torch.relu(self.get_submodule(name)(x))

    @staticmethod
    def _pool(x: Tensor, frames: int = 2) -> Tensor:
        return nn.functional.max_pool3d(x, (frames, 2, 2), ceil_mode=True)


def initialise(network: C3D, seed: int) -> None:
    """Kaiming-normal weights and zero biases from `seed`.

    torch's default initialisation loses the scale layer by layer: pool5 falls to 0.003 and every two clips look alike
    (cosine 0.998). This one keeps the scale, so random features still tell scenes apart.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in network.children():
        if isinstance(layer, nn.Conv3d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.constant_(layer.get_parameter("bias"), 0.0)


class C3DExtractor:
    """C3D with its weights on a device, fed frame by frame."""

    def __init__(self, network: C3D, arrays: Sequence[str], device: str) -> None:
        self.network = network.eval().to(device)
        self.arrays = tuple(arrays)
        self.device = device

    def prepare(self, frame: Frame) -> NDArray[np.uint8]:
        """`(H, W, 3)` uint8 RGB of any size → `(128, 171, 3)` uint8, as OpenCV resizes by default (bilinear)."""
        resized = cv2.resize(frame, (RESIZED_WIDTH, RESIZED_HEIGHT), interpolation=cv2.INTER_LINEAR)
        return np.asarray(resized, dtype=np.uint8)

    @torch.inference_mode()
    def extract(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        """B windows of 16 prepared frames → float32 rows of each kept array."""
        stacked = torch.from_numpy(np.stack([np.stack(window) for window in windows]))  # (B, T, H, W, 3)
        clips = stacked.permute(0, 4, 1, 2, 3).to(self.device)  # (B, 3, T, H, W)
        # TF32 would keep 10 bits of mantissa; features are promised to be the network's float32 results.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            outputs = self.network(clips)
        return {name: list(outputs[name].float().cpu().numpy()) for name in self.arrays}


def build_extractor(arrays: Sequence[str], weights: str, device: str) -> C3DExtractor:
    """C3D from a state dict file (the 22 tensors of `c3d.pickle`, by name) or from `random:SEED`, keeping `arrays`."""
    network = C3D()
    seed = random_seed(weights)
    if seed is None:
        expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        network.load_state_dict(load_state_dict(Path(weights), expected))
    else:
        initialise(network, seed)
    return C3DExtractor(network, arrays, device)
