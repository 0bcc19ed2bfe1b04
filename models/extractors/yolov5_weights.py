"""Tensors for YOLOv5: the files of every release by their published names, and random ones that detect something.

Knows names, shapes and statistics. Refuses to know formats: `models.weights` reads them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from models.extractors.yolov5 import RELEASES, SIZES, YOLOv5Settings
from models.extractors.yolov5_network import C3, CLASSES, AnchorHead, Bottleneck, Focus, PointHead, YOLOv5
from models.weights import load_converted, read_tensors

Shapes = dict[str, tuple[int, ...]]

ANCHOR_GRID = "model.24.anchor_grid"
"""Files of v5.0 hold the anchors twice: divided by the stride, a power of two, and under this name as they are."""

GAIN, SHIFT = 1.35, 1.0
"""What a norm makes of unit normal numbers. Around 1 a SiLU passes small numbers on almost as they are and halves large
ones, so that a random network of any depth settles where maps spread by 1.5 to 2."""
FIRST_GAIN = 2.0
"""Pixels divided by 255 spread by less than 1."""
RESIDUAL_GAIN = 0.5
"""Of all residual branches of a C3 together, so that up to twelve sums do not swell."""
BOX_GAIN = 0.5
OBJECT_BIAS, POINT_BIAS = -5.5, -7.0
"""Logit where nothing else speaks: of an object, and of each class where the best of 80 decides alone. Logits spread by
about 1.5, and one above -1 makes a detection."""


def expected_tensors(size: str, release: str) -> Shapes:
    """Published name → shape, for every tensor the network of that size and release has."""
    with torch.device("meta"):
        network = YOLOv5(SIZES[size], release)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def load_tensors(path: Path, settings: YOLOv5Settings) -> dict[str, Tensor]:
    """The network's tensors from a published file. ValueError if the file is not what the settings say.

    A file of another size or release is told by its names and shapes, and named in the error.
    """
    expected = expected_tensors(settings.size, settings.release)
    try:
        return load_converted(path, expected, _in_v5 if settings.release == "v5.0" else _as_it_is)
    except ValueError as error:
        found = told_by_shapes({name: tuple(tensor.shape) for name, tensor in read_tensors(path).items()})
        if found is None or found == (settings.size, settings.release):
            raise
        raise ValueError(
            f"{path} is YOLOv5 of size {found[0]} and release {found[1]}, but the settings say size {settings.size} "
            f"and release {settings.release}; set them to what the file is, or name another file"
        ) from error


def told_by_shapes(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, str] | None:
    """The size and release whose tensors these are, or None."""
    for release, sizes in RELEASES.items():
        renamed = {name: shape for name, shape in shapes.items() if release != "v5.0" or _in_v5(name)}
        for size in sizes:
            if renamed == expected_tensors(size, release):
                return size, release
    return None


def _as_it_is(name: str) -> str | None:
    return name


def _in_v5(name: str) -> str | None:
    return None if name == ANCHOR_GRID else name


@torch.no_grad()
def initialise(network: YOLOv5, seed: int) -> None:
    """Random weights from `seed` that keep the scale and detect some to some dozen boxes on ordinary pictures.

    Weights sum to zero over their inputs: what leaves a SiLU is mostly above zero, and a plain random sum of it would
    be nearly the same everywhere. The biases of the head then let only the best few places pass.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.requires_grad:
            _draw(layer, generator)
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.fill_(GAIN)
            layer.bias.fill_(SHIFT)
    for block in network.modules():
        if isinstance(block, C3):
            _damp(block)
    first, head = network.model["0"], network.model["24"]
    (first.conv if isinstance(first, Focus) else first).get_parameter("bn.weight").fill_(FIRST_GAIN)
    if isinstance(head, AnchorHead):
        _set_anchor_head(head)
    if isinstance(head, PointHead):
        _set_point_head(head)


def _draw(layer: nn.Conv2d, generator: torch.Generator) -> None:
    layer.weight.normal_(std=1 / math.sqrt(layer.weight[0].numel()), generator=generator)
    if layer.in_channels > 12:  # not the first layer, whose input is pixels
        layer.weight -= layer.weight.mean(dim=(1, 2, 3), keepdim=True)
    if layer.bias is not None:
        layer.bias.zero_()


def _damp(block: C3) -> None:
    for bottleneck in block.m:
        if isinstance(bottleneck, Bottleneck) and bottleneck.residual:
            bottleneck.get_parameter("cv2.bn.weight").fill_(RESIDUAL_GAIN / math.sqrt(len(block.m)))


def _set_anchor_head(head: AnchorHead) -> None:
    gains = torch.tensor([BOX_GAIN] * 4 + [1.0] * (1 + CLASSES)).repeat(3).view(-1, 1, 1, 1)
    for layer in head.m:
        layer.get_parameter("weight").mul_(gains)
        layer.get_parameter("bias").view(3, -1)[:, 4] = OBJECT_BIAS


def _set_point_head(head: PointHead) -> None:
    for branch in head.cv3:
        branch.get_parameter("2.bias").fill_(POINT_BIAS)
