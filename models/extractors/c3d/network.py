"""The C3D network (Sports-1M) and its exact preprocessing.

Source: D. Tran et al., "Learning Spatiotemporal Features with 3D Convolutional Networks", ICCV
2015, and the test settings of its Caffe release (facebookarchive/C3D): frames of any aspect
squeezed to 128×171, BGR on the 0 to 255 scale, mean subtracted, 112×112 centre crop, pooling in
Caffe's ceil mode (windows {0,1} {2,3} {4,5} {6} at pool5).

Letters: B clips, T = 16 frames, H = 128 and W = 171 pixels before the crop.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from models.extractors.base.channel_scaling import scale_channels
from models.extractors.base.in_place import relu
from models.extractors.base.inference import seeded_generator, to_weight_dtype
from models.extractors.base.max_pooling import max_pool3d
from models.extractors.c3d.mean_volume import load_mean
from models.extractors.c3d.settings import CHANNEL_MEANS, C3DSettings
from models.weights.key_mapping import Layout

RESIZED_HEIGHT, RESIZED_WIDTH = 128, 171
CROP = 112
TOP, LEFT = (RESIZED_HEIGHT - CROP) // 2, (RESIZED_WIDTH - CROP) // 2
MEAN_RGB = (102.0, 98.0, 90.0)
"""Sports-1M means on the 0 to 255 scale, in RGB order. Ports with one mean per channel list BGR."""

CONVOLUTIONS = {
    "conv1": (3, 64), "conv2": (64, 128), "conv3a": (128, 256), "conv3b": (256, 256),
    "conv4a": (256, 512), "conv4b": (512, 512), "conv5a": (512, 512), "conv5b": (512, 512),
}  # fmt: skip
LINEARS = {"fc6": (8192, 4096), "fc7": (4096, 4096)}
JFZHANG95 = {
    "conv1": "features.0", "conv2": "features.3",
    "conv3a": "features.6", "conv3b": "features.8",
    "conv4a": "features.11", "conv4b": "features.13",
    "conv5a": "features.16", "conv5b": "features.18",
    "fc6": "classifier.0", "fc7": "classifier.3",
}  # fmt: skip
"""Our layer → its name in the port of jfzhang95."""


class C3DTrunk(nn.Module):
    """The eight convolutions. `width` multiplies their channels; 1 is the released network."""

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        channels = 3
        for name, (_, outputs) in CONVOLUTIONS.items():
            scaled = scale_channels(outputs, width)
            self.add_module(name, nn.Conv3d(channels, scaled, kernel_size=3, padding=1))
            channels = scaled

    def stages(self, x: Tensor) -> tuple[Tensor, ...]:
        """`(B, 3, T, H, W)` float BGR minus its mean → the maps of five stages before pooling.

        Stage i, from 0, is `(B, C, T / 2^max(0, i - 1), H / 2^i, W / 2^i)`, rounded down.
        """
        stages = [self._conv("conv1", x)]
        stages.append(self._conv("conv2", self._pool(stages[-1], frames=1)))
        for first, second in (("conv3a", "conv3b"), ("conv4a", "conv4b"), ("conv5a", "conv5b")):
            pooled = self._pool(stages[-1])
            stages.append(self._conv(second, self._conv(first, pooled)))
        return tuple(stages)

    def _conv(self, name: str, x: Tensor) -> Tensor:
        return relu(self.get_submodule(name)(x))

    @staticmethod
    def _pool(x: Tensor, frames: int = 2) -> Tensor:
        return max_pool3d(x, (frames, 2, 2))


class C3D(C3DTrunk):
    """uint8 RGB clips in, features out; normalises itself."""

    mean: Tensor

    def __init__(self, settings: C3DSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or C3DSettings()
        for name, (inputs, outputs) in LINEARS.items():
            self.add_module(name, nn.Linear(inputs, outputs))
        self.register_buffer("mean", _mean(self.settings.mean), persistent=False)

    def forward(self, clips: Tensor) -> dict[str, Tensor]:
        """`(B, 3, T, H, W)` uint8 RGB → array name → `(B, width)` float32.

        `pool5` has 8192 numbers, each of the others 4096.
        """
        x = clips.float() - self.mean
        x = x[..., TOP : TOP + CROP, LEFT : LEFT + CROP]  # (B, 3, 16, 112, 112)
        x = to_weight_dtype(x.flip(1), self)  # BGR, as Caffe read it
        features = self._features(x)
        if not self.settings.mirror:
            return features
        # After the crop, which is symmetric, so that both views show the same pixels.
        mirrored = self._features(x.flip(-1))
        return {name: (features[name] + mirrored[name]) / 2 for name in features}

    def _features(self, x: Tensor) -> dict[str, Tensor]:
        x = self._pool5(self.stages(x)[-1])  # (B, 512, 2, 7, 7) to (B, 512, 1, 4, 4)
        pool5 = x.flatten(1)  # (B, 8192)
        fc6_linear = self.get_submodule("fc6")(pool5)
        fc6 = torch.relu(fc6_linear)
        fc7_linear = self.get_submodule("fc7")(fc6)
        fc7 = torch.relu(fc7_linear)
        arrays = {
            "pool5": pool5,
            "fc6_linear": fc6_linear,
            "fc6": fc6,
            "fc7_linear": fc7_linear,
            "fc7": fc7,
        }
        return {name: array.float() for name, array in arrays.items()}

    def _pool5(self, x: Tensor) -> Tensor:
        """7×7 → 4×4. Ceil: windows {0,1} {2,3} {4,5} {6}; symmetric: {0} {1,2} {3,4} {5,6}."""
        if self.settings.pool5 == "symmetric":
            return max_pool3d(x, (2, 2, 2), padding=(0, 1, 1))
        return max_pool3d(x, (2, 2, 2), ceil_mode=True)


def _mean(mean: str) -> Tensor:
    """`(1, 3, 1, 1, 1)` or, from a file, `(1, 3, 16, 128, 171)`, in RGB order."""
    if mean == CHANNEL_MEANS:
        return torch.tensor(MEAN_RGB).view(1, 3, 1, 1, 1)
    return torch.from_numpy(load_mean(Path(mean))).flip(0)[None]


def initialise(network: C3DTrunk, seed: int | None) -> None:
    """Kaiming-normal weights and zero biases, from `seed` or from torch's global generator.

    torch's default initialisation loses the scale layer by layer: pool5 falls to 0.003, and any two
    clips have a cosine of 0.998. This one keeps the scale, so that random features still differ
    between scenes.
    """
    generator = seeded_generator(seed)
    for layer in network.children():
        if isinstance(layer, nn.Conv3d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.constant_(layer.get_parameter("bias"), 0.0)


def _parameters(layers: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    weights = {f"{name}.weight": shape for name, shape in layers.items()}
    return weights | {f"{name}.bias": shape[:1] for name, shape in layers.items()}


def _as_jfzhang95(name: str) -> str:
    layer, _, kind = name.partition(".")
    return f"{JFZHANG95[layer]}.{kind}"


SHAPES = _parameters(
    {name: (outputs, inputs, 3, 3, 3) for name, (inputs, outputs) in CONVOLUTIONS.items()}
    | {name: (outputs, inputs) for name, (inputs, outputs) in LINEARS.items()}
)
"""The network's own 20 tensors."""
LAYOUTS = (
    # fc8 classifies Sports-1M, and is not part of a feature.
    Layout(
        "c3d.pickle",
        SHAPES | {"fc8.weight": (487, 4096), "fc8.bias": (487,)},
        {name: name for name in SHAPES},
    ),
    Layout(
        "c3d-pretrained.pth",
        {_as_jfzhang95(name): shape for name, shape in SHAPES.items()},
        {_as_jfzhang95(name): name for name in SHAPES},
    ),
)
"""The 22 tensors of DavideA's file, and the 20 of jfzhang95's."""
