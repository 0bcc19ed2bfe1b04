"""PR-Net: each frame is compared with every clip that a user liked, and with one generic
preference.

Source: R. Chen et al., "PR-Net: Preference Reasoning for Personalized Video Highlight Detection",
ICCV 2021 (arXiv 2109.01799). Equations are numbered as there. The encoder M exists in the paper as
a drawing only (its Fig. 3): what the text does not say is marked `ours`. The losses are in
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

EncoderKind = Literal["unet", "residual"]
"""The paper's encoder, and the one of its ablation: a residual block for each frame alone."""

Preference = Literal["full", "G", "U", "meanU", "meanU+G"]
"""Whose preference a frame is compared with: the attended history and the generic one (full); the
generic one (G); the attended history (U); the mean of the history (meanU); that mean and the
generic one (meanU+G).
"""

Ranking = Literal["highlight", "difference", "ratio"]
"""What ranks frames: l (eq. 6); l - b; l̃ / (l̃ + b̃), from eq. 9. The paper never says; l is what
it calls the degree of highlight.
"""


@dataclass(frozen=True)
class PRNetSettings:
    """Sizes and variants of PR-Net; the defaults are the full method."""

    width: int = 512
    """d. Ours: the paper has d of the features themselves (8192 if as in A-VHD, and then each
    convolution has 201 million weights). A linear layer brings features to d; 0 leaves them as they
    are.
    """
    normalises_rows: bool = True
    """Whether each row is divided by its L2 norm first. Ours: A-VHD's code does so with the same
    features.
    """
    encoder: EncoderKind = "unet"
    """Encoder of target and history."""
    levels: int = 4
    """How often the encoder halves the time axis. Ours: as often as the original U-Net."""
    kernel: int = 3
    """Positions of a convolution, odd. Ours."""
    residual_width: int = 18_432
    """Hidden units of the residual block. Ours: the paper says that it has more parameters than
    M.
    """
    preference: Preference = "full"
    """Which preference l is computed from."""
    inverse_temperature: float = 9.0
    """λ of eq. 3 and 5."""
    ranks_by: Ranking = "highlight"
    """Which number is the score."""

    def __post_init__(self) -> None:
        for name, allowed in (
            ("encoder", EncoderKind),
            ("preference", Preference),
            ("ranks_by", Ranking),
        ):
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(
                    f"{name} is one of {', '.join(get_args(allowed))}; got {getattr(self, name)!r}"
                )
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel is odd and at least 1, got {self.kernel}")
        if self.width < 0 or self.levels < 0 or self.residual_width < 1:
            sizes = f"{self.width}, {self.levels} and {self.residual_width}"
            raise ValueError(
                f"width and levels are at least 0, residual_width at least 1; got {sizes}"
            )


class Conv(nn.Module):
    """Convolution in time, norm over each position's channels, ReLU. Ours: the norm, which padding
    cannot touch.
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
    """M of eq. 1: a U-Net (Ronneberger et al., 2015) along time, of any length from 1 up; every
    convolution gives d.

    Ours: pairs of convolutions, max-pooling by 2, skips by concatenation, nearest upsampling, a
    last plain convolution.
    """

    def __init__(self, width: int, levels: int, kernel: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(ConvPair(width, width, kernel) for _ in range(levels))
        self.bottom = ConvPair(width, width, kernel)
        self.up = nn.ModuleList(ConvPair(2 * width, width, kernel) for _ in range(levels))
        self.last = nn.Conv1d(width, width, kernel, padding=kernel // 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(N, T, d)`, zero outside the mask `(N, T)` → `(N, T, d)`, likewise."""
        skips = []
        for pair in self.down:
            x = pair(x, mask)
            skips.append((x, mask))
            # Nothing is negative here, so zeros outside the mask never win.
            x = _along_time(_halved, x)
            mask = _halved(mask.float().unsqueeze(1)).squeeze(1) > 0
        x = self.bottom(x, mask)
        for pair, (skip, mask) in zip(self.up, reversed(skips), strict=True):
            # The mask again: a video of 5 positions has 3 at the next level, and those have 6
            # shadows.
            x = x.repeat_interleave(2, dim=1)[:, : skip.shape[1]] * mask.unsqueeze(-1)
            x = pair(torch.cat((skip, x), -1), mask)
        return _along_time(self.last, x) * mask.unsqueeze(-1)


