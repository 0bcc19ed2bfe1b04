"""Keypoint R-CNN, ResNet-50 FPN, as Detectron2 computes it (COCO-Keypoints 3x), on torchvision's
operators.

Source: K. He et al., "Mask R-CNN", ICCV 2017, and facebookresearch/detectron2 (model 137849621).
BGR on the 0 to 255 scale minus a mean, stride in the first 1×1 convolution of a stage, batch norm
frozen with epsilon 1e-5, background as the last class. Modules bear Detectron2's names, so the
published tensors load by name.

Letters: H, W of the resized picture, N boxes or persons, K = 17 joints. One picture at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.extractors.base.inference import to_precision, to_weight_dtype
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
    """One picture's persons, best first, in pixels of the picture before it was resized."""

    boxes: Tensor
    """`(N, 5)`: x1, y1, x2, y2, score."""
    joints: Tensor
    """`(N, K, 3)`: x, y, score."""
    joint_features: Tensor
    """`(N, K, 512)`."""


@dataclass(frozen=True)
class RcnnSettings:
    """Who counts as a person, and how many are kept."""

    score_threshold: float
    nms_threshold: float
    max_persons: int


class FrozenBatchNorm2d(nn.Module):
    """Batch norm whose statistics never move; epsilon 1e-5, in the one operator that Detectron2
    uses.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (
            ("weight", 1.0),
            ("bias", 0.0),
            ("running_mean", 0.0),
            ("running_var", 1.0),
        ):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        """`(1, C, H, W)` → the same shape."""
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=1e-5
        )


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
        out = self.conv3(torch.relu(self.conv2(torch.relu(self.conv1(x)))))
        return torch.relu(out + (x if self.shortcut is None else self.shortcut(x)))


class BottomUp(nn.Module):
    """ResNet-50 up to its last stage."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.ModuleDict({"conv1": NormedConv2d(3, 64, 7, stride=2)})
        for name, (blocks, inputs, outputs, stride) in STAGES.items():
            rest = [Bottleneck(outputs, outputs, 1) for _ in range(blocks - 1)]
            self.add_module(name, nn.Sequential(Bottleneck(inputs, outputs, stride), *rest))

    def forward(self, x: Tensor) -> list[Tensor]:
        """`(1, 3, H, W)` → res2 (1, 256, H/4, W/4), res3 (512, /8), res4 (1024, /16), res5 (2048,
        /32).
        """
        x = functional.max_pool2d(
            torch.relu(self.stem["conv1"](x)), kernel_size=3, stride=2, padding=1
        )
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
        """`(1, 3, H, W)` → p2 to p6, each `(1, 256, H / stride, W / stride)`, strides 4, 8, 16, 32,
        64.
        """
        maps: list[Tensor] = []
        above: Tensor | None = None
        for level, stage in reversed(list(enumerate(self.bottom_up(x), start=2))):
            lateral = self.get_submodule(f"fpn_lateral{level}")(stage)
            above = (
                lateral
                if above is None
                else lateral + functional.interpolate(above, scale_factor=2.0)
            )
            maps.insert(0, self.get_submodule(f"fpn_output{level}")(above))
        return [*maps, functional.max_pool2d(maps[-1], kernel_size=1, stride=2)]


