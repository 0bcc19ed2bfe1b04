"""Sets as paper and code draw them: where they lie, how large they are, what is mixed, and that a
seed decides.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.support.model_batches import batch
from trainer.base.targets import Targets
from trainer.losses.set_based import set_sampling
from trainer.losses.set_based.domain_steps import (
    RELEASED_SAMPLING,
    DomainBatch,
    SetSampling,
    sample_two_domains,
)

GAPS = torch.tensor([[1, 0, 1, 1, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0, 0], [0] * 8]).bool()
"""Six positions, two, and none."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def placed(row: Tensor) -> list[int]:
    return [place for place in row.tolist() if place >= 0]


def existing(row: int) -> list[int]:
    return GAPS[row].nonzero().flatten().tolist()


def test_random_sets_take_existing_places_once() -> None:
    seen = set()
    for seed in range(60):
        places = set_sampling.random_sets(GAPS, 4, generator(seed))
        assert places.shape == (3, 4)
        assert [len(placed(row)) for row in places] == [4, 2, 0]
        for row in range(3):
            assert len(set(placed(places[row]))) == len(placed(places[row]))
            assert set(placed(places[row])) <= set(existing(row))
        seen.update(placed(places[0]))
    assert seen == set(existing(0))
    assert torch.equal(
        set_sampling.random_sets(GAPS, 4, generator(5)),
        set_sampling.random_sets(GAPS, 4, generator(5)),
    )


def test_windows_are_stretches_around_their_anchor() -> None:
    mask = torch.ones(1, 50, dtype=torch.bool)
    lengths = set()
    for seed in range(200):
        for anchor, inside in ((0, False), (25, True), (49, False)):
            places = placed(
                set_sampling.window_sets(mask, generator(seed), anchors=torch.tensor([anchor]))[0]
            )
            assert places == list(range(places[0], places[-1] + 1))
            radius = (len(places) - 1) // 2 if inside else len(places) - 1
            assert places[0] == max(0, anchor - radius)
            assert places[-1] == min(49, anchor + radius)
            assert 1 <= radius <= 10
            lengths.add(len(places))
    assert lengths == set(range(2, 12)) | set(range(3, 22, 2))


def test_windows_count_existing_places_only() -> None:
    places = set_sampling.window_sets(
        GAPS, generator(1), largest_radius=1, anchors=torch.tensor([2, 0, 0])
    )
    assert [placed(row) for row in places] == [[2, 3, 5], [3, 4], []]
    drawn = {
        tuple(placed(set_sampling.window_sets(GAPS, generator(s), largest_radius=1)[0]))
        for s in range(80)
    }
    assert drawn == {(0, 2), (0, 2, 3), (2, 3, 5), (3, 5, 6), (5, 6, 7), (6, 7)}


def test_bags_have_one_size() -> None:
    places = set_sampling.bags(GAPS, 5, generator())
    assert len(set(placed(places[0]))) == 5
    assert placed(places[1]) == [3, 4, 3, 4, 3]
    assert placed(places[2]) == []
    assert placed(set_sampling.bags(GAPS, 13, generator())[0]) == (existing(0) * 3)[:13]


@pytest.mark.parametrize(("bounds", "shares"), [((0.5, 0.5), {5}), ((0.3, 0.7), {3, 4, 5, 6})])
def test_mixed_sets_hold_the_share_of_the_target(
    bounds: tuple[float, float], shares: set[int]
) -> None:
    source, target = torch.ones(1, 14, dtype=torch.bool), torch.arange(12)[None] < 10
    seen = set()
    for seed in range(100):
        places = set_sampling.mixed_positions(
            source, target, generator(seed), lowest=bounds[0], highest=bounds[1]
        )[0].tolist()
        assert len(places) == len(set(places)) == 10
        assert min(places) >= 0
        assert max(places) < 14 + 10, "two places of the target do not exist"
        seen.add(sum(place >= 14 for place in places))
    assert seen == shares


def test_mixing_takes_features_of_both_and_tells_them_apart() -> None:
    source, target = batch("sl_module", (9, 3), seed=1), batch("sl_module", (5, 8), seed=2)
    key = next(iter(source.features))
    mixed, is_target = set_sampling.mix_sets(source, target, generator())
    assert mixed.mask.sum(dim=1).tolist() == [5, 3]
    assert is_target.sum(dim=1).tolist() == [2, 1]
    assert not (is_target & ~mixed.mask).any()
    for video in range(2):
        for row, ours in zip(mixed.features[key][video], is_target[video], strict=True):
            side = target if ours else source
            assert (side.features[key][video] == row).all(dim=1).any() or not row.any()
    with pytest.raises(ValueError, match="one target video"):
        set_sampling.mix_sets(source, replace(target, mask=target.mask[:1]), generator())
    with pytest.raises(ValueError, match="lowest"):
        set_sampling.mix_sets(source, target, generator(), lowest=0.7, highest=0.3)


def test_a_set_keeps_its_labels_and_its_pairs() -> None:
    given = batch("sl_module", (4,))
    labels = torch.tensor([[1.0, 0, -1, 1]])
    pairs = torch.tensor([[[0, 1], [3, 2], [3, 1], [-1, -1]]])
    places = torch.tensor([[3, -1, 1, 0]])
    found = set_sampling.gather_targets(Targets(labels, labels > 0, pairs), places)
    assert found.labels.tolist() == [[1, 0, 0, 1]]
    assert found.positive.tolist() == [[True, False, False, True]]
    assert found.pairs.tolist() == [[[3, 2], [-1, -1], [0, 2], [-1, -1]]]
    chosen = set_sampling.gather_positions(given, places)
    assert chosen.mask.tolist() == [[True, False, True, True]]
    assert not chosen.spans[0, 1].any()
    torch.testing.assert_close(chosen.spans[0, 3], given.spans[0, 0])


def test_domains_are_drawn_alike_from_alike_generators() -> None:
    source, target = batch("sl_module", (30, 9)), batch("sl_module", (12, 25), seed=2)
    labels = source.mask.float()
    targets = Targets(labels, labels > 0, torch.full((2, 0, 2), -1))
    for rules, largest in ((SetSampling(), 20), (RELEASED_SAMPLING, 21)):
        first, second = (
            sample_two_domains(source, targets, target, rules, generator(4)) for _ in range(2)
        )
        assert first.mixed is not None
        assert second.mixed is not None
        for a, b in (
            (first.source, second.source),
            (first.target, second.target),
            (first.mixed, second.mixed),
        ):
            assert torch.equal(a.mask, b.mask)
            assert all(torch.equal(a.features[key], b.features[key]) for key in a.features)
            assert int(a.mask.sum(dim=1).min()) >= 2
            assert int(a.mask.sum(dim=1).max()) <= largest
        torch.testing.assert_close(first.targets.labels, first.source.mask.float())
    assert sample_two_domains(source, targets, target, SetSampling(), generator()).source.mask.sum(
        dim=1
    ).tolist() == [20, 9]
    with pytest.raises(ValueError, match="progress"):
        DomainBatch(source, targets, target, progress=1.5)
    with pytest.raises(ValueError, match="kind"):
        SetSampling("stretch")  # type: ignore[arg-type]
