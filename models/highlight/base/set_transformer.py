"""A transformer over a set of segments, without positions, and the sets in which a video's segments
are scored.

Source: M. Xu, H. Wang, B. Ni, R. Zhu, Z. Sun, C. Wang, "Cross-category Video Highlight Detection
via Set-based Learning", ICCV 2021, section 3.2; released code:
github.com/ChrisAllenMing/Cross_Category_Video_Highlight at
abe3c2c0ee878dbf567a8f4f48a2d033b485e849, whose transformer this equals given the same weights.
Refuses to know scores.

The paper names layers, heads, layer norms before each block and no positions; the width of the
feed-forward block, GELU, dropout, projections without bias and the missing last norm are the
released code's.

Letters in shapes: those of `contract.py`; D the width of a feature, N the size of a set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.highlight.base.contract import Batch

SETS_AT_ONCE = 64
"""So many sets of a long video go through the network together: at the published size one takes
about 4 MB a layer.
"""


@dataclass(frozen=True)
class SetSettings:
    """The paper's sizes."""

    has_transformer: bool = True
    """False is the paper's "w/o T": each segment is scored by itself."""
    layers: int = 5
    heads: int = 8
    hidden_width: int = 8192
    """Of the feed-forward block; the paper does not state it."""
    dropout: float = 0.5
    """After attention's output and after both layers of the feed-forward block; the paper does not
    state it.
    """
    scale: Literal["head", "width"] = "head"
    """Attention's products are divided by the root of a head's width, as in the transformer the
    paper cites, or of the whole width, as in the released code: by 22.6 or by 64 at 4096 wide with
    8 heads.
    """
    set_size: int = 20
    """N of a test set."""
    test_sets: Literal["repeated", "clipped", "whole"] = "repeated"
    """Among which segments one is scored, outside of training. repeated: the N - 1 nearest, half
    before and half after, the first and last of the video repeated where there are none (the paper
    says that segments are duplicated, and not which; of the odd number the larger half is after).
    clipped: N / 2 before and as many after, fewer at the ends, as in the released code. whole: the
    video is one set.
    """

    def __post_init__(self) -> None:
        if min(self.layers, self.heads, self.hidden_width, self.set_size) < 1:
            raise ValueError(f"layers, heads, hidden_width and set_size are at least 1; got {self}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is 0 to below 1, got {self.dropout}")
        if self.scale not in ("head", "width"):
            raise ValueError(f"scale is head or width, got {self.scale!r}")
        if self.test_sets not in ("repeated", "clipped", "whole"):
            raise ValueError(f"test_sets is repeated, clipped or whole, got {self.test_sets!r}")


class Layer(nn.Module):
    """x + attention(norm x), then x + feed-forward(norm x)."""

    def __init__(self, width: int, settings: SetSettings) -> None:
        super().__init__()
        if width % settings.heads:
            raise ValueError(
                f"a feature's width is a multiple of heads ({settings.heads}), got {width}"
            )
        self.heads = settings.heads
        self.scale = (width if settings.scale == "width" else width // settings.heads) ** -0.5
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width)
        self.forward_norm = nn.LayerNorm(width)
        self.forward_in = nn.Linear(width, settings.hidden_width)
        self.forward_out = nn.Linear(settings.hidden_width, width)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(B, N, D)` and `(B, N)` bool → `(B, N, D)`; nobody looks at what the mask forbids."""
        projected = self.query_key_value(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask[:, None, None, :], scale=self.scale
        )
        x = x + self.dropout(self.attention_out(attended.transpose(1, 2).flatten(2)))
        hidden = self.dropout(functional.gelu(self.forward_in(self.forward_norm(x))))
        answer: Tensor = x + self.dropout(self.forward_out(hidden))
        return answer


class SetTransformer(nn.Module):
    """Contextualised embeddings: of each set in training, of each segment among its neighbours
    otherwise.
    """

    def __init__(self, key: str, width: int, settings: SetSettings) -> None:
        super().__init__()
        self.key = key
        self.settings = settings
        count = settings.layers if settings.has_transformer else 0
        self.layers = nn.ModuleList(Layer(width, settings) for _ in range(count))

    def forward(self, batch: Batch) -> Tensor:
        """`(B, T, D)`; zero outside the mask.

        In training mode a row of the batch is a set, as `trainer.losses.set_based.domain_steps`
        draws them.
        """
        x = batch.features[self.key].masked_fill(~batch.mask.unsqueeze(-1), 0)
        if not self.layers:
            return x
        if self.training or self.settings.test_sets == "whole":
            return self._contextualise(x, batch.mask).masked_fill(~batch.mask.unsqueeze(-1), 0)
        sets, exists, centre = neighbour_sets(
            batch.mask, self.settings.set_size, self.settings.test_sets == "repeated"
        )
        rows = x[batch.mask]
        answers = [
            self._contextualise(rows[places], there)[torch.arange(len(at), device=at.device), at]
            for places, there, at in zip(
                *(torch.split(part, SETS_AT_ONCE) for part in (sets, exists, centre)), strict=True
            )
        ]
        embeddings = torch.zeros_like(x)
        embeddings[batch.mask] = torch.cat(answers)
        return embeddings

    def _contextualise(self, x: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, mask)
        return x


def neighbour_sets(mask: Tensor, size: int, is_repeated: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The set around each of the M segments of a `(B, T)` mask, as places among those M.

    Gives places `(M, N)`, which of them exist `(M, N)`, and `(M,)` where in its set the segment
    itself stands. N is `size` if the ends of a video are repeated, and otherwise `size // 2` on
    each side of the segment and itself.
    """
    before, after = ((size - 1) // 2, size // 2) if is_repeated else (size // 2, size // 2)
    counts = mask.sum(dim=1)
    ends = counts.cumsum(dim=0)
    first, last = (
        (ends - counts).repeat_interleave(counts)[:, None],
        (ends - 1).repeat_interleave(counts)[:, None],
    )
    own = torch.arange(len(first), device=mask.device)
    places = own[:, None] + torch.arange(-before, after + 1, device=mask.device)
    exists = (
        torch.ones_like(places, dtype=torch.bool)
        if is_repeated
        else (places >= first) & (places <= last)
    )
    return places.clamp(min=first, max=last), exists, torch.full_like(own, before)
