"""MINI-Net without sound: attention over the segments of a bag, and a classifier of the bag.

Source: F.-T. Hong, X. Huang, W.-H. Li, W.-S. Zheng, "MINI-Net: Multiple Instance Ranking Network
for Video Highlight Detection", ECCV 2020; code: github.com/xuantengh/MINI-Net at
d2f89bf27a55117be7bed946ca9fc94d4b2ca057, whose `MILModel_vision` this equals given the same
weights.

The full network also reads VGGish features of the sound, which no array of ours holds, so its
published numbers (.644 on YouTube Highlights) cannot be reached; in the code its attention refers
to a class that does not exist (`AttentionUnit_1`). The authors' visual feature is 512 wide; the
code does not name its network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.highlight.base.contract import Batch, ModelSpec, Scores
from models.highlight.base.history import single_vector_array
from models.validation import at_least, dropout_rate


@dataclass(frozen=True)
class MiniNetSettings:
    """The released sizes."""

    width: int = 128
    """Of a segment's embedding."""
    attention_width: int = 64
    layers: int = 4
    """Layers up to the embedding, each followed by a ReLU."""
    dropout: float = 0.5
    """Of the embedding."""

    def __post_init__(self) -> None:
        at_least("width", self.width, 1)
        at_least("attention_width", self.attention_width, 1)
        at_least("layers", self.layers, 1)
        dropout_rate("dropout", self.dropout)


class MiniNet(nn.Module):
    """Gated attention over the segments of a bag, and a classifier of the bag."""

    def __init__(self, key: str, inputs: int, settings: MiniNetSettings) -> None:
        super().__init__()
        self.key = key
        self.dropout = settings.dropout
        widths = [inputs, *[settings.width] * settings.layers]
        self.embed = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        self.value = nn.Linear(settings.width, settings.attention_width)
        self.gate = nn.Linear(settings.width, settings.attention_width)
        self.attention = nn.Linear(settings.attention_width, 1)
        self.classifier = nn.Linear(settings.width, 2)

    def forward(self, batch: Batch) -> Scores:
        """The logits of attention as scores, as the code scores videos.

        `parts` has `weights` `(B, T)`, their softmax over the bag, and `bag_logits` `(B, 2)`, the
        second for the target category.
        """
        x = batch.features[self.key].masked_fill(~batch.mask.unsqueeze(-1), 0)
        for layer in self.embed:
            x = torch.relu(layer(x))
        x = functional.dropout(x, self.dropout, self.training)
        # Gated attention (Ilse et al., 2018), with ReLU for tanh as in the code.
        gated = torch.relu(self.value(x)) * torch.sigmoid(self.gate(x))
        scores = self.attention(gated).squeeze(-1).float()
        weights = scores.masked_fill(~batch.mask, torch.finfo(scores.dtype).min).softmax(dim=-1)
        weights = weights.masked_fill(~batch.mask, 0)
        bags: Tensor = self.classifier((weights.unsqueeze(1) @ x).squeeze(1))
        return Scores(scores, {"weights": weights, "bag_logits": bags})


def _build(settings: MiniNetSettings, shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
    return MiniNet(*single_vector_array(shapes), settings)


SPEC = ModelSpec(
    name="mini_net",
    source="MINI-Net (ECCV 2020), without sound: MILModel_vision of the code",
    arrays=("c3d/fc6",),
    unit="row",
    history="none",
    settings=MiniNetSettings,
    build=_build,
)
