"""LSVM: a latent ranking SVM, which selects the reliable highlights of a video by itself.

Source: M. Sun, A. Farhadi, S. Seitz, "Ranking Domain-specific Highlights by Analyzing Edited
Videos", ECCV 2014: the clips in an edited video are noisy labels, so which of them rank above the
rest is latent. We had no access to the paper. Here a round takes the better half of a video's
highlights, by the weights of the round before, as reliable; the first round takes all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from models.highlight.personalized.linear_rankers import LinearRanker
from models.validation import above, at_least, unit_interval
from storage.base.records import Array
from trainer.data import DeviceBatch
from trainer.data.labels.user_labels import draw_pairs
from trainer.training import ranking_svm


@dataclass(frozen=True)
class LatentSettings:
    """How to fit; all values are ours."""

    rounds: int = 3
    """Rounds after the first."""
    reliable_share: float = 0.5
    """Share of a video's highlights that is reliable; at least one of them is."""
    pairs: int = 50
    """Pairs drawn from a video in each round."""
    svm: ranking_svm.RankingSVMSettings = field(default_factory=ranking_svm.RankingSVMSettings)

    def __post_init__(self) -> None:
        at_least("rounds", self.rounds, 0)
        above("reliable_share", self.reliable_share, 0)
        unit_interval("reliable_share", self.reliable_share)
        at_least("pairs", self.pairs, 1)


@dataclass(frozen=True)
class _Video:
    descriptors: NDArray[np.float32]
    """`(n, F)`."""
    positive: NDArray[np.bool_]
    """`(n,)`."""


def fit_latent_svm(
    ranker: LinearRanker, batches: Iterable[DeviceBatch], settings: LatentSettings
) -> NDArray[np.float64]:
    """Weights `(F,)` from whole videos; the same videos and settings give the same weights.

    Raises RankingSVMError without a pair.
    """
    videos = [video for loaded in batches for video in _batch_videos(ranker, loaded)]
    reliable = [video.positive for video in videos]
    weights = _fit_round(videos, reliable, settings, 0)
    for number in range(1, settings.rounds + 1):
        reliable = [
            best_highlights(video.descriptors @ weights, video.positive, settings.reliable_share)
            for video in videos
        ]
        weights = _fit_round(videos, reliable, settings, number)
    return weights


def best_highlights(scores: Array, positive: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """`(n,)` bool: the share of the highlights with the highest scores, at least one of them.

    Of equal scores the earlier highlight is chosen.
    """
    highlights = np.flatnonzero(positive)
    count = max(1, int(np.ceil(share * len(highlights))))
    order = np.argsort(-scores[highlights], kind="stable")
    chosen = np.zeros(len(positive), np.bool_)
    chosen[highlights[order[:count]]] = True
    return chosen


def _batch_videos(ranker: LinearRanker, loaded: DeviceBatch) -> Iterator[_Video]:
    with torch.inference_mode():
        descriptors = ranker.descriptors(loaded.batch).float().cpu()
    positive = loaded.targets.positive.cpu()
    for row, exists in enumerate(loaded.batch.mask.cpu()):
        yield _Video(descriptors[row][exists].numpy(), positive[row][exists].numpy())


def _fit_round(
    videos: list[_Video], reliable: list[NDArray[np.bool_]], settings: LatentSettings, number: int
) -> NDArray[np.float64]:
    """The weights of one round, on pairs of a reliable highlight and a non-highlight."""
    rng = np.random.default_rng([settings.svm.seed, number])
    differences = []
    for video, chosen in zip(videos, reliable, strict=True):
        # A highlight that is not reliable is not a negative either: it is left out.
        pairs = draw_pairs(chosen, ~video.positive, settings.pairs, rng)
        pairs = pairs[pairs[:, 0] >= 0]
        differences.append(video.descriptors[pairs[:, 0]] - video.descriptors[pairs[:, 1]])
    return ranking_svm.fit(np.concatenate(differences), settings.svm)
