"""Keypoint R-CNN, ResNet-50 FPN, as Detectron2 computes it, on torchvision's operators.

Source: K. He et al., "Mask R-CNN", ICCV 2017, and facebookresearch/detectron2 (COCO-Keypoints 3x,
model 137849621). BGR on the 0 to 255 scale minus a mean, stride in the first 1×1 convolution of a
stage, batch norm frozen with epsilon 1e-5, background as the last class. Modules bear Detectron2's
names, so the published tensors load by name.

Letters: H, W of the resized picture, N boxes or persons, K = 17 keypoints. Shapes are those of one
picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.extractors.base.in_place import NormStatistics, add, batch_norm, relu
from models.extractors.base.inference import to_precision, to_weight_dtype
from models.extractors.base.max_pooling import max_pool2d
from models.extractors.keypoint_rcnn.boxes import (
    BOX_WEIGHTS,
    apply_deltas,
    best_persons,
    best_proposals,
    clip_boxes,
    is_nonempty,
    pool_boxes,
)
from models.extractors.keypoint_rcnn.keypoints import decode_keypoints, features_at_keypoints
from models.extractors.keypoint_rcnn.settings import FEATURE_CHANNELS, KEYPOINTS

MEAN_BGR = (103.530, 116.280, 123.675)
SIZE_DIVISIBILITY = 32
CHANNELS = 256
STAGES = {
    "res2": (3, 64, 256, 1),
    "res3": (4, 256, 512, 2),
    "res4": (6, 512, 1024, 2),
    "res5": (3, 1024, 2048, 2),
}
"""Stage → blocks, channels in, channels out, stride; the middle of a block is a quarter as wide as
its output.
"""
DETECTIONS = 100


@dataclass(frozen=True)
class Persons:
    """One picture's persons, best first, in pixels of the frame before it was resized."""

    boxes: Tensor
    """`(N, 5)`: x1, y1, x2, y2, score."""
    keypoints: Tensor
    """`(N, K, 3)`: x, y, score."""
    keypoint_features: Tensor
    """`(N, K, 512)`."""

    def array(self, name: str) -> Tensor:
        """The tensor of a stored array, by its name in the store."""
        arrays = {
            "boxes": self.boxes,
            "joints": self.keypoints,
            "joint_features": self.keypoint_features,
        }
        return arrays[name]


@dataclass(frozen=True)
class RcnnSettings:
    """Which boxes count as persons, and how many are kept."""

    score_threshold: float
    nms_threshold: float
    max_persons: int


