"""Tensors for YOLOv5: the files of every release by their published names, and random ones that
detect something.

Knows names, shapes and statistics. Refuses to know formats: `models.weights.loading` reads them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from models.extractors.yolov5.network import (
    C3,
    CLASSES,
    STRIDES,
    AnchorHead,
    Bottleneck,
    Focus,
    PointHead,
    YOLOv5,
)
from models.extractors.yolov5.settings import RELEASES, SIZES, YOLOv5Settings
from models.weights.loading import match_tensors, read_tensors

Shapes = dict[str, tuple[int, ...]]

HEAD = "model.24."
ANCHORS, ANCHOR_GRID = f"{HEAD}anchors", f"{HEAD}anchor_grid"
ANCHOR_GRID_SHAPE = (3, 1, 3, 1, 1, 2)
"""Files of v5.0, and those of v6.0 whose training began before it, hold the anchors twice: divided
by the stride, and under this name in pixels. v5.0 multiplies by these; v6.0 and later throw them
away and multiply the others by the stride.
"""

GAIN, SHIFT = 1.35, 1.0
"""What a norm makes of unit normal numbers. Around 1 a SiLU passes small numbers on almost as they
are and halves large ones, so that a random network of any depth settles where maps spread by 1.5 to
2.
"""
FIRST_GAIN = 2.0
"""Pixels divided by 255 spread by less than 1."""
RESIDUAL_GAIN = 0.5
"""Of all residual branches of a C3 together, so that up to twelve sums do not swell."""
BOX_GAIN = 0.5
OBJECT_BIAS, POINT_BIAS = -5.5, -7.0
"""Logit where nothing else speaks: of an object, and of each class where the best of 80 decides
alone. Logits spread by about 1.5, and one above -1 makes a detection.
"""


def expected_tensors(size: str, release: str) -> Shapes:
    """Published name → shape, for every tensor the network of that size and release has."""
    with torch.device("meta"):
        network = YOLOv5(SIZES[size], release)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def load_tensors(path: Path, settings: YOLOv5Settings) -> dict[str, Tensor]:
    """The network's tensors from a published file, floating ones as float32. ValueError if it is
    not what they say.

    A file of another size, release, head or count of classes is told by its names and shapes, and
    named in the error.
    """
    tensors = read_tensors(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    pixels = tensors.pop(ANCHOR_GRID, None) if settings.release != "u" else None
    try:
        if pixels is not None and shapes[ANCHOR_GRID] != ANCHOR_GRID_SHAPE:
            raise ValueError(
                f"{path}: {ANCHOR_GRID} is {shapes[ANCHOR_GRID]}, expected {ANCHOR_GRID_SHAPE}"
            )
        fitting = match_tensors(path, tensors, expected_tensors(settings.size, settings.release))
    except ValueError as error:
        told, asked = infer_release(shapes), _in_words(settings.size, settings.release)
        if told in ("", asked):
            raise
        raise ValueError(
            f"{path} is {told}, but {asked}, with {CLASSES} classes, is asked for; set size and release to what the "
            "file is, or name another file"
        ) from error
    if pixels is not None and settings.release == "v5.0":
        fitting[ANCHORS] = pixels.float().view(3, 3, 2) / torch.tensor(STRIDES).view(3, 1, 1)
    return fitting


def _in_words(size: str, release: str) -> str:
    return f"YOLOv5 of size {size} and release {release}"


def infer_release(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Which YOLOv5 these tensors are, in words; empty if they are none that we know."""
    if any(name.startswith("model.33.") for name in shapes):
        return "a YOLOv5 for 1280 pixels with four maps (P6)"
    if any(name.startswith(("model.9.linear.", "model.10.linear.")) for name in shapes):
        return "a YOLOv5 that classifies whole pictures"
    trunk = {name: shape for name, shape in shapes.items() if not name.startswith(HEAD)}
    kind = "u" if f"{HEAD}dfl.conv.weight" in shapes else ""
    for release, sizes in RELEASES.items():
        if (release == "u") != (kind == "u"):
            continue
        for size in sizes:
            expected = expected_tensors(size, release)
            if trunk == {
                name: shape for name, shape in expected.items() if not name.startswith(HEAD)
            }:
                return _in_words(size, release) + _head(shapes)
    return ""


def _head(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What of the last layer is not as in the published files, in words."""
    if f"{HEAD}proto.cv1.conv.weight" in shapes:
        return " that segments (its last layer is Segment, not Detect)"
    outputs, per_class = (
        shapes.get(f"{HEAD}m.0.weight", ()),
        shapes.get(f"{HEAD}cv3.0.2.weight", ()),
    )
    classes = outputs[0] / 3 - 5 if outputs else per_class[0] if per_class else CLASSES
    return "" if classes == CLASSES else f" with {classes:g} classes"


@torch.no_grad()
def initialise(network: YOLOv5, seed: int) -> None:
    """Random weights from `seed` that keep the scale and detect some to some dozen boxes on
    ordinary pictures.

    Weights sum to zero over their inputs: what leaves a SiLU is mostly above zero, and a plain
    random sum of it would be nearly the same everywhere. The biases of the head then let only the
    best few places pass.
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
