"""Tensors for keypoint R-CNN: Detectron2's names, and random weights that detect persons.

`models.weights.loading` reads the files.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.extractors.keypoint_rcnn.network import Bottleneck, KeypointRCNN

IGNORED = frozenset(
    {
        "pixel_mean",
        "pixel_std",
        *(f"proposal_generator.anchor_generator.cell_anchors.{level}" for level in range(5)),
    }
)
"""Constants that older releases of Detectron2 wrote into a file; the network computes them.

Every other tensor of a file must be used.
"""

RELU_VARIANCE = 0.5 - 0.5 / math.pi
"""Variance of a unit normal number cut at zero."""
INPUT_GAIN = 1 / 64
"""Pixels minus their mean are around ±64."""
RESIDUAL_GAINS = (0.5, 0.7)
"""Of a block's last convolution and of its projection, so that sixteen sums do not grow."""
PYRAMID_GAINS = {2: 0.1, 3: 0.15, 4: 0.2, 5: 0.3}
"""Pyramid level → factor. Fine levels have most anchors; damping them leaves room among the
proposals for boxes of a person's size.
"""
ANCHOR_DELTA_GAIN = 0.1
CLASS_GAIN = 0.6
PERSON_BIAS = -6.0
"""Bias of the person's logit. Logits spread by about 1.5, so few of a thousand proposals pass."""


def name_in_network(name: str) -> str | None:
    """The network's name of a published tensor: the same name, or None for an ignored tensor."""
    return None if name in IGNORED else name


def expected_shapes(network: KeypointRCNN) -> dict[str, tuple[int, ...]]:
    """Name → shape of every tensor that a file must hold."""
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


@torch.no_grad()
def initialise(network: KeypointRCNN, seed: int) -> None:
    """Random weights from `seed` that keep the scale, and detect 1 to 30 boxes on most pictures.

    A plainly random detector finds nothing or everything: after a ReLU all values are positive, so
    a random sum is mostly a constant, the same for every box. Weights that sum to zero over their
    inputs cancel it, and the rest differs between boxes; the bias of the class then lets the best
    few of them pass.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear | nn.ConvTranspose2d):
            continue
        _draw_zero_sum(layer.weight, _fan_in(layer), generator)
        if layer.bias is not None:
            layer.bias.zero_()
    _set_gains(network)


def _fan_in(layer: nn.Conv2d | nn.Linear | nn.ConvTranspose2d) -> int:
    """How many numbers one output sums over."""
    if isinstance(layer, nn.ConvTranspose2d):
        # A transposed 4×4 kernel of stride 2 meets four places of a channel.
        return layer.in_channels * 4
    return layer.weight[0].numel()


def _draw_zero_sum(weight: Tensor, fan_in: int, generator: torch.Generator) -> None:
    weight.normal_(std=1 / math.sqrt(fan_in * RELU_VARIANCE), generator=generator)
    if weight.shape[1] > 3:  # not the first layer, whose input has no constant part
        weight -= weight.mean(dim=tuple(range(1, weight.ndim)), keepdim=True)


def _set_gains(network: KeypointRCNN) -> None:
    # The norms' statistics are 0 and 1, so that their weight is the only gain.
    network.get_buffer("backbone.bottom_up.stem.conv1.norm.weight").fill_(INPUT_GAIN)
    for block in network.modules():
        if not isinstance(block, Bottleneck):
            continue
        block.conv3.norm.weight.fill_(RESIDUAL_GAINS[0])
        if block.shortcut is not None:
            block.shortcut.norm.weight.fill_(RESIDUAL_GAINS[1])
    for level, gain in PYRAMID_GAINS.items():
        network.get_parameter(f"backbone.fpn_output{level}.weight").mul_(gain)
    network.get_parameter("proposal_generator.rpn_head.anchor_deltas.weight").mul_(
        ANCHOR_DELTA_GAIN
    )
    network.get_parameter("roi_heads.box_predictor.cls_score.weight").mul_(CLASS_GAIN)
    network.get_parameter("roi_heads.box_predictor.cls_score.bias")[0] = PERSON_BIAS
