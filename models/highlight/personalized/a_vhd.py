"""FCSN and Adaptive-FCSN (A-VHD): fully convolutional networks over all rows of a video.

Adaptive-FCSN also reads the user's history.

Sources: M. Rochan, L. Ye, Y. Wang, "Video Summarization Using Fully Convolutional Sequence
Networks", ECCV 2018; M. Rochan, M. K. K. Reddy, L. Ye, Y. Wang, "Adaptive Video Highlight Detection
by Learning from User History", ECCV 2020, in the first author's re-implementation,
github.com/mrochan/adaptive-highlight at d7a5a35998d81a1bbd4cef96bf3a727c8fdb477d, whose networks
these equal.

The first layer pads by 100 positions and the norms use the statistics of a whole video, so a
video's scores depend on its length. Videos of a batch therefore run in groups of one length, never
with padding. For users without a history, whom the authors leave out, Adaptive-FCSN normalises
without scale and bias, as FCSN does (ours).

Letters in shapes: those of `contract.py`; C channels of the fourth block, H channels after it, N
videos of one length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.highlight.base.contract import Batch, ModelSpec, Scores
from models.highlight.base.history import history_elements, masked_mean, single_vector_array
from models.validation import at_least, dropout_rate, layer_widths, one_of

CONVOLUTIONS = (2, 2, 3, 3, 3)
"""Convolutions of each block before its pooling, as in VGG-16."""
PADDING = 100
"""On both sides of the first convolution, so that any video is long enough; crops undo it."""
POOL4_OFFSET, OUTPUT_OFFSET = 5, 27


@dataclass(frozen=True)
class FCSNSettings:
    """The published sizes."""

    channels: tuple[int, int, int, int, int] = (64, 128, 256, 512, 512)
    hidden_width: int = 4096
    dropout: float = 0.5
    norm: Literal["instance", "none"] = "instance"
    """Norm before the two score layers; the authors' code has both."""
    is_normalised: bool = True
    """Whether rows, also of the history, are divided by their L2 norm first."""
    initial: Literal["torch", "fcn"] = "torch"
    """Initial weights. The authors' code leaves them to torch, but with those each ReLU layer
    shrinks the differences between rows, at last below the norms' epsilon. `fcn` (ours) keeps them
    (He et al., 2015), and upsampling begins as linear interpolation, as in the networks that FCSN
    follows (Long et al., 2015).
    """

    def __post_init__(self) -> None:
        layer_widths("channels", self.channels)
        if len(self.channels) != len(CONVOLUTIONS):
            raise ValueError(
                f"channels must list {len(CONVOLUTIONS)} widths, one per block; got {self.channels}"
            )
        at_least("hidden_width", self.hidden_width, 1)
        dropout_rate("dropout", self.dropout)
        one_of("norm", self.norm, ("instance", "none"))
        one_of("initial", self.initial, ("torch", "fcn"))


