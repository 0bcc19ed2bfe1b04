"""Tensors for YOLOv5: files of every release, and random weights that detect objects.

`models.weights.loading` reads the files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

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

ANCHOR_RELEASES = tuple(release for release in RELEASES if release != "u")
HEAD = "model.24."
ANCHORS, ANCHOR_GRID = f"{HEAD}anchors", f"{HEAD}anchor_grid"
ANCHOR_GRID_SHAPE = (3, 1, 3, 1, 1, 2)
"""Files of v5.0, and those of v6.0 whose training began before it, hold the anchors twice: divided
by the stride, and under this name in pixels.

v5.0 multiplies by these; v6.0 and later ignore them and multiply the others by the stride.
"""

GAIN, SHIFT = 1.35, 1.0
"""Scale and shift of a norm's unit normal numbers.

Around 1 a SiLU passes small numbers almost unchanged and halves large ones, so that the maps of a
random network of any depth settle at a standard deviation of 1.5 to 2.
"""
FIRST_GAIN = 2.0
"""Pixels divided by 255 have a standard deviation below 1."""
RESIDUAL_GAIN = 0.5
"""Of all residual branches of a C3 together, so that up to twelve sums do not grow."""
BOX_GAIN = 0.5
OBJECT_BIAS, POINT_BIAS = -5.5, -7.0
"""Biases of the logits: of an object, and of each class if the best of 80 classes decides.

Logits have a standard deviation of about 1.5, and one above -1 makes a detection.
"""


def expected_tensors(size: str, release: str) -> Shapes:
    """Published name → shape, for every tensor the network of that size and release has."""
    with torch.device("meta"):
        network = YOLOv5(SIZES[size], release)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def load_tensors(path: Path, settings: YOLOv5Settings) -> dict[str, Tensor]:
    """The network's tensors from a published file, floating ones as float32.

    ValueError if the file is of another size, release or head, or has another count of classes. The
    error names the size and release that its names and shapes show.
    """
    tensors = read_tensors(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    anchor_pixels = tensors.pop(ANCHOR_GRID, None) if settings.release != "u" else None
    try:
        if anchor_pixels is not None:
            _check_anchor_grid(path, anchor_pixels)
        expected = expected_tensors(settings.size, settings.release)
        matching = match_tensors(path, tensors, expected)
    except ValueError as error:
        _raise_if_another_release(path, shapes, settings, error)
        raise
    if anchor_pixels is not None and settings.release == "v5.0":
        strides = torch.tensor(STRIDES).view(3, 1, 1)
        matching[ANCHORS] = anchor_pixels.float().view(3, 3, 2) / strides
    return matching


def _check_anchor_grid(path: Path, anchor_pixels: Tensor) -> None:
    shape = tuple(anchor_pixels.shape)
    if shape != ANCHOR_GRID_SHAPE:
        raise ValueError(f"{path}: {ANCHOR_GRID} is {shape}, expected {ANCHOR_GRID_SHAPE}")


def _raise_if_another_release(
    path: Path, shapes: Shapes, settings: YOLOv5Settings, error: ValueError
) -> None:
    """Raises a clearer error if the file is a YOLOv5, but not that of `settings`."""
    found = infer_release(shapes)
    expected = _description(settings.size, settings.release)
    if found in ("", expected):
        return
    raise ValueError(
        f"{path} is {found}, but the settings name {expected}, with {CLASSES} classes. "
        "Set size and release to those of the file, or name another file"
    ) from error


def _description(size: str, release: str) -> str:
    return f"YOLOv5 of size {size} and release {release}"


def infer_release(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """A description of the YOLOv5 that has tensors of these shapes; empty if it is unknown."""
    if any(name.startswith("model.33.") for name in shapes):
        return "a YOLOv5 for 1280 pixels with four maps (P6)"
    if any(name.startswith(("model.9.linear.", "model.10.linear.")) for name in shapes):
        return "a YOLOv5 that classifies whole pictures"
    trunk = _without_head(shapes)
    # The trunks of v7.0 and u are equal; only their heads differ.
    is_anchor_free = f"{HEAD}dfl.conv.weight" in shapes
    for release in ("u",) if is_anchor_free else ANCHOR_RELEASES:
        for size in RELEASES[release]:
            if trunk == _without_head(expected_tensors(size, release)):
                return _description(size, release) + _head_description(shapes)
    return ""


def _without_head(shapes: Mapping[str, tuple[int, ...]]) -> Shapes:
    return {name: shape for name, shape in shapes.items() if not name.startswith(HEAD)}


def _head_description(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """How the last layer differs from that of the published files; empty if it does not."""
    if f"{HEAD}proto.cv1.conv.weight" in shapes:
        return " that segments (its last layer is Segment, not Detect)"
    classes = _classes(shapes)
    return "" if classes == CLASSES else f" with {classes:g} classes"


def _classes(shapes: Mapping[str, tuple[int, ...]]) -> float:
    """How many classes the last layer has; those of COCO if its tensors do not show it."""
    anchor_outputs = shapes.get(f"{HEAD}m.0.weight")
    if anchor_outputs:
        return anchor_outputs[0] / 3 - 5
    class_outputs = shapes.get(f"{HEAD}cv3.0.2.weight")
    return class_outputs[0] if class_outputs else CLASSES


@torch.no_grad()
def initialise(network: YOLOv5, seed: int) -> None:
    """Random weights from `seed` that keep the scale and detect a few dozen boxes on most pictures.

    Weights sum to zero over their inputs: the output of a SiLU is mostly above zero, and a plain
    random sum of it would be nearly the same everywhere. The biases of the head then let only the
    best few places pass.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        _initialise_layer(layer, generator)
    for block in network.modules():
        if isinstance(block, C3):
            _damp_residuals(block)
    first = network.model["0"]
    first_conv = first.conv if isinstance(first, Focus) else first
    first_conv.get_parameter("bn.weight").fill_(FIRST_GAIN)
    _initialise_head(network.model["24"])


