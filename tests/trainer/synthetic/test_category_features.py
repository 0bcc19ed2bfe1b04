"""Planted categories: a store that reads as judged catalogs do, and in which knowing the set, or
the domain, is worth what the module says.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from storage.catalog.catalog import read_catalog
from storage.features.store import FeatureStore
from trainer.data import DataSettings, Loader, LoaderSettings, open_data
from trainer.metrics.ranking import precision_recall_curve, step_ap
from trainer.synthetic.category_features import (
    ACTS,
    DOMAINS,
    EXCITEMENTS,
    THEME_SCALE,
    CategorySettings,
    SyntheticVideo,
    synthesize_categories,
    synthetic_videos,
)

SMALL = CategorySettings(seed=3, train_videos=3, test_videos=2, width=16)
KEY = "c3d.segments/fc7_linear"
Rank = Callable[[SyntheticVideo], NDArray[np.float64]]


def test_the_store_reads_as_a_judged_catalog(tmp_path: Path) -> None:
    folder = synthesize_categories(tmp_path, SMALL)
    catalog = read_catalog(folder)
    assert {name: len(ids) for name, ids in catalog.groupings["domain"].items()} == dict.fromkeys(
        DOMAINS, 5
    )
    data = open_data(folder, DataSettings((KEY,), "segment", "none", domain="dog"))
    planted = {video.video_id: video for video in synthetic_videos(SMALL)}
    (loaded,) = Loader(data.scoring("test"), LoaderSettings(10))
    assert [example.video_id for example in loaded.examples] == ["dog-test-000", "dog-test-001"]
    for row, example in enumerate(loaded.examples):
        mask, video = loaded.batch.mask[row], planted[example.video_id]
        assert (loaded.targets.labels[row][mask].numpy() == video.labels).all()
        assert (loaded.batch.spans[row][mask].numpy() == video.spans).all()
    assert data.scoring("test").notes[0].endswith("is planted:3: no result about real videos")


def test_the_same_settings_give_the_same_bytes(tmp_path: Path) -> None:
    stores = [
        FeatureStore(synthesize_categories(tmp_path / name, SMALL)) for name in ("one", "two")
    ]
    synthesize_categories(tmp_path / "one", SMALL)
    one, two = (store["c3d.segments"] for store in stores)
    assert (one.name, one.digest()) == (two.name, two.digest())
    other = FeatureStore(
        synthesize_categories(
            tmp_path / "three", CategorySettings(seed=4, train_videos=3, test_videos=2)
        )
    )
    assert other["c3d.segments"].digest() != one.digest()


def test_highlights_are_so_many_of_each_video() -> None:
    for video in synthetic_videos(SMALL):
        count = len(video.labels)
        assert 20 <= count <= 40
        assert (video.labels > 0).sum() == round(0.3 * count)
        assert (video.labels == 0).sum() == round(0.1 * count)


def _content(video: SyntheticVideo) -> NDArray[np.float64]:
    """What the content of segments is worth."""
    own = DOMAINS.index(video.domain) * ACTS
    shown = video.latents[:, own : own + ACTS] > 0
    settings = CategorySettings()
    return settings.content * shown.any(axis=1) + settings.favourite * shown[:, 0]


def _excitement(video: SyntheticVideo, theme_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expected excitement, if the odds of the second theme are such."""
    share = 1 / (1 + np.exp(-theme_odds))
    first, second = video.latents[:, -1 - EXCITEMENTS : -1].T
    return np.asarray((1 - share) * first + share * second)


def _hints(video: SyntheticVideo) -> NDArray[np.float64]:
    """Log-odds of the second theme, by each segment alone."""
    return np.asarray(2 * CategorySettings().hint * video.latents[:, -1] / THEME_SCALE)


def knows_nothing_of_the_domain(video: SyntheticVideo) -> NDArray[np.float64]:
    """As one who learned on another domain: excitement, and no content."""
    return _excitement(video, np.full(len(video.labels), _hints(video).sum()))


def sees_a_segment(video: SyntheticVideo) -> NDArray[np.float64]:
    """The best there is for one who sees a segment at a time."""
    return _content(video) + _excitement(video, _hints(video))


def sees_the_set(video: SyntheticVideo) -> NDArray[np.float64]:
    """For one who sees the whole video."""
    return _content(video) + _excitement(video, np.full(len(video.labels), _hints(video).sum()))


def test_what_is_planted_is_worth_knowing() -> None:
    """Mean step AP of rankers that are told what networks have to learn; chance is 0.38."""
    settings = CategorySettings(train_videos=1)
    videos = [video for video in synthetic_videos(settings) if video.part == "test"]

    def worth(rank: Rank) -> float:
        return float(
            np.mean(
                [step_ap(precision_recall_curve(rank(video), video.labels > 0)) for video in videos]
            )
        )

    assert worth(sees_the_set) > 0.98
    assert worth(sees_a_segment) < worth(sees_the_set) - 0.05
    assert worth(_content) < worth(sees_a_segment) - 0.05
    assert 0.45 < worth(knows_nothing_of_the_domain) < worth(_content) - 0.1


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 0},
        {"fewest_segments": 3},
        {"act_share": 0.95},
        {"highlight_share": 0.0},
        {"noise": -1.0},
    ],
)
def test_what_cannot_be_planted_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="got CategorySettings"):
        CategorySettings(**wrong)  # type: ignore[arg-type]
