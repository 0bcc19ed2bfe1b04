"""A transformer over a set of segments, and the sets in which a video's segments are scored.

Source: M. Xu, H. Wang, B. Ni, R. Zhu, Z. Sun, C. Wang, "Cross-category Video Highlight Detection
via Set-based Learning", ICCV 2021, section 3.2; released code:
github.com/ChrisAllenMing/Cross_Category_Video_Highlight at
abe3c2c0ee878dbf567a8f4f48a2d033b485e849, whose transformer this equals given the same weights.

The paper names layers, heads, layer norms before each block and no positional encoding; the width
of the feed-forward block, GELU, dropout, projections without bias and the missing last norm are
those of the released code.

Letters in shapes: those of `contract.py`; D the width of a feature, N the size of a set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.highlight.base.contract import Batch
from models.validation import at_least, dropout_rate, one_of

SETS_AT_ONCE = 64
"""Most sets in one forward: at the published size a set takes about 4 MB per layer."""


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
    """After the output of attention and both layers of the feed-forward block; not in the paper."""
    scale: Literal["head", "width"] = "head"
    """The products of attention are divided by the root of a head's width, as in the transformer
    that the paper cites, or of the whole width, as in the released code: by 22.6 or by 64 with a
    width of 4096 and 8 heads.
    """
    set_size: int = 20
    """N of a test set."""
    test_sets: Literal["repeated", "clipped", "whole"] = "repeated"
    """The set in which a segment is scored, outside of training.

    repeated: with the N - 1 nearest segments, half of them before and half after; beyond the ends
    of the video its first and last segment are repeated (the paper says that segments are
    duplicated, but not which; of the odd number the larger half is after). clipped: with N / 2
    segments before and as many after, fewer at the ends, as in the released code. whole: the video
    is one set.
    """

    def __post_init__(self) -> None:
        at_least("layers", self.layers, 1)
        at_least("heads", self.heads, 1)
        at_least("hidden_width", self.hidden_width, 1)
        at_least("set_size", self.set_size, 1)
        dropout_rate("dropout", self.dropout)
        one_of("scale", self.scale, ("head", "width"))
        one_of("test_sets", self.test_sets, ("repeated", "clipped", "whole"))


class Layer(nn.Module):
    """x + attention(norm x), then x + feed-forward(norm x)."""

    def __init__(self, width: int, settings: SetSettings) -> None:
        super().__init__()
        if width % settings.heads:
            raise ValueError(
                f"the width of a feature must be a multiple of heads = {settings.heads}; "
                f"got {width}"
            )
        self.heads = settings.heads
        scaling_width = width if settings.scale == "width" else width // settings.heads
        self.scale = scaling_width**-0.5
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width)
        self.forward_norm = nn.LayerNorm(width)
        self.forward_in = nn.Linear(width, settings.hidden_width)
        self.forward_out = nn.Linear(settings.hidden_width, width)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(B, N, D)` and `(B, N)` bool → `(B, N, D)`; no segment attends outside the mask."""
        projected = self.query_key_value(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = projected.permute(2, 0, 3, 1, 4)  # (B, heads, N, D / heads) each
        attended = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask[:, None, None, :], scale=self.scale
        )
        x = x + self.dropout(self.attention_out(attended.transpose(1, 2).flatten(2)))
        hidden = self.dropout(functional.gelu(self.forward_in(self.forward_norm(x))))
        out: Tensor = x + self.dropout(self.forward_out(hidden))
        return out


class SetTransformer(nn.Module):
    """Contextualised embeddings: of each set in training, else of each segment in its own set."""

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
        outside = ~batch.mask.unsqueeze(-1)
        x = batch.features[self.key].masked_fill(outside, 0)
        if not self.layers:
            return x
        if self.training or self.settings.test_sets == "whole":
            return self._contextualise(x, batch.mask).masked_fill(outside, 0)
        embeddings = torch.zeros_like(x)
        embeddings[batch.mask] = self._contextualise_neighbours(x[batch.mask], batch.mask)
        return embeddings

    def _contextualise_neighbours(self, segments: Tensor, mask: Tensor) -> Tensor:
        """The M segments of a `(B, T)` mask, `(M, D)` → `(M, D)`, each in its own set."""
        sets, exists, centres = neighbour_sets(
            mask, self.settings.set_size, self.settings.test_sets == "repeated"
        )
        parts = zip(
            torch.split(sets, SETS_AT_ONCE),
            torch.split(exists, SETS_AT_ONCE),
            torch.split(centres, SETS_AT_ONCE),
            strict=True,
        )
        embeddings = []
        for indices, present, centre in parts:
            contextualised = self._contextualise(segments[indices], present)
            number = torch.arange(len(centre), device=centre.device)
            embeddings.append(contextualised[number, centre])
        return torch.cat(embeddings)

    def _contextualise(self, x: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, mask)
        return x


def neighbour_sets(mask: Tensor, size: int, is_repeated: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The set around each of the M segments of a `(B, T)` mask, as indices among those M.

    Gives the indices `(M, N)`, which of them exist `(M, N)`, and each segment's own place in its
    set `(M,)`. N is `size` if the ends of a video are repeated, else the segment itself and
    `size // 2` on each side.
    """
    after = size // 2
    before = (size - 1) // 2 if is_repeated else size // 2
    counts = mask.sum(dim=1)  # segments of each video
    ends = counts.cumsum(dim=0)
    # The first and last segment of the video of each segment.
    first = (ends - counts).repeat_interleave(counts)[:, None]
    last = (ends - 1).repeat_interleave(counts)[:, None]
    own = torch.arange(len(first), device=mask.device)
    indices = own[:, None] + torch.arange(-before, after + 1, device=mask.device)
    exists = torch.ones_like(indices, dtype=torch.bool)
    if not is_repeated:
        exists = (indices >= first) & (indices <= last)
    return indices.clamp(min=first, max=last), exists, torch.full_like(own, before)
