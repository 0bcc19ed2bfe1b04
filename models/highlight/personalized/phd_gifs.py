"""PHD-GIFs: scores a segment from its feature and the user's history; all versions of table 2.

Source: A. García del Molino and M. Gygli, "PHD-GIFs: Personalized Highlight Detection for Automatic
GIF Creation", ACM Multimedia 2018, sections 4 and 5. No code was published.

The paper leaves open: activation, batch norm, learning rate and weight decay of the best models;
the dropouts of SA and RH (here PHD-CA's); whether SA has 4 or 10 filters, and RH 512 or 1000 units
(here the smaller); how the clips of a shot become one vector (here their mean). A user without
history has the profile zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.highlight.base.contract import Batch, ModelSpec, Scores
from models.highlight.base.history import (
    ACTIVATIONS,
    FNN,
    DistanceSettings,
    FNNSettings,
    cosine_similarities,
    history_elements,
    k_nearest,
    masked_mean,
    repeat_for_positions,
    scatter_to_positions,
    single_vector_array,
)
from models.highlight.generic.video2gif import Video2GIF
from models.highlight.personalized.linear_rankers import SVMD

Shapes = Mapping[str, tuple[int, ...]]
Build = Callable[[Any, Shapes], nn.Module]


@dataclass(frozen=True)
class PHDSettings(FNNSettings, DistanceSettings):
    """PHD-CA and its versions: the network's sizes, and the vector d for versions that read it."""

    def __post_init__(self) -> None:
        FNNSettings.__post_init__(self)
        DistanceSettings.__post_init__(self)


@dataclass(frozen=True)
class PHDSASettings(FNNSettings):
    """PHD-SA: segment and profile stacked, and convolved per dimension."""

    hidden_widths: tuple[int, ...] = (256,)
    dropouts: tuple[float, ...] = (0.71, 0.18)
    filters: int = 4
    """Of the first convolution: 4 or 10 in the paper."""


@dataclass(frozen=True)
class PHDRHSettings(FNNSettings):
    """PHD-RH: a recurrent network reads the history."""

    hidden_widths: tuple[int, ...] = (512,)
    dropouts: tuple[float, ...] = (0.71, 0.18)
    recurrent_width: int = 512
    """Units of the LSTM: 512 or 1000 in the paper."""


