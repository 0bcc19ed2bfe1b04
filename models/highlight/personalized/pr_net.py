"""PR-Net: compares each frame with the user's preferred clips and with a generic preference.

Source: R. Chen et al., "PR-Net: Preference Reasoning for Personalized Video Highlight Detection",
ICCV 2021 (arXiv 2109.01799). Equations are numbered as there. The paper shows the encoder M only in
a drawing (its Fig. 3): what the text does not say is marked `ours`. The losses are in
`trainer/losses/pr_net.py`.

Letters: B users, T positions of the target, K clips of a history, L positions of a clip, d the
width of the encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from models.highlight.base.contract import Batch, ModelSpec, Scores
from models.highlight.base.masking import MaskedBatchNorm
from models.validation import at_least, odd, one_of

EncoderKind = Literal["unet", "residual"]
"""The paper's encoder, and that of its ablation: a residual block over single frames."""

Preference = Literal["full", "G", "U", "meanU", "meanU+G"]
"""The preference that a frame is compared with: the attended history and the generic one (full);
the generic one (G); the attended history (U); the mean of the history (meanU); that mean and the
generic one (meanU+G).
"""

Ranking = Literal["highlight", "difference", "ratio"]
"""The score of a frame: l (eq. 6); l - b; l̃ / (l̃ + b̃), from eq. 9.

The paper does not say; it calls l the degree of highlight.
"""


@dataclass(frozen=True)
class PRNetSettings:
    """Sizes and variants of PR-Net; the defaults are the full method."""

    width: int = 512
    """d. Ours: in the paper d is the width of the features (8192 as in A-VHD, and then each
    convolution has 201 million weights). A linear layer maps features to d; 0 keeps them.
    """
    normalises_rows: bool = True
    """Whether each row is divided by its L2 norm first. Ours, as in A-VHD's code."""
    encoder: EncoderKind = "unet"
    """Encoder of target and history."""
    levels: int = 4
    """How often the encoder halves the time axis. Ours: as often as the original U-Net."""
    kernel: int = 3
    """Positions of a convolution, odd. Ours."""
    residual_width: int = 18_432
    """Hidden units of the residual block. Ours: the paper says that it is larger than M."""
    preference: Preference = "full"
    """The preference from which l is computed."""
    inverse_temperature: float = 9.0
    """λ of eq. 3 and 5."""
    ranks_by: Ranking = "highlight"
    """The number that is the score."""

    def __post_init__(self) -> None:
        one_of("encoder", self.encoder, get_args(EncoderKind))
        one_of("preference", self.preference, get_args(Preference))
        one_of("ranks_by", self.ranks_by, get_args(Ranking))
        odd("kernel", self.kernel)
        at_least("width", self.width, 0)
        at_least("levels", self.levels, 0)
        at_least("residual_width", self.residual_width, 1)


class Conv(nn.Module):
    """Convolution in time, norm over each position's channels, ReLU.

    Ours: the norm, which does not depend on padding.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2)
        self.norm = nn.LayerNorm(outputs)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(N, T, inputs)` and `(N, T)` → `(N, T, outputs)`, zero outside the mask."""
        return F.relu(self.norm(_along_time(self.conv, x))) * mask.unsqueeze(-1)


class ConvPair(nn.Module):
    """Two convolutions after one another, as on every level of a U-Net."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.first = Conv(inputs, outputs, kernel)
        self.second = Conv(outputs, outputs, kernel)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(N, T, inputs)` and `(N, T)` → `(N, T, outputs)`."""
        out: Tensor = self.second(self.first(x, mask), mask)
        return out


