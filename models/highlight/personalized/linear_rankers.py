"""Rankers without hidden layers: two cosines, and the linear models that a ranking SVM fits.

Source: A. García del Molino and M. Gygli, "PHD-GIFs: Personalized Highlight Detection for Automatic
GIF Creation", ACM Multimedia 2018, sections 4.2 and 5.1. A `LinearRanker` computes the descriptors
and holds the weights; the trainer fits its SVM.

The sources leave open: the SVM's C and the scale of features (rows are divided by their L2 norm
here), whether SVM-D reads similarities or distances (`DistanceSettings.reading`), and the negatives
of a user's own SVM in Residual.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.highlight.base.contract import Batch, ModelSpec, Scores
from models.highlight.base.history import (
    DistanceSettings,
    FNNSettings,
    cosine_similarities,
    history_elements,
    k_nearest,
    single_vector_array,
)
from models.highlight.generic.video2gif import Video2GIF

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class NoSettings:
    """Nothing to set."""


@dataclass(frozen=True)
class HighlightSVMSettings:
    """Settings of the linear ranker of features."""

    is_normalised: bool = True
    """Whether a feature is divided by its L2 norm; ours, because the paper names no scale."""


class SimilarityRanker(nn.Module):
    """The largest (Maximal Similarity) or the mean (Video-MMR) cosine to the history.

    0 for users without a history.
    """

    def __init__(self, key: str, *, takes_largest: bool) -> None:
        super().__init__()
        self.key = key
        self.takes_largest = takes_largest

    def forward(self, batch: Batch) -> Scores:
        """Scores from -1 to 1; `parts["similarities"]` is `(B, T, K)`."""
        elements, exists = history_elements(batch, self.key)
        cosines = cosine_similarities(batch.features[self.key], elements, exists)
        if self.takes_largest:
            scores = k_nearest(cosines, exists, DistanceSettings(nearest=1)).squeeze(-1)
        else:
            scores = cosines.sum(dim=-1) / exists.sum(dim=-1, keepdim=True).clamp(min=1)
        return Scores(scores, {"similarities": cosines})


class LinearRanker(nn.Module, ABC):
    """h = wᵀx + b of a position's descriptor x; a ranking SVM on pairs of descriptors gives w."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)

    @abstractmethod
    def descriptors(self, batch: Batch) -> Tensor:
        """`(B, T, F)`: x of each position."""

    def forward(self, batch: Batch) -> Scores:
        """One number per position, without bounds."""
        return Scores(self.linear(self.descriptors(batch)).squeeze(-1).float())


class HighlightSVM(LinearRanker):
    """A linear score of the feature, the same for every user."""

    def __init__(self, key: str, width: int, settings: HighlightSVMSettings) -> None:
        super().__init__(width)
        self.key = key
        self.is_normalised = settings.is_normalised

    def descriptors(self, batch: Batch) -> Tensor:
        """`(B, T, D)`."""
        positions = batch.features[self.key]
        return functional.normalize(positions, dim=-1) if self.is_normalised else positions


class SVMD(LinearRanker):
    """A linear score of the similarities to the k nearest elements of the history (equation 3)."""

    def __init__(self, key: str, settings: DistanceSettings) -> None:
        super().__init__(settings.nearest)
        self.key = key
        self.settings = settings

    def descriptors(self, batch: Batch) -> Tensor:
        """`(B, T, nearest)`."""
        elements, exists = history_elements(batch, self.key)
        cosines = cosine_similarities(batch.features[self.key], elements, exists)
        return k_nearest(cosines, exists, self.settings)


class Residual(LinearRanker):
    """One user's weights on [s; h_V2G(s)] (equation 5); at first the generic score itself.

    The generic model, Video2GIF (ours), is trained before and fixed here. `linear` holds the
    weights of one user, fitted on the videos of the user's history; a user without any keeps the
    generic score.
    """

    def __init__(self, key: str, width: int, settings: FNNSettings) -> None:
        super().__init__(width + 1)
        self.key = key
        self.generic = Video2GIF(key, width, settings).requires_grad_(False)
        # Only the generic score counts until one user's weights are loaded.
        with torch.no_grad():
            self.linear.weight.zero_()[0, -1] = 1
            self.linear.bias.zero_()

    def train(self, mode: bool = True) -> Residual:
        """The generic model stays in evaluation mode, without dropout."""
        super().train(mode)
        self.generic.eval()
        return self

    def descriptors(self, batch: Batch) -> Tensor:
        """`(B, T, D + 1)`: the feature divided by its L2 norm (ours), and the generic score."""
        positions = functional.normalize(batch.features[self.key], dim=-1)
        generic = self.generic(batch).scores
        return torch.cat([positions, generic.unsqueeze(-1)], dim=-1)


def _similarity(settings: NoSettings, shapes: Shapes, *, takes_largest: bool) -> nn.Module:
    return SimilarityRanker(single_vector_array(shapes)[0], takes_largest=takes_largest)


def _highlight_svm(settings: HighlightSVMSettings, shapes: Shapes) -> nn.Module:
    return HighlightSVM(*single_vector_array(shapes), settings)


def _svm_d(settings: DistanceSettings, shapes: Shapes) -> nn.Module:
    return SVMD(single_vector_array(shapes)[0], settings)


def _residual(settings: FNNSettings, shapes: Shapes) -> nn.Module:
    return Residual(*single_vector_array(shapes), settings)


_PAPER = "PHD-GIFs (ACM MM 2018), "
MAX_SIMILARITY = ModelSpec(
    name="max_similarity",
    source=_PAPER + "section 5.1, Maximal similarity",
    arrays=("c3d/pool5",),
    unit="segment",
    history="shots",
    settings=NoSettings,
    build=partial(_similarity, takes_largest=True),
    is_trained=False,
)
VIDEO_MMR = ModelSpec(
    name="video_mmr",
    source=_PAPER
    + "section 5.1, Video-MMR: only the relevance to the query, without the redundancy term",
    arrays=("c3d/pool5",),
    unit="segment",
    history="shots",
    settings=NoSettings,
    build=partial(_similarity, takes_largest=False),
    is_trained=False,
)
HIGHLIGHT_SVM = ModelSpec(
    name="highlight_svm",
    source=_PAPER + "section 5.1, Highlight SVM",
    arrays=("c3d/pool5",),
    unit="segment",
    history="none",
    settings=HighlightSVMSettings,
    build=_highlight_svm,
)
SVM_D = ModelSpec(
    name="svm_d",
    source=_PAPER + "section 4.2 and equation 3",
    arrays=("c3d/pool5",),
    unit="segment",
    history="shots",
    settings=DistanceSettings,
    build=_svm_d,
)
RESIDUAL = ModelSpec(
    name="residual",
    source=_PAPER + "section 5.1, Residual Model, equation 5",
    arrays=("c3d/pool5",),
    unit="segment",
    history="none",
    settings=FNNSettings,
    build=_residual,
)