class _Personal(nn.Module):
    """Shared by all versions: features of positions, and elements of the history."""

    def __init__(self, key: str, settings: FNNSettings) -> None:
        super().__init__()
        self.key = key
        self.is_normalised = settings.is_normalised

    def _positions(self, batch: Batch) -> Tensor:
        positions = batch.features[self.key]
        return functional.normalize(positions, dim=-1) if self.is_normalised else positions

    def _elements(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return history_elements(batch, self.key, is_normalised=self.is_normalised)


class PHDCA(_Personal):
    """[s; p] through a feed-forward network, p the mean of the history (equation 2).

    The vector d joins at the input (early), at the last layer (late), or not at all.
    """

    def __init__(
        self, key: str, width: int, settings: PHDSettings, distances: Literal["", "early", "late"]
    ) -> None:
        super().__init__(key, settings)
        early = settings.nearest if distances == "early" else 0
        late = settings.nearest if distances == "late" else 0
        self.fnn = FNN(2 * width + early, settings, late)
        self.settings = settings
        self.distances = distances

    def forward(self, batch: Batch) -> Scores:
        """Scores without bounds; the order of the history does not matter."""
        positions = self._positions(batch)
        elements, exists = self._elements(batch)
        profile = masked_mean(elements, exists)
        inputs = [positions[batch.mask], repeat_for_positions(profile, batch.mask)]
        late_inputs = None
        if self.distances:
            cosines = cosine_similarities(positions, elements, exists)
            d = k_nearest(cosines, exists, self.settings)[batch.mask]
            if self.distances == "early":
                inputs.append(d)
            else:
                late_inputs = d
        scores = self.fnn(torch.cat(inputs, dim=-1), late_inputs)
        return Scores(scatter_to_positions(scores, batch.mask))


class PHDSA(_Personal):
    """s and p as two channels, mixed in each dimension with the same weights, then the network."""

    def __init__(self, key: str, width: int, settings: PHDSASettings) -> None:
        super().__init__(key, settings)
        self.activation = settings.activation
        # As a convolution of kernel 1 along the dimensions.
        self.mix = nn.Linear(2, settings.filters)
        self.flatten = nn.Linear(settings.filters, 1)
        self.fnn = FNN(width, settings)

    def forward(self, batch: Batch) -> Scores:
        """Scores without bounds; the order of the history does not matter."""
        profile = masked_mean(*self._elements(batch))
        rows = self._positions(batch)[batch.mask]
        pairs = torch.stack([rows, repeat_for_positions(profile, batch.mask)], dim=-1)
        hidden = ACTIVATIONS[self.activation](self.mix(pairs))  # (N, D, filters)
        mixed = self.flatten(hidden).squeeze(-1)  # (N, D)
        return Scores(scatter_to_positions(self.fnn(mixed), batch.mask))


class PHDRH(_Personal):
    """An LSTM over the history, oldest first; its last state joins s."""

    def __init__(self, key: str, width: int, settings: PHDRHSettings) -> None:
        super().__init__(key, settings)
        self.lstm = nn.LSTM(width, settings.recurrent_width, batch_first=True)
        self.fnn = FNN(width + settings.recurrent_width, settings)

    def forward(self, batch: Batch) -> Scores:
        """Scores without bounds; here the order of the history matters."""
        profile = self._last_states(*self._elements(batch))
        rows = [self._positions(batch)[batch.mask], repeat_for_positions(profile, batch.mask)]
        return Scores(scatter_to_positions(self.fnn(torch.cat(rows, dim=-1)), batch.mask))

    def _last_states(self, elements: Tensor, exists: Tensor) -> Tensor:
        """`(B, recurrent_width)`: the state after each user's last element, zero before any."""
        states = elements.new_zeros(len(elements), self.lstm.hidden_size)
        if not exists.any():
            return states
        # A stable sort puts the elements that exist first, in order. The LSTM runs forward, so what
        # follows a user's last element does not change that element's state.
        existing_first = exists.int().argsort(dim=1, descending=True, stable=True)
        ordered = elements.gather(1, existing_first.unsqueeze(-1).expand_as(elements))
        outputs, _ = self.lstm(ordered)
        last = exists.sum(dim=1) - 1
        users = torch.arange(len(last), device=last.device)
        last_states = outputs[users, last.clamp(min=0)]
        return torch.where((last >= 0).unsqueeze(-1), last_states, states)


class LateFusion(nn.Module):
    """h + ω·h_SVM (equation 4): h is `first`, h_SVM is `second`.

    `first` is trained; ranking SVMs fit `second`, then ω on validation pairs. ω starts at 0, so
    that the scores and their gradients are those of `first` until ω is learned.
    """

    omega: Tensor

    def __init__(self, first: nn.Module, second: SVMD) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.register_buffer("omega", torch.zeros(()))

    def forward(self, batch: Batch) -> Scores:
        """Scores without bounds; `parts` holds `first` and `second`, `(B, T)` each."""
        # ω is a buffer: validation pairs fit it, not the gradient.
        first, second = self.first(batch).scores, self.second(batch).scores
        return Scores(first + self.omega * second, {"first": first, "second": second})


def _ca(
    settings: PHDSettings, shapes: Shapes, *, distances: Literal["", "early", "late"]
) -> nn.Module:
    return PHDCA(*single_vector_array(shapes), settings, distances)


def _sa(settings: PHDSASettings, shapes: Shapes) -> nn.Module:
    return PHDSA(*single_vector_array(shapes), settings)


def _rh(settings: PHDRHSettings, shapes: Shapes) -> nn.Module:
    return PHDRH(*single_vector_array(shapes), settings)


def _fused(settings: PHDSettings, shapes: Shapes, *, is_generic: bool) -> nn.Module:
    key, width = single_vector_array(shapes)
    first = Video2GIF(key, width, settings) if is_generic else PHDCA(key, width, settings, "")
    return LateFusion(first, SVMD(key, settings))


def _spec(name: str, section: str, settings: type[FNNSettings], build: Build) -> ModelSpec:
    source = f"PHD-GIFs (ACM MM 2018), {section}"
    return ModelSpec(name, source, ("c3d/pool5",), "segment", "shots", settings, build)


PHD_CA = _spec("phd_ca", "equation 2", PHDSettings, partial(_ca, distances=""))
PHD_CA_ED = _spec(
    "phd_ca_ed", "section 5.2, distances at the input", PHDSettings, partial(_ca, distances="early")
)
PHD_CA_LD = _spec(
    "phd_ca_ld",
    "section 5.2, distances at the last layer",
    PHDSettings,
    partial(_ca, distances="late"),
)
PHD_SA = _spec("phd_sa", "section 5.2, convolutional combination", PHDSASettings, _sa)
PHD_RH = _spec("phd_rh", "section 5.2, recurrent history", PHDRHSettings, _rh)
PHD_CA_SVM_D = _spec("phd_ca_svm_d", "equation 4", PHDSettings, partial(_fused, is_generic=False))
VIDEO2GIF_SVM_D = _spec("video2gif_svm_d", "table 2", PHDSettings, partial(_fused, is_generic=True))
