"""The rule for places: the authors' unpooling where nothing is near a tie, and no jump where
something is.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.extractors.tased.unpooling import FULL_SHARE_GAP, NO_SHARE_GAP, unpool

WINDOWS: dict[int, dict[str, Any]] = {
    2: {"kernel_size": (1, 2, 2), "stride": (1, 2, 2), "padding": 0},
    3: {"kernel_size": (1, 3, 3), "stride": (1, 2, 2), "padding": (0, 1, 1)},
}


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def as_published(values: Tensor, encoded: Tensor, window: int) -> Tensor:
    _, places = nn.functional.max_pool3d_with_indices(encoded, **WINDOWS[window])
    return nn.functional.max_unpool3d(
        values, places, **WINDOWS[window], output_size=list(encoded.shape[2:])
    )


@pytest.mark.parametrize("window", WINDOWS)
def test_without_near_ties_it_is_the_published_unpooling(window: int) -> None:
    """Zeros and repeated values are ties, and no near ones: there the first counts in both."""
    encoded = torch.relu(drawn(2, 3, 4, 12, 24, seed=0))
    encoded[..., 6:, :] = (encoded[..., 6:, :] * 4).round() / 4
    values = drawn(2, 3, 4, 6, 12, seed=1)
    _, places = nn.functional.max_pool3d_with_indices(encoded, **WINDOWS[window])
    assert any(len(one.unique()) < one.numel() for one in places.flatten(0, 1)) is (window == 3), (
        "places come twice"
    )
    assert torch.equal(
        unpool(values, encoded, window=window), as_published(values, encoded, window)
    )


@pytest.mark.parametrize("window", WINDOWS)
def test_rounding_between_equal_neighbours_moves_nothing_and_moved_the_published_unpooling(
    window: int,
) -> None:
    encoded = (
        torch.relu(drawn(1, 8, 4, 12, 24, seed=0)).repeat_interleave(2, 3).repeat_interleave(2, 4)
    )
    values = drawn(1, 8, 4, 12, 24, seed=1)
    before = unpool(values, encoded, window=window)
    rounded = encoded * (1 + 1e-7 * drawn(*encoded.shape, seed=2))
    assert torch.equal(unpool(values, rounded, window=window), before)
    assert not torch.equal(
        as_published(values, rounded, window), as_published(values, encoded, window)
    )


@pytest.mark.parametrize(
    ("behind", "share"),
    [
        (0.0, 1.0),
        (FULL_SHARE_GAP, 1.0),
        ((FULL_SHARE_GAP + NO_SHARE_GAP) / 2, 0.5),
        (NO_SHARE_GAP, 0.0),
        (2 * NO_SHARE_GAP, 0.0),
    ],
)
def test_the_first_place_has_less_the_further_it_is_behind_the_maximum(
    behind: float, share: float
) -> None:
    encoded = torch.zeros(1, 1, 1, 2, 4, dtype=torch.float64)
    encoded[..., 0, 0], encoded[..., 1, 1] = 10 - 40 * behind, 10
    encoded[..., 0, 3] = 40  # the largest of the map, in another window
    found = unpool(torch.ones(1, 1, 1, 1, 2, dtype=torch.float64), encoded, window=2)[0, 0, 0]
    torch.testing.assert_close(
        found[:, :2], found.new_tensor([[share, 0], [0, 1 - share]]), atol=1e-9, rtol=0
    )
    assert found[0, 3] == 1


def test_the_map_moves_no_further_than_its_input_allows_whatever_that_is() -> None:
    """A walk through a near-tie in steps of rounding: no step moves a value by more than its share
    of the way.
    """
    encoded = torch.rand(
        1, 2, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    encoded[..., 3, 3], encoded[..., 4, 4] = 2.0, 2.0
    values = torch.ones(1, 2, 1, 4, 4, dtype=torch.float64)
    steps = [-3e-6 + 1e-7 * step for step in range(61)]
    maps = []
    for step in steps:
        moved = encoded.clone()
        moved[..., 4, 4] += 2 * step
        maps.append(unpool(values, moved, window=3))
    limit = 1e-7 / (NO_SHARE_GAP - FULL_SHARE_GAP)
    assert max(float((one - two).abs().max()) for one, two in pairwise(maps)) <= 1.01 * limit
    assert (maps[0] - maps[-1]).abs().max() == 1


def test_clips_do_not_touch_each_other_and_a_map_of_zeros_is_no_division_by_zero() -> None:
    encoded, values = torch.relu(drawn(3, 2, 4, 8, 8, seed=0)), drawn(3, 2, 4, 4, 4, seed=1)
    encoded[1] *= 1e6
    encoded[2] = 0
    together = unpool(values, encoded, window=3)
    for number in range(3):
        alone = unpool(values[number : number + 1], encoded[number : number + 1], window=3)
        assert torch.equal(together[number], alone[0])
    assert torch.equal(together[2:], as_published(values[2:], encoded[2:], 3))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_hidden(wrong: float) -> None:
    encoded, values = torch.relu(drawn(1, 2, 4, 8, 8, seed=0)), drawn(1, 2, 4, 4, 4, seed=1)
    for number, given in enumerate((values, encoded)):
        spoilt = given.clone()
        spoilt[0, 1, 2, 3, 3] = wrong
        pair = (spoilt, encoded) if number == 0 else (values, spoilt)
        assert not unpool(*pair, window=3).isfinite().all()


def test_a_gradient_reaches_what_is_shown_and_nothing_else() -> None:
    encoded = torch.relu(drawn(1, 1, 1, 8, 8, seed=0)).double().requires_grad_()
    values = drawn(1, 1, 1, 4, 4, seed=1).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda one: unpool(one, encoded, window=3), (values,))
    reached = torch.autograd.grad(
        unpool(values, encoded, window=3).sum(), encoded, allow_unused=True
    )
    assert not any(isinstance(one, Tensor) for one in reached)
