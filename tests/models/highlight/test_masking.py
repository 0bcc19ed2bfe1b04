"""Norms, weights and lengths of sequences that are not all there."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.highlight.base.masking import (
    MaskedBatchNorm,
    gather_positions,
    masked_softmax,
    resample_positions,
)


@pytest.mark.parametrize(
    ("theirs", "cells"),
    [(nn.BatchNorm1d(6), ()), (nn.BatchNorm2d(6), (5,)), (nn.BatchNorm3d(6), (3, 2))],
)
def test_without_padding_it_is_batch_norm(theirs: nn.Module, cells: tuple[int, ...]) -> None:
    """The same answers and running statistics after three batches, and in evaluation."""
    torch.manual_seed(0)
    ours, mask = MaskedBatchNorm(6), torch.ones(4, 7, dtype=torch.bool)
    for x in torch.randn(3, 4, 6, 7, *cells) * 3 + 1:
        torch.testing.assert_close(ours(x, mask), theirs(x))
    torch.testing.assert_close(dict(ours.norm.state_dict()), dict(theirs.state_dict()))
    x = torch.randn(4, 6, 7, *cells)
    torch.testing.assert_close(ours.eval()(x, mask), theirs.eval()(x))


def test_statistics_are_those_of_what_exists() -> None:
    torch.manual_seed(0)
    norm, mask = MaskedBatchNorm(2), torch.tensor([[True, True, False], [True, False, False]])
    x = torch.randn(2, 2, 3)
    out = norm(x, mask)
    there = out.transpose(1, 2)[mask]
    torch.testing.assert_close(there.mean(0), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(there.var(0, unbiased=False), torch.ones(2), atol=1e-3, rtol=0)
    assert (out.transpose(1, 2)[~mask] == 0).all()


@pytest.mark.parametrize("count", [0, 1])
def test_a_batch_without_variance_uses_and_keeps_the_running_statistics(count: int) -> None:
    norm, mask = MaskedBatchNorm(2), torch.arange(3).unsqueeze(0) < count
    out = norm(torch.full((1, 2, 3), 4.0), mask)
    expected = 4 / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(out[0, 0, :count], torch.full((count,), expected))
    assert norm.norm.running_mean is not None
    assert (norm.norm.running_mean == 0).all()
    assert int(norm.norm.num_batches_tracked or 0) == 0


@pytest.mark.parametrize(
    ("count", "cuts", "expected"),
    [
        (3, False, [0, 1, 2, -1]),
        (4, False, [0, 1, 2, 3]),
        (5, False, [0, 1, 3, 4]),  # the middles of 4 parts of 1.25: 0.625, 1.875, 3.125, 4.375
        (8, False, [1, 3, 5, 7]),
        (8, True, [0, 1, 2, 3]),
        (1, True, [0, -1, -1, -1]),
        (0, False, [-1, -1, -1, -1]),
    ],
)
def test_sequences_get_one_length(count: int, cuts: bool, expected: list[int]) -> None:
    mask = torch.arange(9).unsqueeze(0) < count
    rows, filled = resample_positions(mask, 4, cuts=cuts)
    assert torch.where(filled, rows, -1).tolist() == [expected]
    values = torch.arange(1, 10).unsqueeze(0).float() * mask
    assert gather_positions(values, rows, filled).tolist() == [[place + 1.0 for place in expected]]


def test_gaps_are_closed() -> None:
    rows, filled = resample_positions(torch.tensor([[False, True, False, True]]), 3, cuts=False)
    assert torch.where(filled, rows, -1).tolist() == [[1, 3, -1]]


def test_weights_are_of_what_exists() -> None:
    logits, mask = (
        torch.tensor([[1.0, 2.0, 9.0], [5.0, 5.0, 5.0]]),
        torch.tensor([[True, True, False], [False] * 3]),
    )
    torch.testing.assert_close(
        masked_softmax(logits, mask, "softmax").sum(1), torch.tensor([1.0, 0.0])
    )
    torch.testing.assert_close(
        masked_softmax(logits, mask, "sigmoid")[0], torch.tensor([0.7310586, 0.8807971, 0])
    )
    assert masked_softmax(logits, mask, "linear").tolist() == [[1, 2, 0], [0, 0, 0]]