@dataclass(frozen=True)
class AVHDSettings(FCSNSettings):
    """The published sizes, and one of the two history encoders."""

    history_encoder: Literal["attention", "convolution"] = "attention"
    attention_reduction: int = 8
    """Factor by which queries and keys have fewer channels than features."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm != "instance":
            raise ValueError(
                "Adaptive-FCSN needs norm = instance; for other norms use the model fcsn"
            )
        one_of("history_encoder", self.history_encoder, ("attention", "convolution"))
        at_least("attention_reduction", self.attention_reduction, 1)


class Encoder(nn.Module):
    """VGG-16 along time; its layers have the authors' names."""

    def __init__(self, width: int, settings: FCSNSettings) -> None:
        super().__init__()
        inputs = width
        blocks = zip(CONVOLUTIONS, settings.channels, strict=True)
        for block, (count, channels) in enumerate(blocks, start=1):
            for number in range(1, count + 1):
                is_first = block == number == 1
                padding = PADDING if is_first else 1
                layer = nn.Conv1d(inputs, channels, kernel_size=3, padding=padding)
                self.add_module(f"conv{block}_{number}", layer)
                inputs = channels
        self.fc6 = nn.Conv1d(inputs, settings.hidden_width, kernel_size=7)
        self.fc7 = nn.Conv1d(settings.hidden_width, settings.hidden_width, kernel_size=1)
        self.dropout = nn.Dropout1d(settings.dropout)
        if settings.initial == "fcn":
            _keep_scale(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(N, D, T)` → the last map and that of the fourth pooling.

        They are `(N, H, about T / 32)` and `(N, C, about T / 16)`.
        """
        pooled: list[Tensor] = []
        for block, count in enumerate(CONVOLUTIONS, start=1):
            for number in range(1, count + 1):
                x = torch.relu(self.get_submodule(f"conv{block}_{number}")(x))
            x = functional.max_pool1d(x, kernel_size=2, ceil_mode=True)
            pooled.append(x)
        # fc6 and fc7 are the fully connected layers of VGG, as convolutions.
        x = self.dropout(torch.relu(self.fc6(x)))
        return self.dropout(torch.relu(self.fc7(x))), pooled[3]


class Decoder(nn.Module):
    """Two score layers, upsampled to one pair of logits per position.

    The layers have the authors' names.
    """

    def __init__(self, settings: FCSNSettings) -> None:
        super().__init__()
        self.widths = (settings.hidden_width, settings.channels[3])
        self.has_norm = settings.norm == "instance"
        self.score_fr = nn.Conv1d(settings.hidden_width, 2, kernel_size=1)
        self.score_pool4 = nn.Conv1d(settings.channels[3], 2, kernel_size=1)
        self.upscore2 = nn.ConvTranspose1d(2, 2, kernel_size=4, stride=2, bias=False)
        self.upscore16 = nn.ConvTranspose1d(2, 2, kernel_size=32, stride=16, bias=False)
        if settings.initial == "fcn":
            for layer in (self.upscore2, self.upscore16):
                _interpolate(layer)

    def forward(self, last: Tensor, pool4: Tensor, affine: Tensor | None, length: int) -> Tensor:
        """The encoder's maps → `(N, 2, length)` logits.

        `affine` `(N, 2H + 2C)` holds for each map its biases, then its scales.
        """
        last_affine: Tensor | None = None
        pool4_affine: Tensor | None = None
        if affine is not None:
            split = 2 * self.widths[0]
            last_affine, pool4_affine = affine[:, :split], affine[:, split:]
        # As in FCN-16s: the coarse scores, doubled, plus those of the fourth pooling.
        upscored = self.upscore2(self.score_fr(self._norm(last, last_affine)))
        skipped = self.score_pool4(self._norm(pool4, pool4_affine))
        summed = upscored + skipped[..., POOL4_OFFSET : POOL4_OFFSET + upscored.shape[-1]]
        logits: Tensor = self.upscore16(summed)[..., OUTPUT_OFFSET : OUTPUT_OFFSET + length]
        return logits

    def _norm(self, x: Tensor, affine: Tensor | None) -> Tensor:
        """T-AIN: each channel normalised over time, then scaled and shifted."""
        # A map of one position has no variance, and stays as it is.
        if not self.has_norm or x.shape[-1] == 1:
            return x
        normalised = functional.instance_norm(x, eps=1e-5)
        if affine is None:
            return normalised
        bias, scale = affine.unsqueeze(-1).chunk(2, dim=1)
        return normalised * scale + bias


@torch.no_grad()
def _keep_scale(encoder: Encoder) -> None:
    """Weights with which ReLU layers keep the scale of their input, and zero biases."""
    for layer in encoder.modules():
        if not isinstance(layer, nn.Conv1d):
            continue
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            layer.bias.zero_()


@torch.no_grad()
def _interpolate(upsampling: nn.ConvTranspose1d) -> None:
    """Weights that interpolate each class linearly in time, without the other class."""
    size, stride = upsampling.kernel_size[0], upsampling.stride[0]
    distance = (torch.arange(size) - (size - 1) / 2).abs()
    upsampling.weight.copy_(torch.eye(2).unsqueeze(-1) * (1 - distance / stride))


class AttentionHistory(nn.Module):
    """Unscaled self-attention among the history's videos; the mean predicts the norms' weights."""

    def __init__(self, width: int, outputs: int, settings: AVHDSettings) -> None:
        super().__init__()
        self.query = nn.Linear(width, width // settings.attention_reduction)
        self.key = nn.Linear(width, width // settings.attention_reduction)
        self.value = nn.Linear(width, width)
        self.parameters_of_norms = nn.Linear(width, outputs)

    def forward(self, elements: Tensor, exists: Tensor) -> Tensor:
        """`(B, K, D)` and `(B, K)` → `(B, outputs)`."""
        energy = self.query(elements) @ self.key(elements).mT  # (B, K, K)
        energy = energy.masked_fill(~exists.unsqueeze(1), torch.finfo(energy.dtype).min)
        attended = energy.softmax(dim=-1) @ self.value(elements)
        affine: Tensor = self.parameters_of_norms(masked_mean(attended, exists))
        return affine


class ConvolutionHistory(nn.Module):
    """An encoder like the video's over the sequence of the history's videos, plus their mean."""

    def __init__(self, width: int, outputs: int, settings: AVHDSettings) -> None:
        super().__init__()
        self.encoder = Encoder(width, settings)
        self.skip = nn.Linear(width, settings.hidden_width)
        self.parameters_of_norms = nn.Linear(settings.hidden_width, outputs)

    def forward(self, elements: Tensor, exists: Tensor) -> Tensor:
        """`(B, K, D)` and `(B, K)` → `(B, outputs)`; the order of the history matters."""
        codes = self.skip(masked_mean(elements, exists))
        for count, users in group_by_length(exists):
            rows = elements[users][exists[users]].view(len(users), count, -1)
            encoded, _ = self.encoder(rows.mT)
            codes = codes.index_add(0, users, encoded.mean(dim=-1).to(codes.dtype))
        affine: Tensor = self.parameters_of_norms(codes)
        return affine


HISTORY_ENCODERS: Mapping[str, Callable[[int, int, AVHDSettings], nn.Module]] = {
    "attention": AttentionHistory,
    "convolution": ConvolutionHistory,
}


class FCSN(nn.Module):
    """The network of both papers; with AVHDSettings it reads the history."""

    def __init__(self, key: str, width: int, settings: FCSNSettings) -> None:
        super().__init__()
        self.key = key
        self.is_normalised = settings.is_normalised
        self.encoder = Encoder(width, settings)
        self.decoder = Decoder(settings)
        self.history: nn.Module | None = None
        if isinstance(settings, AVHDSettings):
            history_encoder = HISTORY_ENCODERS[settings.history_encoder]
            self.history = history_encoder(width, 2 * sum(self.decoder.widths), settings)

    def forward(self, batch: Batch) -> Scores:
        """Probabilities of a highlight, 0 to 1.

        `parts["logits"]` is `(B, T, 2)`: no highlight, highlight.
        """
        features = batch.features[self.key]
        if self.is_normalised:
            features = functional.normalize(features, dim=-1)
        affine = None if self.history is None else self._affine(batch, self.history)
        logits = torch.zeros(*batch.mask.shape, 2, device=features.device)
        for length, videos in group_by_length(batch.mask):
            rows = features[videos][batch.mask[videos]].view(len(videos), length, -1)
            last, pool4 = self.encoder(rows.mT)  # (N, D, length) goes in
            group_affine = None if affine is None else affine[videos]
            group_logits = self.decoder(last, pool4, group_affine, length)
            # masked_scatter fills in the order of the mask, which is that of `videos`.
            in_group = batch.mask.new_zeros(len(batch.mask), 1).index_fill(0, videos, value=True)
            places = (in_group & batch.mask).unsqueeze(-1)
            logits = logits.masked_scatter(places, group_logits.mT.float())
        return Scores(logits.softmax(dim=-1)[..., 1], {"logits": logits})

    def _affine(self, batch: Batch, history: nn.Module) -> Tensor:
        elements, exists = history_elements(batch, self.key, is_normalised=self.is_normalised)
        predicted: Tensor = history(elements, exists)
        # Bias 0 and scale 1 for users without a history.
        neutral = torch.cat(
            [predicted.new_tensor([0, 1]).repeat_interleave(width) for width in self.decoder.widths]
        )
        return torch.where(exists.any(dim=1, keepdim=True), predicted, neutral)


def group_by_length(mask: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Each length above 0 of a row of a `(B, T)` mask, with the `(N,)` indices of its rows."""
    lengths = mask.sum(dim=1)
    for length in sorted(set(lengths.tolist())):
        if length:
            yield length, (lengths == length).nonzero().squeeze(1)


def _build(settings: FCSNSettings, shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
    return FCSN(*single_vector_array(shapes), settings)


FCSN_SPEC = ModelSpec(
    name="fcsn",
    source="FCSN (ECCV 2018) as the baseline of A-VHD (ECCV 2020)",
    arrays=("c3d/pool5",),
    unit="row",
    history="none",
    settings=FCSNSettings,
    build=_build,
)
A_VHD = ModelSpec(
    name="a_vhd",
    source="A-VHD (ECCV 2020), Adaptive-FCSN",
    arrays=("c3d/pool5",),
    unit="row",
    history="videos",
    settings=AVHDSettings,
    build=_build,
)