class FrozenBatchNorm2d(nn.Module):
    """Batch norm with fixed statistics; epsilon 1e-5, in the one operator that Detectron2 uses."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        initial = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
        for name, value in initial.items():
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        """`(1, C, H, W)` → the same shape."""
        statistics = NormStatistics(self.running_mean, self.running_var, self.weight, self.bias)
        return batch_norm(x, statistics, eps=1e-5)


class NormedConv2d(nn.Conv2d):
    """A convolution without bias, then its `norm`."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel_size, stride, padding=kernel_size // 2, bias=False)
        self.norm = FrozenBatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`(1, inputs, H, W)` → `(1, outputs, H / stride, W / stride)`."""
        normed: Tensor = self.norm(super().forward(x))
        return normed


class Bottleneck(nn.Module):
    """1×1 (with the stride), 3×3, 1×1, plus the input or its projection."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.shortcut = NormedConv2d(inputs, outputs, 1, stride) if inputs != outputs else None
        self.conv1 = NormedConv2d(inputs, outputs // 4, 1, stride)
        self.conv2 = NormedConv2d(outputs // 4, outputs // 4, 3)
        self.conv3 = NormedConv2d(outputs // 4, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(1, inputs, H, W)` → `(1, outputs, H / stride, W / stride)`."""
        out = self.conv3(relu(self.conv2(relu(self.conv1(x)))))
        return relu(add(out, x if self.shortcut is None else self.shortcut(x), spare=out))


class BottomUp(nn.Module):
    """ResNet-50 up to its last stage."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.ModuleDict({"conv1": NormedConv2d(3, 64, 7, stride=2)})
        for name, (blocks, inputs, outputs, stride) in STAGES.items():
            rest = [Bottleneck(outputs, outputs, 1) for _ in range(blocks - 1)]
            self.add_module(name, nn.Sequential(Bottleneck(inputs, outputs, stride), *rest))

    def forward(self, x: Tensor) -> list[Tensor]:
        """`(1, 3, H, W)` → res2 to res5: 256, 512, 1024, 2048 channels at 1/4, 1/8, 1/16, 1/32."""
        x = relu(self.stem["conv1"](x))
        x = max_pool2d(x, (3, 3), stride=(2, 2), padding=(1, 1))
        maps = []
        for name in STAGES:
            x = self.get_submodule(name)(x)
            maps.append(x)
        return maps


class PyramidBackbone(nn.Module):
    """ResNet-50 and the feature pyramid on it."""

    def __init__(self) -> None:
        super().__init__()
        self.bottom_up = BottomUp()
        for level, (_, _, channels, _) in enumerate(STAGES.values(), start=2):
            self.add_module(f"fpn_lateral{level}", nn.Conv2d(channels, CHANNELS, 1))
            self.add_module(f"fpn_output{level}", nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1))

    def forward(self, x: Tensor) -> list[Tensor]:
        """`(1, 3, H, W)` → p2 to p6, each `(1, 256, H / stride, W / stride)`.

        Strides are 4, 8, 16, 32 and 64.
        """
        maps: list[Tensor] = []
        merged: Tensor | None = None
        for level, stage in reversed(list(enumerate(self.bottom_up(x), start=2))):
            lateral = self.get_submodule(f"fpn_lateral{level}")(stage)
            if merged is not None:
                upper = functional.interpolate(merged, scale_factor=2.0)
                lateral = add(lateral, upper, spare=lateral)
            merged = lateral
            maps.insert(0, self.get_submodule(f"fpn_output{level}")(merged))
        return [*maps, functional.max_pool2d(maps[-1], kernel_size=1, stride=2)]


class ProposalHead(nn.Module):
    """Scores each anchor, and predicts the correction of its box."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.objectness_logits = nn.Conv2d(CHANNELS, 3, 1)
        self.anchor_deltas = nn.Conv2d(CHANNELS, 12, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, 256, H, W)` of one level → logits `(B, 3, H, W)` and deltas `(B, 12, H, W)`."""
        # The two small layers stay in float32: they decide which boxes there are.
        hidden = relu(self.conv(x)).float()
        return self.objectness_logits(hidden), self.anchor_deltas(hidden)


class BoxHead(nn.Module):
    """Two fully connected layers over a pooled box."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(CHANNELS * 7 * 7, 1024)
        self.fc2 = nn.Linear(1024, 1024)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 256, 7, 7)` → `(N, 1024)` float32."""
        x = to_weight_dtype(x.flatten(1), self)
        return relu(self.fc2(relu(self.fc1(x)))).float()


class KeypointHead(nn.Module):
    """Eight convolutions over a pooled person, then heatmaps."""

    def __init__(self) -> None:
        super().__init__()
        for number in range(1, 9):
            inputs = CHANNELS if number == 1 else FEATURE_CHANNELS
            self.add_module(f"conv_fcn{number}", nn.Conv2d(inputs, FEATURE_CHANNELS, 3, padding=1))
        self.score_lowres = nn.ConvTranspose2d(
            FEATURE_CHANNELS, len(KEYPOINTS), 4, stride=2, padding=1
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(N, 256, 14, 14)` → features `(N, 512, 14, 14)` and heatmaps `(N, K, 56, 56)`."""
        x = to_weight_dtype(x, self)
        for number in range(1, 9):
            x = relu(self.get_submodule(f"conv_fcn{number}")(x))
        x = x.float()
        low = self.score_lowres(x)  # (N, K, 28, 28)
        return x, functional.interpolate(
            low, scale_factor=2.0, mode="bilinear", align_corners=False
        )


class KeypointRCNN(nn.Module):
    """A uint8 RGB picture in, persons out; normalises itself."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN_BGR).view(3, 1, 1), persistent=False)
        self.backbone = PyramidBackbone()
        self.proposal_generator = nn.ModuleDict({"rpn_head": ProposalHead()})
        predictor = nn.ModuleDict(
            {"cls_score": nn.Linear(1024, 2), "bbox_pred": nn.Linear(1024, 4)}
        )
        self.roi_heads = nn.ModuleDict(
            {"box_head": BoxHead(), "box_predictor": predictor, "keypoint_head": KeypointHead()}
        )

    def set_precision(self, precision: str) -> None:
        """Lower the heavy layers to `precision`.

        Layers that place and score boxes and keypoints stay in float32.
        """
        head = self.roi_heads["keypoint_head"]
        heavy = [
            self.backbone,
            self.proposal_generator.get_submodule("rpn_head.conv"),
            self.roi_heads["box_head"],
            *(head.get_submodule(f"conv_fcn{number}") for number in range(1, 9)),
        ]
        for part in heavy:
            to_precision(part, precision)

    def forward(
        self, pictures: Tensor, frame_sizes: Sequence[tuple[int, int]], settings: RcnnSettings
    ) -> list[Persons]:
        """The persons of each of `(B, 3, H, W)` uint8 RGB pictures.

        They were resized from frames of `frame_sizes` (height, width).
        """
        size = (pictures.shape[2], pictures.shape[3])
        pyramid = self.backbone(to_weight_dtype(self._normalised(pictures), self.backbone))
        rpn_head = self.proposal_generator["rpn_head"]
        rpn_outputs = [_LevelOutputs(*rpn_head(level)) for level in pyramid]  # p2 to p6
        maps = [level.float() for level in pyramid[:4]]  # p2 to p5, from which boxes are pooled
        proposals = _proposals_of_pictures(rpn_outputs, size)
        classified = self.classify_proposals(maps, proposals)
        # One picture at a time from here on: each has another number of boxes.
        kept = []
        for (boxes, probabilities), frame_size in zip(classified, frame_sizes, strict=True):
            best = best_persons(
                boxes,
                probabilities,
                size,
                score_threshold=settings.score_threshold,
                nms_threshold=settings.nms_threshold,
            )
            kept.append(_keep_persons(*best, size, frame_size, settings.max_persons))
        # Together again: the convolutions of the keypoint head are the expensive part.
        keypoints = self._keypoints(maps, [boxes for boxes, _ in kept])
        persons_of_pictures = []
        for picture, frame_size in enumerate(frame_sizes):
            places, features = keypoints[picture]
            x_y_score_scale = (frame_size[1] / size[1], frame_size[0] / size[0], 1.0)
            persons = Persons(
                boxes=kept[picture][1],
                keypoints=places * places.new_tensor(x_y_score_scale),
                keypoint_features=features,
            )
            if not _is_finite(picture, rpn_outputs, classified):
                persons = _not_a_number(persons)
            persons_of_pictures.append(persons)
        return persons_of_pictures

    def _normalised(self, pictures: Tensor) -> Tensor:
        """`(B, 3, H, W)` uint8 RGB → `(B, 3, H', W')` float BGR minus the mean.

        Zeros on the right and below pad the sides to multiples of 32.
        """
        # Contiguous, the memory layout of Detectron2, so that convolutions add up in its order.
        bgr = pictures.flip(1).float().contiguous() - self.mean
        height, width = pictures.shape[2:]
        return functional.pad(bgr, (0, -width % SIZE_DIVISIBILITY, 0, -height % SIZE_DIVISIBILITY))

    def classify_proposals(
        self, maps: Sequence[Tensor], proposals: Sequence[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """Each picture's `(N, 4)` proposals → corrected boxes, and `(N,)` person probabilities.

        `maps` are p2 to p5.
        """
        hidden = self.roi_heads["box_head"](pool_boxes(maps, proposals, 7))  # (sum of N, 1024)
        predictor = self.roi_heads["box_predictor"]
        logits = predictor.get_submodule("cls_score")(hidden)  # (sum of N, 2): person, background
        deltas = predictor.get_submodule("bbox_pred")(hidden)
        boxes = apply_deltas(deltas, torch.cat(list(proposals)), BOX_WEIGHTS)
        probabilities = logits.softmax(dim=1)[:, 0]
        counts = [len(boxes) for boxes in proposals]
        return list(
            zip(torch.split(boxes, counts), torch.split(probabilities, counts), strict=True)
        )

    def _keypoints(
        self, maps: Sequence[Tensor], boxes: Sequence[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """Each picture's `(N, 4)` boxes → `(N, K, 3)` keypoints and `(N, K, 512)` features.

        Boxes and keypoints are in pixels of the resized picture.
        """
        features, heatmaps = self.roi_heads["keypoint_head"](pool_boxes(maps, boxes, 14))
        all_boxes = torch.cat(list(boxes))
        keypoints = decode_keypoints(heatmaps, all_boxes)
        read = features_at_keypoints(features, keypoints, all_boxes)
        counts = [len(one) for one in boxes]
        return list(zip(torch.split(keypoints, counts), torch.split(read, counts), strict=True))


class _LevelOutputs(NamedTuple):
    """The proposal head's outputs for one pyramid level."""

    logits: Tensor
    """`(B, 3, H, W)`."""
    deltas: Tensor
    """`(B, 12, H, W)`."""


def _proposals_of_pictures(
    rpn_outputs: Sequence[_LevelOutputs], size: tuple[int, int]
) -> list[Tensor]:
    """Each picture's proposals, `(N, 4)`."""
    pictures = len(rpn_outputs[0].logits)
    return [
        best_proposals(
            [level.logits[picture] for level in rpn_outputs],
            [level.deltas[picture] for level in rpn_outputs],
            size,
        )
        for picture in range(pictures)
    ]


def _is_finite(
    picture: int,
    rpn_outputs: Sequence[_LevelOutputs],
    classified: Sequence[tuple[Tensor, Tensor]],
) -> bool:
    outputs = [output[picture] for level in rpn_outputs for output in level]
    return all(bool(output.isfinite().all()) for output in (*outputs, *classified[picture]))


def _not_a_number(persons: Persons) -> Persons:
    """A single person of NaN, for a picture in which the network computed NaN or infinity.

    Detectron2 drops such boxes silently: a picture that a broken network saw would look like one
    without persons.
    """
    arrays = (persons.boxes, persons.keypoints, persons.keypoint_features)
    return Persons(*(array.new_full((1, *array.shape[1:]), torch.nan) for array in arrays))


def _keep_persons(
    boxes: Tensor,
    scores: Tensor,
    size: tuple[int, int],
    frame_size: tuple[int, int],
    max_persons: int,
) -> tuple[Tensor, Tensor]:
    """The persons of a picture that are kept.

    Gives their `(N, 4)` boxes in pixels of the resized picture, and `(N, 5)` boxes with scores in
    pixels of the frame.
    """
    boxes, scores = boxes[:DETECTIONS], scores[:DETECTIONS]
    x_y_scale = (frame_size[1] / size[1], frame_size[0] / size[0])
    frame_boxes = clip_boxes(boxes * boxes.new_tensor(x_y_scale * 2), frame_size)
    # Detectron2 drops empty boxes last. Dropping them here spares the keypoint head, and changes
    # nothing else.
    kept = is_nonempty(frame_boxes).nonzero()[:max_persons, 0]
    return boxes[kept], torch.cat((frame_boxes[kept], scores[kept, None]), dim=1)
