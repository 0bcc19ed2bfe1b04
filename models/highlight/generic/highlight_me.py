"""A HighlightMe-style ranker: which frames are needed to tell the poses of all of them. It knows no
user and no label.

Source: U. Bhattacharya, G. Wu, S. Petrangeli, V. Swaminathan, D. Manocha, "HighlightMe: Detecting
Highlights from Human-Centric Videos", ICCV 2021 (arXiv 2110.01774), known here from its abstract
and its authors' summary: poses and faces as graphs with edges along bones, between the same joints
of the persons of a frame, and along time; an autoencoder of spatial-temporal graph convolutions;
one score a frame by how representative it is, where few frames should score high and yet the
weighted representations should give the video back. No code was published. Refuses to know the
loss.

What the sources leave open, and is ours: widths, depth, kernel, and that latent codes are bounded
(tanh), lest a score near 0 be undone by large codes; poses alone (no face landmarks are extracted);
coordinates are divided by the largest of the video; the k-th person of a frame is the k-th best
scored, so edges along time join places in that order, not tracked persons; training on the target
dataset in place of AVA-Kinetics. A frame without persons scores 0. Published numbers (PHD2 .200)
are not comparable.

Letters in shapes: those of `contract.py`; P persons, J = 17 joints, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from models.extractors.keypoint_rcnn.settings import KEYPOINTS
from models.highlight.base.contract import Batch, ModelSpec, Scores
from models.highlight.base.history import masked_mean
from models.highlight.base.skeleton import bone_weights


@dataclass(frozen=True)
class HighlightMeSettings:
    """Sizes of encoder and decoder, which mirror each other; all are ours."""

    widths: tuple[int, ...] = (32, 64)
    kernel_frames: int = 9
    """Frames of a convolution along time; an odd number (9 as in ST-GCN)."""

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths holds one or more widths, each at least 1; got {self.widths}")
        if self.kernel_frames < 1 or self.kernel_frames % 2 == 0:
            raise ValueError(
                f"kernel_frames is an odd number, at least 1; got {self.kernel_frames}"
            )


class GraphUnit(nn.Module):
    """One spatial-temporal graph convolution with a residual: along bones, between persons, then
    along time.
    """

    bones: Tensor

    def __init__(self, inputs: int, outputs: int, kernel_frames: int) -> None:
        super().__init__()
        self.own = nn.Linear(inputs, outputs)
        self.along_bones = nn.Linear(inputs, outputs, bias=False)
        self.between_persons = nn.Linear(inputs, outputs, bias=False)
        self.along_time = nn.Conv1d(outputs, outputs, kernel_frames, padding=kernel_frames // 2)
        self.residual = nn.Linear(inputs, outputs, bias=False)
        self.register_buffer("bones", bone_weights(), persistent=False)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """`(B, T, P, J, inputs)`, zero where `present` `(B, T, P)` is false → `(B, T, P, J,
        outputs)`, zero there.
        """
        others = x.sum(dim=2, keepdim=True) - x
        others = others / (present.sum(dim=2, keepdim=True) - 1).clamp(min=1)[..., None, None]
        absent = ~present[..., None, None]
        y = self.own(x) + self.along_bones(self.bones @ x) + self.between_persons(others)
        y = torch.relu(y).masked_fill(absent, 0)
        batch, frames, persons, joints, channels = y.shape
        tracks = y.permute(0, 2, 3, 4, 1).reshape(-1, channels, frames)
        tracks = (
            self.along_time(tracks)
            .view(batch, persons, joints, channels, frames)
            .permute(0, 4, 1, 2, 3)
        )
        answer: Tensor = (torch.relu(tracks) + self.residual(x)).masked_fill(absent, 0)
        return answer


class HighlightMe(nn.Module):
    """Encoder, scorer and decoder over poses."""

    def __init__(self, key: str, settings: HighlightMeSettings) -> None:
        super().__init__()
        self.key = key
        widths = (2, *settings.widths)
        pairs = list(pairwise(widths))
        self.encoder = nn.ModuleList(GraphUnit(*pair, settings.kernel_frames) for pair in pairs)
        self.scorer = nn.Linear(widths[-1], 1)
        self.decoder = nn.ModuleList(
            GraphUnit(*pair[::-1], settings.kernel_frames) for pair in reversed(pairs[1:])
        )
        self.last = nn.Linear(widths[1], 2)

    def forward(self, batch: Batch) -> Scores:
        """Scores from 0 to 1. `parts`: `poses` and `reconstruction` `(B, T, P, J, 2)`, and
        `present` `(B, T, P)` bool.

        Joints are `(B, T, P, J, 3)`; a person whose numbers are all zero is not there.
        """
        poses, present = self._poses(batch)
        codes = poses
        for unit in self.encoder:
            codes = unit(codes, present)
        codes = torch.tanh(codes)
        scores = torch.sigmoid(self.scorer(masked_mean(codes.mean(dim=3), present))).squeeze(
            -1
        )  # (B, T)
        scores = scores.masked_fill(~present.any(dim=2), 0)
        decoded = codes * scores[..., None, None, None]
        for unit in self.decoder:
            decoded = unit(decoded, present)
        parts = {"poses": poses, "reconstruction": self.last(decoded), "present": present}
        return Scores(scores.float(), parts)

    def _poses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Places as shares of the video's largest coordinate, around 0."""
        joints = batch.features[self.key]
        present = joints.ne(0).flatten(3).any(dim=-1) & batch.mask.unsqueeze(-1)
        absent = ~present[..., None, None]
        places = joints[..., :2].masked_fill(absent, 0)
        largest = (
            places.abs().flatten(1).amax(dim=1).clamp(min=1)[:, None, None, None, None]
        )  # (B, 1, 1, 1, 1) pixels
        return (places / largest - 0.5).masked_fill(absent, 0), present


def _build(settings: HighlightMeSettings, shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
    wanted = (len(KEYPOINTS), 3)
    (key, shape), *more = shapes.items() or [("none", ())]
    if more or len(shape) != 3 or shape[1:] != wanted:
        raise ValueError(
            f"this model reads one array of (persons, {wanted[0]}, 3) a position; got {dict(shapes)}"
        )
    return HighlightMe(key, settings)


SPEC = ModelSpec(
    name="highlight_me",
    source="HighlightMe (ICCV 2021), poses only, as far as it is known",
    arrays=("keypoint_rcnn/joints",),
    unit="row",
    history="none",
    settings=HighlightMeSettings,
    build=_build,
)