def _initialise_layer(layer: nn.Module, generator: torch.Generator) -> None:
    if isinstance(layer, nn.BatchNorm2d):
        layer.weight.fill_(GAIN)
        layer.bias.fill_(SHIFT)
    # The fixed bins of the anchor-free head have no gradient, and stay.
    if isinstance(layer, nn.Conv2d) and layer.weight.requires_grad:
        _draw_zero_sum(layer, generator)


def _draw_zero_sum(layer: nn.Conv2d, generator: torch.Generator) -> None:
    layer.weight.normal_(std=1 / math.sqrt(layer.weight[0].numel()), generator=generator)
    if layer.in_channels > 12:  # not the first layer, whose input is pixels
        layer.weight -= layer.weight.mean(dim=(1, 2, 3), keepdim=True)
    if layer.bias is not None:
        layer.bias.zero_()


def _damp_residuals(block: C3) -> None:
    gain = RESIDUAL_GAIN / math.sqrt(len(block.m))
    for bottleneck in cast(Iterable[Bottleneck], block.m):
        if bottleneck.residual:
            bottleneck.get_parameter("cv2.bn.weight").fill_(gain)


def _initialise_head(head: nn.Module) -> None:
    if isinstance(head, PointHead):
        for branch in head.cv3:
            branch.get_parameter("2.bias").fill_(POINT_BIAS)
    elif isinstance(head, AnchorHead):
        box_object_classes = [BOX_GAIN] * 4 + [1.0] * (1 + CLASSES)
        gains = torch.tensor(box_object_classes).repeat(3).view(-1, 1, 1, 1)
        for layer in head.m:
            layer.get_parameter("weight").mul_(gains)
            layer.get_parameter("bias").view(3, -1)[:, 4] = OBJECT_BIAS
