"""LSVM: a ranking SVM that finds out by itself which of a video's matched clips are sound.

Source: M. Sun, A. Farhadi, S. Seitz, "Ranking Domain-specific Highlights by Analyzing Edited
Videos", ECCV 2014: what people put into an edited video is a noisy sign of a highlight, so which of
it ranks above the rest is latent. The paper was not at hand; here the better half of a video's
highlights, by the weights of the round before, is taken for sound, and the first round takes all.
Refuses to know files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from models.highlight.personalized.linear_rankers import LinearRanker
from storage.base.records import Array
from trainer.data import DeviceBatch
from trainer.data.labels.user_labels import draw_pairs
from trainer.training import ranking_svm


@dataclass(frozen=True)
class LatentSettings:
    """All ours."""

    rounds: int = 3
    """After the first."""
    sound_share: float = 0.5
    """Of a video's highlights; at least one."""
    pairs: int = 50
    """Drawn from a video in each round."""
    svm: ranking_svm.RankingSVMSettings = field(default_factory=ranking_svm.RankingSVMSettings)

    def __post_init__(self) -> None:
        if self.rounds < 0 or not 0 < self.sound_share <= 1 or self.pairs < 1:
            raise ValueError(
                f"rounds from 0, sound_share above 0 to 1, pairs from 1 on; got {self}"
            )


@dataclass(frozen=True)
class _Video:
    descriptors: NDArray[np.float32]
    """`(n, F)`."""
    positive: NDArray[np.bool_]
    """`(n,)`."""


def fit_latent_svm(
    ranker: LinearRanker, batches: Iterable[DeviceBatch], settings: LatentSettings
) -> NDArray[np.float64]:
    """Weights `(F,)` from whole videos; the same videos and settings give the same. Unfit without a
    pair.
    """
    videos = [video for loaded in batches for video in _batch_videos(ranker, loaded)]
    sound = [video.positive for video in videos]
    weights = _fit_round(videos, sound, settings, 0)
    for number in range(1, settings.rounds + 1):
        sound = [
            best_highlights(video.descriptors @ weights, video.positive, settings.sound_share)
            for video in videos
        ]
        weights = _fit_round(videos, sound, settings, number)
    return weights


def best_highlights(scores: Array, positive: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """`(n,)`: the share of the highlights with the highest scores, at least one; the earlier of
    equals.
    """
    places = np.flatnonzero(positive)
    best = places[
        np.argsort(-scores[places], kind="stable")[: max(1, int(np.ceil(share * len(places))))]
    ]
    chosen = np.zeros(len(positive), np.bool_)
    chosen[best] = True
    return chosen


def _batch_videos(ranker: LinearRanker, loaded: DeviceBatch) -> Iterator[_Video]:
    with torch.inference_mode():
        descriptors = ranker.descriptors(loaded.batch).float().cpu()
    for row, exists in enumerate(loaded.batch.mask.cpu()):
        yield _Video(
            descriptors[row][exists].numpy(), loaded.targets.positive[row].cpu()[exists].numpy()
        )


def _fit_round(
    videos: list[_Video], sound: list[NDArray[np.bool_]], settings: LatentSettings, number: int
) -> NDArray[np.float64]:
    dice = np.random.default_rng([settings.svm.seed, number])
    differences = []
    for video, chosen in zip(videos, sound, strict=True):
        pairs = draw_pairs(chosen, ~video.positive, settings.pairs, dice)
        pairs = pairs[pairs[:, 0] >= 0]
        differences.append(video.descriptors[pairs[:, 0]] - video.descriptors[pairs[:, 1]])
    return ranking_svm.fit(np.concatenate(differences), settings.svm)