class ResidualBlock(nn.Module):
    """The ablation's encoder: what a frame becomes depends on that frame alone. Ours: x + W₂
    ReLU(W₁ x).
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, hidden)
        self.outer = nn.Linear(hidden, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(N, T, d)` and `(N, T)` → `(N, T, d)`."""
        out: Tensor = x + self.outer(F.relu(self.inner(x)))
        return out * mask.unsqueeze(-1)


class PRNet(nn.Module):
    """The whole model: `forward(batch)` gives scores and, in `parts`, all that the losses and a
    picture of them need.

    `frames` `(B, T, d)` is S; `preference` `(B, T, d)` is p^c (or what stands for it in a variant);
    `non_highlight_preference` `(d,)` is u; `highlight` and `non_highlight` `(B, T)` are l and b;
    `attention` `(B, T, K)` is a (zero for a clip that does not exist); `user_weight` `(B, T)` is
    the share of p^u in p^c, 0 without history.

    A user without history has p^c = g. Variants without g have the empty sum there: p is zero, and
    so is every l.
    """

    def __init__(self, settings: PRNetSettings, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.settings = settings
        self.arrays = tuple(shapes)
        inputs = sum(torch.Size(shape).numel() for shape in shapes.values())
        width = settings.width or inputs
        self.reduce = nn.Linear(inputs, width) if settings.width else nn.Identity()
        self.encoder = (
            UNet(width, settings.levels, settings.kernel)
            if settings.encoder == "unet"
            else ResidualBlock(width, settings.residual_width)
        )
        # Ours: a batch norm over all encoded frames, target and history together. What all frames
        # have in common (C3D's features are never negative, and ReLUs add to it) would make every
        # cosine of eq. 3 and 5 nearly 1: attention would begin as a mean, and stay one for hundreds
        # of steps (docs/decisions).
        self.norm = MaskedBatchNorm(width)
        # l and b are plain products of two such vectors (eq. 6 and 7); their softmax over frames
        # (eq. 9) would begin saturated. The fourth root makes the products as large as attention's
        # q·k / √d.
        nn.init.constant_(self.norm.norm.weight, width**-0.25)
        # Ours: how they begin. Length 1, as no direction is known yet.
        self.non_highlight = nn.Parameter(torch.randn(width) * width**-0.5)
        has_generic = settings.preference not in ("U", "meanU")
        self.generic = nn.Parameter(torch.randn(width) * width**-0.5) if has_generic else None

    def forward(self, batch: Batch) -> Scores:
        """Eq. 1 to 7."""
        frames, clips, exists = self._encoded(batch)
        attention = self._attention(frames, clips, exists)
        preference, user_weight = self._preference(frames, attention @ clips, exists.any(1))
        highlight, non_highlight = (
            (frames * preference).sum(-1),
            (frames * self.non_highlight).sum(-1),
        )
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
        """S, `(B, T, d)`; h̃, `(B, K, d)`, the mean over each clip's frames; and which clips exist,
        `(B, K)`.
        """
        exists = batch.history_mask.any(2)
        if self.settings.preference == "G" or not exists.any():
            exists = exists[:, :0]
        masks, encoded = [batch.mask], [self._encode(batch.features, batch.mask)]
        if exists.any():
            masks.append(batch.history_mask[exists])
            encoded.append(
                self._encode({name: batch.history[name][exists] for name in self.arrays}, masks[1])
            )
        frames, *liked = self._normed(encoded, masks)
        clips = frames.new_zeros(*exists.shape, frames.shape[-1])
        for part in liked:
            clips[exists] = part.sum(1) / masks[1].sum(1, keepdim=True)
        return frames, clips, exists

    def _normed(self, encoded: Sequence[Tensor], masks: Sequence[Tensor]) -> list[Tensor]:
        """Each `(N, T, d)` and `(N, T)` → the same shape, normed by the statistics of all of them
        together.
        """
        rows = [part[mask] for part, mask in zip(encoded, masks, strict=True)]
        together = torch.cat(rows).T.unsqueeze(0)
        normed = self.norm(together, masks[0].new_ones(1, together.shape[2])).squeeze(0).T
        parts = zip(encoded, masks, normed.split([len(part) for part in rows]), strict=True)
        return [
            torch.zeros_like(part).masked_scatter(mask.unsqueeze(-1), found)
            for part, mask, found in parts
        ]

    def _encode(self, features: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """M, `(N, T, ...)` of each array → `(N, T, d)`; several arrays are one, flattened and put
        side by side.
        """
        rows = torch.cat([features[name].flatten(2) for name in self.arrays], -1)
        if self.settings.normalises_rows:
            rows = F.normalize(rows, dim=-1)
        out: Tensor = self.encoder(self.reduce(rows) * mask.unsqueeze(-1), mask)
        # Under autocast too: in half precision many frames would have one and the same score.
        return out.to(torch.promote_types(out.dtype, torch.float32))

    def _attention(self, frames: Tensor, clips: Tensor, exists: Tensor) -> Tensor:
        """a of eq. 3, `(B, T, K)`; or the same share for every clip. Zero for a clip that does not
        exist.
        """
        likeness = F.normalize(frames, dim=-1) @ F.normalize(clips, dim=-1).transpose(1, 2)
        if self.settings.preference.startswith("mean"):
            likeness = torch.zeros_like(likeness)
        exists = exists.unsqueeze(1)
        logits = (self.settings.inverse_temperature * likeness).masked_fill(
            ~exists, torch.finfo(likeness.dtype).min
        )
        return logits.softmax(-1) * exists

    def _preference(
        self, frames: Tensor, user: Tensor, has_history: Tensor
    ) -> tuple[Tensor, Tensor]:
        """p^c of eq. 4 and 5, `(B, T, d)`, from p^u of eq. 2; and the share of p^u in it, `(B,
        T)`.
        """
        known = has_history.unsqueeze(1).to(frames.dtype)
        if self.generic is None:
            return user, known.expand(frames.shape[:2])
        nearer = F.cosine_similarity(frames, user, dim=-1) - F.cosine_similarity(
            frames, self.generic, dim=-1
        )
        # q1 / (q1 + q2), without an exponential that could overflow
        share = torch.sigmoid(self.settings.inverse_temperature * nearer) * known
        return user * share.unsqueeze(-1) + self.generic * (1 - share).unsqueeze(-1), share

    def _rank(self, highlight: Tensor, non_highlight: Tensor, mask: Tensor) -> Tensor:
        if self.settings.ranks_by == "highlight":
            return highlight
        if self.settings.ranks_by == "difference":
            return highlight - non_highlight
        return torch.sigmoid(
            masked_log_softmax(highlight, mask) - masked_log_softmax(non_highlight, mask)
        )


def masked_log_softmax(values: Tensor, mask: Tensor) -> Tensor:
    """The logarithm of eq. 9, `(B, T)` float32: each value's share of the softmax over the
    positions that exist.

    Outside the mask it is a large negative number, and finite, so that a gradient there is 0 and
    not NaN.
    """
    return values.float().masked_fill(~mask, torch.finfo(torch.float32).min / 4).log_softmax(1)


def _along_time(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A layer for `(N, C, T)`, applied to `(N, T, C)`."""
    return layer(x.transpose(1, 2)).transpose(1, 2)


def _halved(x: Tensor) -> Tensor:
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
