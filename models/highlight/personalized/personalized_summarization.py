"""Personalized Summarization, in part: ranks clips by the durations of the user's own clips.

Source: C. Panagiotakis, H. Papadakis, P. Fragopoulou, "Personalized Video Summarization Based
Exclusively on User Preferences", ECIR 2020, known here from its abstract and from MHA+Fusion's
description: it reads no content, and ranks clips of a video "for each user based on the durations
of their selected clips using a recommendation algorithm".

The missing part: the original pools the segmentations of all users of a video and recommends by
synthetic coordinates (SCoR). That needs users that share videos; almost no two users of PHD2 do.
This implements the user's preferred durations, as a kernel density over the logarithm of their
clips' durations; kernel and width are ours. Positions must differ in duration: on a grid of
5-second segments all scores are equal. Published numbers (mAP .216, nMSD .288 on users with 5
highlights and more) are not comparable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.highlight.base.contract import Batch, ModelSpec, Scores
from models.validation import above


@dataclass(frozen=True)
class DurationSettings:
    """Width of the kernel over durations."""

    width_octaves: float = 0.5
    """Standard deviation of the kernel, in doublings of the duration; ours."""

    def __post_init__(self) -> None:
        above("width_octaves", self.width_octaves, 0)


class DurationRanker(nn.Module):
    """0 to 1: how common a position's duration is among the user's clips.

    0 for users without a history.
    """

    def __init__(self, settings: DurationSettings) -> None:
        super().__init__()
        self.width_octaves = settings.width_octaves

    def forward(self, batch: Batch) -> Scores:
        """A clip lasts from its first row's start to its last row's end; features are not read."""
        exists = batch.history_mask.any(dim=-1)
        outside = ~batch.history_mask
        starts = batch.history_spans[..., 0].masked_fill(outside, torch.inf)
        ends = batch.history_spans[..., 1].masked_fill(outside, -torch.inf)
        if not exists.any():
            return Scores(torch.zeros(batch.mask.shape, device=batch.mask.device))
        clip_seconds = ends.amax(dim=-1) - starts.amin(dim=-1)
        clips = _octaves(clip_seconds.where(exists, 1))
        seconds = batch.spans[..., 1] - batch.spans[..., 0]
        positions = _octaves(seconds.where(batch.mask, 1))
        distance = (positions.unsqueeze(-1) - clips.unsqueeze(1)) / self.width_octaves  # (B, T, K)
        kernel = torch.exp(-0.5 * distance.square())
        density = kernel.masked_fill(~exists.unsqueeze(1), 0).sum(dim=-1)
        return Scores((density / exists.sum(dim=1, keepdim=True).clamp(min=1)).float())


def _octaves(seconds: Tensor) -> Tensor:
    return seconds.clamp(min=1e-3).log2()


def _build(settings: DurationSettings, shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
    return DurationRanker(settings)


SPEC = ModelSpec(
    name="personalized_summarization",
    source="Personalized Video Summarization Based Exclusively on User Preferences (ECIR 2020), "
    "durations only",
    # Its rows define the positions; their values are not read.
    arrays=("c3d/pool5",),
    unit="segment",
    history="clips",
    settings=DurationSettings,
    build=_build,
    is_trained=False,
)
