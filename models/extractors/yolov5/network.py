"""The YOLOv5 networks of the releases v5.0, v6.0 to v7.0, and ultralytics' anchor-free `u`.

Source: ultralytics/yolov5 at its tags, and the ultralytics package. All tensors have the published
names, so that the layers below are numbered as in the releases' model files. A batch norm adds 1e-3
to a variance, not torch's 1e-5.

Letters: B pictures of H×W pixels, both multiples of 32; N places where a box may be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from models.extractors.base.inference import to_precision, to_weight_dtype
from models.extractors.yolov5.settings import MAPS, Scale

CLASSES = 80
STRIDES = (8, 16, 32)
ANCHORS = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
"""Width and height in pixels, three for each map."""
BINS = 16
"""The anchor-free head predicts an edge's distance as a distribution over 0 to 15 strides."""


class Conv(nn.Module):
    """Convolution, norm, SiLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        padding: int | None = None,
    ) -> None:
        super().__init__()
        pad = kernel // 2 if padding is None else padding
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, pad, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, h, w)` → `(B, outputs, h / stride, w / stride)`."""
        return nn.functional.silu(self.bn(self.conv(x)))

    @torch.no_grad()
    def fold(self, factors: Callable[[nn.BatchNorm2d], tuple[Tensor, Tensor]]) -> None:
        """Fold the norm into the convolution; `factors` gives the norm's scale and shift."""
        if not isinstance(self.bn, nn.BatchNorm2d):
            return
        scale, shift = factors(self.bn)
        self.conv.weight.mul_(scale.view(-1, 1, 1, 1))
        self.conv.bias = nn.Parameter(shift)
        self.bn = nn.Identity()