class UNet(nn.Module):
    """M of eq. 1: a U-Net (Ronneberger et al., 2015) along time, for any length from 1 up.

    Every convolution gives d channels. Ours: pairs of convolutions, max-pooling by 2, skips by
    concatenation, nearest upsampling, a last plain convolution.
    """

    def __init__(self, width: int, levels: int, kernel: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(ConvPair(width, width, kernel) for _ in range(levels))
        self.bottom = ConvPair(width, width, kernel)
        self.up = nn.ModuleList(ConvPair(2 * width, width, kernel) for _ in range(levels))
        self.last = nn.Conv1d(width, width, kernel, padding=kernel // 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(N, T, d)` and `(N, T)` → `(N, T, d)`; both are zero outside the mask."""
        skips = []
        for pair in self.down:
            x = pair(x, mask)
            skips.append((x, mask))
            # ReLUs made x 0 or more, so zeros outside the mask never win.
            x = _along_time(_max_pool, x)
            mask = _max_pool(mask.float().unsqueeze(1)).squeeze(1) > 0
        x = self.bottom(x, mask)
        for pair, (skip, mask) in zip(self.up, reversed(skips), strict=True):
            # Masked again: a video of 5 positions has 3 at the next level, which become 6 here.
            x = x.repeat_interleave(2, dim=1)[:, : skip.shape[1]] * mask.unsqueeze(-1)
            x = pair(torch.cat((skip, x), -1), mask)
        return _along_time(self.last, x) * mask.unsqueeze(-1)


class ResidualBlock(nn.Module):
    """The ablation's encoder, which encodes each frame by itself. Ours: x + W₂ ReLU(W₁ x)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, hidden)
        self.outer = nn.Linear(hidden, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(N, T, d)` and `(N, T)` → `(N, T, d)`."""
        out: Tensor = x + self.outer(F.relu(self.inner(x)))
        return out * mask.unsqueeze(-1)


class PRNet(nn.Module):
    """The whole model. `parts` of its scores has all that the losses and plots need.

    `frames` `(B, T, d)` is S; `preference` `(B, T, d)` is p^c (or its replacement in a variant);
    `non_highlight_preference` `(d,)` is u; `highlight` and `non_highlight` `(B, T)` are l and b;
    `attention` `(B, T, K)` is a (zero for a clip that does not exist); `user_weight` `(B, T)` is
    the share of p^u in p^c, 0 without history.

    A user without history has p^c = g. In variants without g such a user's p and l are zero.
    """

    def __init__(self, settings: PRNetSettings, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.settings = settings
        self.arrays = tuple(shapes)
        inputs = sum(torch.Size(shape).numel() for shape in shapes.values())
        width = settings.width or inputs
        self.reduce = nn.Linear(inputs, width) if settings.width else nn.Identity()
        self.encoder: nn.Module
        if settings.encoder == "unet":
            self.encoder = UNet(width, settings.levels, settings.kernel)
        else:
            self.encoder = ResidualBlock(width, settings.residual_width)
        # Ours: a batch norm over all encoded frames, target and history together. A component that
        # all frames share (C3D's features are never negative, and ReLUs add to it) would make every
        # cosine of eq. 3 and 5 nearly 1: attention would begin as a mean, and stay one for hundreds
        # of steps (docs/decisions).
        self.norm = MaskedBatchNorm(width)
        # l and b are plain products of two such vectors (eq. 6 and 7); their softmax over frames
        # (eq. 9) would begin saturated. The fourth root makes the products as large as attention's
        # q·k / √d.
        nn.init.constant_(self.norm.norm.weight, width**-0.25)
        # Ours: random directions of length about 1.
        self.non_highlight = nn.Parameter(torch.randn(width) * width**-0.5)
        has_generic = settings.preference not in ("U", "meanU")
        self.generic = nn.Parameter(torch.randn(width) * width**-0.5) if has_generic else None

    def forward(self, batch: Batch) -> Scores:
        """Eq. 1 to 7."""
        frames, clips, exists = self._encoded(batch)
        attention = self._attention(frames, clips, exists)
        preference, user_weight = self._preference(frames, attention @ clips, exists.any(1))
        highlight = (frames * preference).sum(-1)
        non_highlight = (frames * self.non_highlight).sum(-1)
        parts = {
            "frames": frames,
            "preference": preference,
            "non_highlight_preference": self.non_highlight,
            "highlight": highlight,
            "non_highlight": non_highlight,
            "attention": attention,
            "user_weight": user_weight,
        }
        return Scores(self._rank(highlight, non_highlight, batch.mask), parts)

    def _encoded(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """S `(B, T, d)`, h̃ `(B, K, d)`, and which clips exist `(B, K)`.

        h̃ is the mean over each clip's frames.
        """
        exists = batch.history_mask.any(2)
        encoded_target = self._encode(batch.features, batch.mask)
        if self.settings.preference == "G" or not exists.any():
            (frames,) = self._normed([encoded_target], [batch.mask])
            no_clips = frames.new_zeros(len(frames), 0, frames.shape[-1])
            return frames, no_clips, exists[:, :0]
        clip_mask = batch.history_mask[exists]
        history = {name: batch.history[name][exists] for name in self.arrays}
        encoded_clips = self._encode(history, clip_mask)
        frames, clip_frames = self._normed([encoded_target, encoded_clips], [batch.mask, clip_mask])
        clips = frames.new_zeros(*exists.shape, frames.shape[-1])
        clips[exists] = clip_frames.sum(1) / clip_mask.sum(1, keepdim=True)
        return frames, clips, exists

    def _normed(self, encoded: Sequence[Tensor], masks: Sequence[Tensor]) -> list[Tensor]:
        """Each `(N, T, d)` and `(N, T)` → the same shape, normalised by the statistics of all."""
        rows = [part[mask] for part, mask in zip(encoded, masks, strict=True)]
        # All rows as one sequence (1, d, M), so that target and history share their statistics.
        together = torch.cat(rows).T.unsqueeze(0)
        normed = self.norm(together, masks[0].new_ones(1, together.shape[2])).squeeze(0).T
        normed_rows = torch.split(normed, [len(part) for part in rows])
        return [
            torch.zeros_like(part).masked_scatter(mask.unsqueeze(-1), normed_part)
            for part, mask, normed_part in zip(encoded, masks, normed_rows, strict=True)
        ]

    def _encode(self, features: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """M, `(N, T, ...)` of each array → `(N, T, d)`; arrays are flattened and concatenated."""
        rows = torch.cat([features[name].flatten(2) for name in self.arrays], -1)
        if self.settings.normalises_rows:
            rows = F.normalize(rows, dim=-1)
        out: Tensor = self.encoder(self.reduce(rows) * mask.unsqueeze(-1), mask)
        # Float32 under autocast too: in half precision many frames would have equal scores.
        return out.to(torch.promote_types(out.dtype, torch.float32))

    def _attention(self, frames: Tensor, clips: Tensor, exists: Tensor) -> Tensor:
        """a of eq. 3, `(B, T, K)`, or equal shares; zero for a clip that does not exist."""
        # (B, T, K) cosines; eq. 3 has them scaled by λ.
        likeness = F.normalize(frames, dim=-1) @ F.normalize(clips, dim=-1).transpose(1, 2)
        # Equal logits make the softmax a mean.
        if self.settings.preference.startswith("mean"):
            likeness = torch.zeros_like(likeness)
        exists = exists.unsqueeze(1)
        logits = self.settings.inverse_temperature * likeness
        logits = logits.masked_fill(~exists, torch.finfo(likeness.dtype).min)
        # Multiplied again: without any clip the softmax of equal logits is not zero.
        return logits.softmax(-1) * exists

    def _preference(
        self, frames: Tensor, user: Tensor, has_history: Tensor
    ) -> tuple[Tensor, Tensor]:
        """p^c of eq. 4 and 5 `(B, T, d)`, from p^u of eq. 2; the share of p^u in it `(B, T)`."""
        is_known = has_history.unsqueeze(1).to(frames.dtype)
        if self.generic is None:
            return user, is_known.expand(frames.shape[:2])
        to_user = F.cosine_similarity(frames, user, dim=-1)
        to_generic = F.cosine_similarity(frames, self.generic, dim=-1)
        # q1 / (q1 + q2), as a sigmoid: the exponentials of eq. 5 could overflow.
        share = torch.sigmoid(self.settings.inverse_temperature * (to_user - to_generic)) * is_known
        return user * share.unsqueeze(-1) + self.generic * (1 - share).unsqueeze(-1), share

    def _rank(self, highlight: Tensor, non_highlight: Tensor, mask: Tensor) -> Tensor:
        if self.settings.ranks_by == "highlight":
            return highlight
        if self.settings.ranks_by == "difference":
            return highlight - non_highlight
        # l̃ / (l̃ + b̃) of two softmaxes, computed from their logarithms.
        log_ratio = masked_log_softmax(highlight, mask) - masked_log_softmax(non_highlight, mask)
        return torch.sigmoid(log_ratio)


def masked_log_softmax(values: Tensor, mask: Tensor) -> Tensor:
    """The logarithm of eq. 9, `(B, T)` float32: a softmax over the positions that exist.

    Outside the mask it is a large negative number. It is finite, so that a gradient there is 0 and
    not NaN.
    """
    return values.float().masked_fill(~mask, torch.finfo(torch.float32).min / 4).log_softmax(1)


def _along_time(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A layer for `(N, C, T)`, applied to `(N, T, C)`."""
    return layer(x.transpose(1, 2)).transpose(1, 2)


def _max_pool(x: Tensor) -> Tensor:
    """`(N, C, T)` → `(N, C, ⌈T/2⌉)`."""
    return F.max_pool1d(x, 2, ceil_mode=True)


def _build(settings: PRNetSettings, shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
    return PRNet(settings, shapes)


SPEC = ModelSpec(
    name="pr_net",
    source="PR-Net (ICCV 2021), section 3, equations 1 to 7",
    arrays=("c3d/pool5",),
    unit="row",
    history="clips",
    settings=PRNetSettings,
    build=_build,
)
