"""LIM-s: a scorer trained to prefer segments of short videos, and a network that weighs pairs.

Source: B. Xiong, Y. Kalantidis, D. Ghadiyaram, K. Grauman, "Less is More: Learning Highlight
Detection from Video Duration", CVPR 2019: f(x) scores a segment; h(x_i, x_j), a softmax over the
pairs of a group, weighs how reliable each pair is.

No code was published, and the 10 million videos it was trained on are private; -s, one model a
domain, and -a, one for all, differ only in their data. The widths are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.highlight.base.contract import Batch, ModelSpec, Scores
from models.highlight.base.history import (
    FNN,
    FNNSettings,
    scatter_to_positions,
    single_vector_array,
)
from models.validation import layer_widths


@dataclass(frozen=True)
class LIMSettings(FNNSettings):
    """Sizes of the scorer, and of the network that weighs pairs; ours."""

    hidden_widths: tuple[int, ...] = (512, 128)
    dropouts: tuple[float, ...] = (0.0, 0.0, 0.0)
    pair_widths: tuple[int, ...] = (512, 128)

    def __post_init__(self) -> None:
        super().__post_init__()
        layer_widths("pair_widths", self.pair_widths)


class LIM(nn.Module):
    """Scorer f, and the network h of pairs, which is used only in training."""

    def __init__(self, key: str, width: int, settings: LIMSettings) -> None:
        super().__init__()
        self.key = key
        self.scorer = FNN(width, settings)
        no_dropout = (0.0,) * (len(settings.pair_widths) + 1)
        self.pairs = FNN(2 * width, FNNSettings(settings.pair_widths, no_dropout))

    def forward(self, batch: Batch) -> Scores:
        """Scores without bounds."""
        scores = self.scorer(batch.features[self.key][batch.mask])
        return Scores(scatter_to_positions(scores, batch.mask))

    def pair_logits(self, preferred: Tensor, other: Tensor) -> Tensor:
        """h of `(N, D)` segments of short videos and `(N, D)` of long ones → `(N,)` logits.

        The loss takes their softmax over a group.
        """
        logits: Tensor = self.pairs(torch.cat([preferred, other], dim=-1))
        return logits


def _build(settings: LIMSettings, shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
    return LIM(*single_vector_array(shapes), settings)


SPEC = ModelSpec(
    name="lim",
    source="Less is More (CVPR 2019), LIM-s and LIM-a",
    arrays=("c3d/fc6",),
    unit="row",
    history="none",
    settings=LIMSettings,
    build=_build,
)