def _by_division(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """As the original releases round."""
    deviation = torch.sqrt(norm.get_buffer("running_var") + norm.eps)
    mean = norm.get_buffer("running_mean")
    return norm.weight / deviation, norm.bias - norm.weight * mean / deviation


def _by_reciprocal(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """As the ultralytics package rounds."""
    reciprocal = torch.rsqrt(norm.get_buffer("running_var") + norm.eps)
    mean = norm.get_buffer("running_mean")
    return norm.weight * reciprocal, -mean * reciprocal * norm.weight + norm.bias


class Focus(nn.Module):
    """The first layer of v5.0: 2×2 pixels become channels, then a convolution."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = Conv(4 * inputs, outputs, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, h, w)` → `(B, outputs, h / 2, w / 2)`."""
        quarters = (x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2])
        out: Tensor = self.conv(torch.cat(quarters, 1))
        return out


class Bottleneck(nn.Module):
    """1×1, then 3×3; with the input added if `residual`."""

    def __init__(self, channels: int, residual: bool) -> None:
        super().__init__()
        self.cv1 = Conv(channels, channels)
        self.cv2 = Conv(channels, channels, 3)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """`(B, channels, h, w)` → the same shape."""
        y: Tensor = self.cv2(self.cv1(x))
        return x + y if self.residual else y


class C3(nn.Module):
    """Half the channels through `repeats` bottlenecks, half past them."""

    def __init__(self, inputs: int, outputs: int, repeats: int, residual: bool = True) -> None:
        super().__init__()
        half = outputs // 2
        self.cv1 = Conv(inputs, half)
        self.cv2 = Conv(inputs, half)
        self.cv3 = Conv(2 * half, outputs)
        self.m = nn.Sequential(*(Bottleneck(half, residual) for _ in range(repeats)))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, h, w)` → `(B, outputs, h, w)`."""
        out: Tensor = self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))
        return out


class PyramidPooling(nn.Module):
    """SPP of v5.0 and SPPF of v6.0 on: maxima over 5×5, 9×9 and 13×13.

    They are computed as one, two and three maxima over 5×5, which gives the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cv1 = Conv(channels, channels // 2)
        self.cv2 = Conv(channels // 2 * 4, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, channels, h, w)` → the same shape."""
        pooled = [self.cv1(x)]
        for _ in range(3):
            pooled.append(nn.functional.max_pool2d(pooled[-1], 5, stride=1, padding=2))
        out: Tensor = self.cv2(torch.cat(pooled, 1))
        return out


def _cells(x: Tensor) -> Tensor:
    """`(h, w, 2)`: column and row of every cell of a `(B, C, h, w)` map."""
    height, width = x.shape[2:]
    rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).to(x.dtype)


class AnchorHead(nn.Module):
    """The original Detect layer: a box is a correction of one of three anchors of a cell."""

    anchors: Tensor

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.m = nn.ModuleList(nn.Conv2d(width, 3 * (5 + CLASSES), 1) for width in channels)
        strides = torch.tensor(STRIDES).view(3, 1, 1)
        # Divided by the stride, as in the files.
        self.register_buffer("anchors", torch.tensor(ANCHORS).float() / strides)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """p3, p4, p5 → boxes `(B, N, 4)` and scores `(B, N, 80)`, 0 to 1.

        A box is x, y of the centre, width and height in pixels. N = 3 * cells, map by map, then
        anchor by anchor, then row by row.
        """
        decoded = [self._decode(level, x) for level, x in enumerate(maps)]
        prediction = torch.cat(decoded, 1)
        return prediction[..., :4], prediction[..., 5:] * prediction[..., 4:5]

    def _decode(self, level: int, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        logits = self.m[level](x).view(batch, 3, 5 + CLASSES, height, width).permute(0, 1, 3, 4, 2)
        xy, wh, rest = logits.sigmoid().split((2, 2, 1 + CLASSES), -1)
        # A centre may lie half a cell outside its own; a side is up to four times its anchor's.
        xy = (xy * 2 + (_cells(x) - 0.5)) * STRIDES[level]
        wh = (wh * 2) ** 2 * (self.anchors[level] * STRIDES[level]).view(3, 1, 1, 2)
        return torch.cat((xy, wh, rest), -1).reshape(batch, -1, 5 + CLASSES)


class Distances(nn.Module):
    """Mean of a distribution over bins."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(BINS, 1, 1, bias=False)
        self.conv.weight = nn.Parameter(
            torch.arange(BINS).float().view(1, BINS, 1, 1), requires_grad=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 4 * BINS, N)` logits → `(B, 4, N)` in strides."""
        batch, _, places = x.shape
        shares = x.view(batch, 4, BINS, places).transpose(2, 1).softmax(1)  # (B, BINS, 4, N)
        out: Tensor = self.conv(shares).view(batch, 4, places)
        return out


class PointHead(nn.Module):
    """ultralytics' Detect layer: a box is the distances of its four edges from a cell's centre."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        boxes = max(16, channels[0] // 4, 4 * BINS)
        classes = max(channels[0], CLASSES)
        self.cv2 = nn.ModuleList(_branch(width, boxes, 4 * BINS) for width in channels)
        self.cv3 = nn.ModuleList(_branch(width, classes, CLASSES) for width in channels)
        self.dfl = Distances()

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """p3, p4, p5 → boxes `(B, N, 4)` and scores `(B, N, 80)`, 0 to 1.

        A box is x, y of the centre, width and height in pixels. N = cells, map by map, then row by
        row.
        """
        edges = torch.cat([self.cv2[level](x).flatten(2) for level, x in enumerate(maps)], 2)
        logits = torch.cat([self.cv3[level](x).flatten(2) for level, x in enumerate(maps)], 2)
        centres = torch.cat([(_cells(x) + 0.5).view(-1, 2).T for x in maps], 1)  # (2, N)
        strides = torch.cat(
            [
                x.new_full((x[0, 0].numel(),), stride)
                for x, stride in zip(maps, STRIDES, strict=True)
            ]
        )
        # (B, 2, N) each: left and top, right and bottom
        before, after = self.dfl(edges).chunk(2, 1)
        low, high = centres - before, centres + after
        boxes = torch.cat(((low + high) / 2, high - low), 1) * strides
        return boxes.transpose(1, 2), logits.sigmoid().transpose(1, 2)


def _branch(inputs: int, middle: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        Conv(inputs, middle, 3), Conv(middle, middle, 3), nn.Conv2d(middle, outputs, 1)
    )


class YOLOv5(nn.Module):
    """uint8 RGB in, the three maps under the Detect layer and its boxes out; normalises itself."""

    def __init__(self, scale: Scale, release: str) -> None:
        super().__init__()
        self.release = release
        old = release == "v5.0"
        c64, c128, c256, c512, c1024 = (scale.channels(base) for base in (64, 128, 256, 512, 1024))
        first, last = scale.repeats(3), scale.repeats(9)
        early = last if old else scale.repeats(6)
        head = PointHead if release == "u" else AnchorHead
        self.model = nn.ModuleDict({
            "0": Focus(3, c64, 3) if old else Conv(3, c64, 6, stride=2, padding=2),
            "1": Conv(c64, c128, 3, stride=2),
            "2": C3(c128, c128, first),
            "3": Conv(c128, c256, 3, stride=2),
            "4": C3(c256, c256, early),
            "5": Conv(c256, c512, 3, stride=2),
            "6": C3(c512, c512, last),
            "7": Conv(c512, c1024, 3, stride=2),
            "8": PyramidPooling(c1024) if old else C3(c1024, c1024, first),
            "9": C3(c1024, c1024, first, residual=False) if old else PyramidPooling(c1024),
            "10": Conv(c1024, c512),
            "13": C3(2 * c512, c512, first, residual=False),
            "14": Conv(c512, c256),
            "17": C3(2 * c256, c256, first, residual=False),
            "18": Conv(c256, c256, 3, stride=2),
            "20": C3(2 * c256, c512, first, residual=False),
            "21": Conv(c512, c512, 3, stride=2),
            "23": C3(2 * c512, c1024, first, residual=False),
            "24": head((c256, c512, c1024)),
        })  # fmt: skip

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """`(B, 3, H, W)` uint8 RGB → `p3`, `p4`, `p5`, and the head's `boxes` and `scores`.

        Channels below are those of size l; other sizes scale them.
        """
        # Top down to p3, then bottom up to p5, as in PANet.
        x = to_weight_dtype(pictures.float() / 255, self)
        x = self._run(x, 0, 1, 2)  # (B, 128, H/4, W/4)
        x8 = self._run(x, 3, 4)  # (B, 256, H/8, W/8)
        x16 = self._run(x8, 5, 6)  # (B, 512, H/16, W/16)
        top = self._run(x16, 7, 8, 9, 10)  # (B, 512, H/32, W/32)
        middle = self._run(_join(_double(top), x16), 13, 14)  # (B, 256, H/16, W/16)
        p3 = self._run(_join(_double(middle), x8), 17)  # (B, 256, H/8, W/8)
        p4 = self._run(_join(self._run(p3, 18), middle), 20)  # (B, 512, H/16, W/16)
        p5 = self._run(_join(self._run(p4, 21), top), 23)  # (B, 1024, H/32, W/32)
        # Boxes are decided in float32, also after bf16.
        maps = [x.float() for x in (p3, p4, p5)]
        boxes, scores = self.model["24"](maps)
        return {**dict(zip(MAPS, maps, strict=True)), "boxes": boxes, "scores": scores}

    def fold_norms(self) -> None:
        """Fold every norm into its convolution, as the releases do before they detect.

        The network then has no tensors of norms, and cannot load a published file.
        """
        for layer in self.modules():
            if isinstance(layer, Conv):
                layer.fold(_by_reciprocal if self.release == "u" else _by_division)

    def set_precision(self, precision: str) -> None:
        """Lower all layers except the Detect layer to `precision`."""
        for name, layer in self.model.items():
            if name != "24":
                to_precision(layer, precision)

    def _run(self, x: Tensor, *layers: int) -> Tensor:
        for layer in layers:
            x = self.model[str(layer)](x)
        return x


def _join(x: Tensor, y: Tensor) -> Tensor:
    return torch.cat((x, y), 1)


def _double(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2, mode="nearest")