class ProposalHead(nn.Module):
    """Says of each anchor whether it holds something, and how to move it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.objectness_logits = nn.Conv2d(CHANNELS, 3, 1)
        self.anchor_deltas = nn.Conv2d(CHANNELS, 12, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, 256, H, W)` of one level → logits `(B, 3, H, W)` and deltas `(B, 12, H, W)`."""
        hidden = torch.relu(self.conv(x)).float()
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
        return torch.relu(self.fc2(torch.relu(self.fc1(x)))).float()


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
            x = torch.relu(self.get_submodule(f"conv_fcn{number}")(x))
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

    def lower(self, precision: str) -> None:
        """Let what is heavy compute in `precision`; what places and scores boxes and joints stays
        in float32.
        """
        head = self.roi_heads["keypoint_head"]
        heavy = [
            self.backbone,
            self.proposal_generator.get_submodule("rpn_head.conv"),
            self.roi_heads["box_head"],
        ]
        for part in (*heavy, *(head.get_submodule(f"conv_fcn{number}") for number in range(1, 9))):
            to_precision(part, precision)

    def forward(
        self, pictures: Tensor, originals: Sequence[tuple[int, int]], rules: RcnnSettings
    ) -> list[Persons]:
        """`(B, 3, H, W)` uint8 RGB, resized from frames of `originals` (height, width) → the
        persons of each.
        """
        size = (pictures.shape[2], pictures.shape[3])
        maps = self.backbone(to_weight_dtype(self._normalised(pictures), self.backbone))  # p2 to p6
        per_level = [self.proposal_generator["rpn_head"](level) for level in maps]
        maps = [level.float() for level in maps[:4]]
        proposals = [
            best_proposals(
                [one[number] for one, _ in per_level], [two[number] for _, two in per_level], size
            )
            for number in range(len(pictures))
        ]
        classified = self.classified(maps, proposals)
        found = [
            best_persons(
                *one, size, score_threshold=rules.score_threshold, nms_threshold=rules.nms_threshold
            )
            for one in classified
        ]
        kept = [
            _kept(*one, size, original, rules)
            for one, original in zip(found, originals, strict=True)
        ]
        joints = self._joints(maps, [boxes for boxes, _ in kept])
        persons = []
        for number, ((_, scored), (places, features), original) in enumerate(
            zip(kept, joints, originals, strict=True)
        ):
            scale = places.new_tensor(
                (original[1] / size[1], original[0] / size[0], 1.0)
            )  # of x, of y, of the score
            seen = Persons(scored, places * scale, features)
            proposed = [output[number] for level in per_level for output in level]
            is_finite = all(
                bool(output.isfinite().all()) for output in (*proposed, *classified[number])
            )
            persons.append(seen if is_finite else _unknown(seen))
        return persons

    def _normalised(self, pictures: Tensor) -> Tensor:
        """`(B, 3, H, W)` uint8 RGB → `(B, 3, H', W')` BGR minus the mean, zeros on the right and
        below up to 32 n.
        """
        bgr = pictures.flip(1).float().contiguous() - self.mean
        height, width = pictures.shape[2:]
        return functional.pad(bgr, (0, -width % SIZE_DIVISIBILITY, 0, -height % SIZE_DIVISIBILITY))

    def classified(
        self, maps: Sequence[Tensor], proposals: Sequence[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """Each picture's `(N, 4)` proposals over p2 to p5 → corrected boxes, and `(N,)`
        probabilities of a person.
        """
        hidden = self.roi_heads["box_head"](pool_boxes(maps, proposals, 7))  # (sum of N, 1024)
        predictor = self.roi_heads["box_predictor"]
        logits = predictor.get_submodule("cls_score")(hidden)  # (sum of N, 2): person, background
        deltas = predictor.get_submodule("bbox_pred")(hidden)
        counts = [len(boxes) for boxes in proposals]
        boxes = apply_deltas(deltas, torch.cat(list(proposals)), BOX_WEIGHTS)
        return list(
            zip(
                torch.split(boxes, counts),
                torch.split(logits.softmax(dim=1)[:, 0], counts),
                strict=True,
            )
        )

    def _joints(
        self, maps: Sequence[Tensor], boxes: Sequence[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """Of each picture's `(N, 4)` boxes the `(N, K, 3)` joints in pixels of the resized picture,
        and their `(N, K, 512)` features.
        """
        features, heatmaps = self.roi_heads["keypoint_head"](pool_boxes(maps, boxes, 14))
        counts, every = [len(some) for some in boxes], torch.cat(list(boxes))
        joints = decode_keypoints(heatmaps, every)
        read = features_at_keypoints(features, joints, every)
        return list(zip(torch.split(joints, counts), torch.split(read, counts), strict=True))


def _unknown(seen: Persons) -> Persons:
    """A single person, no number in it: of a picture in which the network computed what is no
    number.

    Detectron2 drops such boxes silently: a picture that a broken network saw would look like one
    without persons.
    """
    arrays = (seen.boxes, seen.joints, seen.joint_features)
    return Persons(*(array.new_full((1, *array.shape[1:]), torch.nan) for array in arrays))


def _kept(
    boxes: Tensor,
    scores: Tensor,
    size: tuple[int, int],
    original: tuple[int, int],
    rules: RcnnSettings,
) -> tuple[Tensor, Tensor]:
    """The persons to keep of a picture: their boxes in pixels of the resized picture, and, scored,
    of the original.
    """
    boxes, scores = boxes[:DETECTIONS], scores[:DETECTIONS]
    scale = (original[1] / size[1], original[0] / size[0])  # of x, of y
    final = clip_boxes(boxes * boxes.new_tensor(scale * 2), original)
    # Detectron2 drops empty boxes last; dropping them here spares the keypoint head and leaves the
    # rest as it is.
    kept = is_nonempty(final).nonzero()[: rules.max_persons, 0]
    return boxes[kept], torch.cat((final[kept], scores[kept, None]), dim=1)
