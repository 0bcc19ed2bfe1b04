"""Planted saliency: above PLD-VHD's threshold about where the figure is, at instants that the
pictures have.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from storage.base.errors import LookupFailed, SettingsError
from storage.features.store import FeatureStore
from tests.support.synthetic_store import HEIGHT, WIDTH, write_category_films, write_films
from trainer.data import DataSettings, open_data
from trainer.data.dataset import SampleSeed
from trainer.data.sources.figure_masks import read_figure_mask
from trainer.data.sources.settings import ClipShape
from trainer.losses.pld_vhd import distinction_labels, intersection_over_union
from trainer.synthetic.saliency import (
    SaliencySettings,
    frames_at_instants,
    saliency_maps,
    synthesize_saliency,
)

SETTINGS = SaliencySettings(seed=2, frames_per_second=2.5, first_second=0.3)


def test_instants_are_frames_shown_then() -> None:
    starts = np.arange(24) / 12
    spans = np.stack([starts, starts + 1 / 12], 1)
    assert frames_at_instants(spans, 1.0, 0.75).tolist() == [9, 21]
    assert frames_at_instants(spans + 5, 1.0, 0.75).tolist() == [9, 21], (
        "counted from the first frame"
    )
    assert frames_at_instants(spans, 100.0, 0.0).tolist() == list(range(24)), "each once"


def test_a_map_is_above_beta_about_where_the_figure_is() -> None:
    figure = np.zeros((2, 64, 96), bool)
    figure[0, 20:40, 30:54] = True
    found = saliency_maps(figure, SaliencySettings(), np.random.default_rng(0))
    assert found.dtype == np.float16
    assert found.shape == (2, 32, 48)
    wanted = torch.from_numpy(figure)
    labels = distinction_labels(torch.tensor([True, True]), torch.from_numpy(found), (64, 96))
    assert float(intersection_over_union(labels, wanted)[0]) > 0.8
    assert not labels[1].any(), "the floor is below β"
    assert (found[1] > 0).any()


def test_a_planted_variant_is_read_beside_the_pictures(tmp_path: Path) -> None:
    folder = write_category_films(tmp_path, 2)
    synthesize_saliency(folder, SETTINGS)
    before = FeatureStore(folder)["tased"].digest()
    synthesize_saliency(folder, SETTINGS)
    assert FeatureStore(folder)["tased"].digest() == before
    assert "planted:2" in FeatureStore(folder)["tased"].settings["weights"]
    arrays = ("tased/saliency", "frames/jpeg")
    clip = ClipShape(8, HEIGHT, WIDTH)
    data = open_data(folder, DataSettings(arrays, "row", "none", clip=clip, pairs=0))
    sample = data.scoring("all")[SampleSeed(0, 0, 0)]
    assert sample.target.spans[0, 0] == pytest.approx(0.3)
    figure = read_figure_mask(folder, sample.example.video_id)
    assert figure.shape == (32, HEIGHT, WIDTH)


def test_pictures_of_some_frames_alone_and_catalogs_without_figures_are_refused(
    tmp_path: Path,
) -> None:
    folder = write_category_films(tmp_path / "cut", 1)
    path = folder / "sources" / "v0.figure.npy"
    np.save(path, np.load(path)[:-1])
    with pytest.raises(
        SettingsError,
        match=r"v0 has 32 pictures in frames-.* and 31 frames .* frames_per_second = 0",
    ):
        synthesize_saliency(folder, SETTINGS)
    with pytest.raises(LookupFailed, match="only synthetic catalogs have figure masks"):
        synthesize_saliency(write_films(tmp_path / "plain", 1), SaliencySettings(seed=9))


@pytest.mark.parametrize(
    "wrong", [{"frames_per_second": 0.0}, {"peak": 0.0}, {"first_second": -1.0}]
)
def test_what_cannot_be_planted_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="got SaliencySettings"):
        SaliencySettings(**wrong)  # type: ignore[arg-type]
