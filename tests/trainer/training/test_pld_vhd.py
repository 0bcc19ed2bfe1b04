"""PLD-VHD from a store to maps: labels as the paper's equations, and a student that finds what was
planted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.highlight.base.contract import Batch, Scores
from models.highlight.generic.pld_vhd import SPEC, PLDSettings
from storage.catalog.catalog import read_catalog
from tests.support.synthetic_store import HEIGHT, WIDTH, write_films
from trainer.base.targets import Targets
from trainer.data import DataSettings, DeviceBatch, Loader, LoaderSettings
from trainer.data.labels.user_labels import UserLabels
from trainer.data.open_data import HighlightData
from trainer.data.sources.frame_clips import FrameClips
from trainer.data.sources.settings import ClipShape
from trainer.losses.pld_vhd import distinction_labels, intersection_over_union
from trainer.losses.registry import make_objective

BETA = 5e-4


def test_labels_are_one_where_saliency_of_a_highlight_is_above_beta() -> None:
    saliency = torch.tensor([[0.0, BETA, BETA * 1.01, 0.9]]).expand(2, 1, 4)
    wanted = distinction_labels(torch.tensor([True, False]), saliency, (1, 4))
    assert wanted.tolist() == [[[False, False, True, True]], [[False] * 4]]


def test_a_stored_half_precision_map_is_above_beta_where_it_was() -> None:
    raw = torch.tensor([1e-5, 4.9e-4, 5.1e-4, 1e-2]).view(1, 1, 4)
    found = distinction_labels(torch.tensor([True]), raw.half(), (1, 4))
    assert found.flatten().tolist() == [False, False, True, True]


def test_saliency_is_averaged_when_it_shrinks_and_spread_when_it_grows() -> None:
    saliency = torch.zeros(1, 8, 8)
    saliency[0, :4, :4] = 1
    small = distinction_labels(torch.tensor([True]), saliency, (2, 2), beta=0.5)
    assert small.tolist() == [[[True, False], [False, False]]]
    large = distinction_labels(torch.tensor([True]), saliency, (16, 16), beta=0.5)
    assert large[0].nonzero().amax(0).tolist() == [7, 7]
    assert large.sum() == 64


def test_what_is_no_threshold_is_refused() -> None:
    with pytest.raises(ValueError, match="beta must be at least 0 and below 1"):
        distinction_labels(torch.tensor([True]), torch.zeros(1, 2, 2), (2, 2), beta=1.0)
    with pytest.raises(ValueError, match=r"saliency must have shape \(N, h, w\)"):
        distinction_labels(torch.tensor([True]), torch.zeros(2, 2), (2, 2))


def answered(
    maps: Tensor, positive: Tensor, mask: Tensor, saliency: Tensor
) -> tuple[Scores, Batch, Targets]:
    none = torch.zeros(len(maps), 0, 0)
    spans = torch.zeros(*mask.shape, 2)
    batch = Batch({"tased/saliency": saliency}, mask, spans, {}, none.bool(), none)
    pairs = torch.zeros(len(maps), 0, 2, dtype=torch.int64)
    return (
        Scores(maps.mean((2, 3)), {"distinctions": maps}),
        batch,
        Targets(positive.float(), positive, pairs),
    )


def test_the_loss_is_the_mean_square_over_pixels_of_positions_that_exist() -> None:
    maps = torch.full((1, 3, 1, 2), 0.25)
    maps[0, 2] = 99  # padding
    mask, positive = torch.tensor([[True, True, False]]), torch.tensor([[True, False, False]])
    saliency = torch.tensor([1.0, 0.0]).expand(1, 3, 1, 2)
    given = answered(maps, positive, mask, saliency)
    low, high = 0.25**2, 0.75**2
    assert float(make_objective("pld_vhd")(*given)) == pytest.approx((high + low + low + low) / 4)
    assert float(make_objective("pld_vhd", spatial=False)(*given)) == pytest.approx(
        (high + high + low + low) / 4
    )
    with pytest.raises(ValueError, match="has no saliency/other, but tased/saliency"):
        make_objective("pld_vhd", saliency="saliency/other")(*given)
    assert float(make_objective("pld_vhd", beta=0.0)(*given)) == pytest.approx(
        (high + low + low + low) / 4
    )


def test_nothing_to_learn_from_is_no_loss() -> None:
    maps = torch.zeros(1, 2, 2, 2, requires_grad=True)
    off = torch.zeros(1, 2, dtype=torch.bool)
    loss = make_objective("pld_vhd")(*answered(maps, off, off, torch.zeros(1, 2, 2, 2)))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0


def test_iou_counts_pixels() -> None:
    found = torch.tensor([[[True, True, False]], [[False] * 3]])
    wanted = torch.tensor([[[False, True, True]], [[False] * 3]])
    assert intersection_over_union(found, wanted).tolist() == pytest.approx([1 / 3, 1])


CLIP = ClipShape(frames=8, height=HEIGHT, width=WIDTH)
EPOCHS, RATE, WIDTH_SHARE = 16, 5e-3, 1 / 8


@dataclass(frozen=True)
class Trained:
    """A student and what it answers on films it never saw."""

    loss: float
    iou: float
    """Of maps above 0.5 with the planted object, over highlights."""
    chance: float
    """The same maps with the objects of other positions: what they would reach wherever they
    lay.
    """
    separation: float
    """Share of pairs of a highlight and another position with the highlight above."""


def opened(folder: Path) -> HighlightData:
    features = FrameClips(folder, CLIP)
    settings = DataSettings(
        arrays=features.keys,
        unit="row",
        history="none",
        max_items=features.max_items,
        pairs=0,
        holdout_users=0,
    )
    catalog = read_catalog(folder)
    return HighlightData(catalog, features, UserLabels(catalog), settings, None)


def answer(model: nn.Module, data: HighlightData) -> tuple[DeviceBatch, Scores]:
    loaded = next(iter(Loader(data.scoring("all"), LoaderSettings(batch_size=100))))
    with torch.no_grad():
        return loaded, model.eval()(loaded.batch)


def trained(films: Path, unseen: Path, *, spatial: bool) -> Trained:
    torch.manual_seed(0)
    data = opened(films)
    settings = PLDSettings(encoder="c3d", width=WIDTH_SHARE, norm_momentum=0.1)
    model = SPEC.build(settings, data.shapes)
    loss_of = make_objective("pld_vhd", spatial=spatial)
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    losses = []
    loader = Loader(data.training("all"), LoaderSettings(batch_size=8))
    for _ in range(EPOCHS):
        for loaded in loader:
            optimizer.zero_grad()
            loss = loss_of(model.train()(loaded.batch), loaded.batch, loaded.targets)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(loss.detach()))
    loaded, scores = answer(model, opened(unseen))
    positive = loaded.targets.positive
    everywhere = torch.ones(int(positive.sum()), dtype=torch.bool)
    objects = distinction_labels(
        everywhere, loaded.batch.features["tased/saliency"][positive], (HEIGHT, WIDTH)
    )
    found = scores.parts["distinctions"][positive] > 0.5
    covered, chance = (
        float(intersection_over_union(found, one).mean()) for one in (objects, objects.roll(4, 0))
    )
    above = scores.scores[positive][:, None] > scores.scores[loaded.batch.mask & ~positive][None]
    return Trained(losses[-1], covered, chance, float(above.float().mean()))


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Trained]:
    films = write_films(tmp_path_factory.mktemp("films"), 8, every=8)
    unseen = write_films(tmp_path_factory.mktemp("unseen"), 6, every=8, seed=7)
    return {spatial: trained(films, unseen, spatial=spatial) for spatial in (True, False)}


def test_a_student_finds_the_object_of_highlights_in_films_it_never_saw(
    students: dict[bool, Trained],
) -> None:
    assert students[True].iou > 0.6
    assert students[True].iou > 3 * students[True].chance
    assert students[True].separation > 0.95


def test_without_saliency_it_tells_highlights_but_not_where(students: dict[bool, Trained]) -> None:
    assert students[False].separation > 0.95
    assert students[False].iou < 0.5 * students[True].iou
