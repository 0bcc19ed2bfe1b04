"""What overwrites its input gives the bits of torch, and overwrites nothing that a gradient needs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.extractors.base import in_place


def drawn(*shape: int) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    x.view(-1)[:4] = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0])
    return x


def norms(channels: int) -> tuple[nn.BatchNorm3d, nn.BatchNorm3d]:
    """Ours and torch's, with the same statistics."""
    theirs, ours = nn.BatchNorm3d(channels, eps=1e-3), in_place.BatchNorm3d(channels, eps=1e-3)
    for tensor in theirs.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 2, generator=torch.Generator().manual_seed(1))
    ours.load_state_dict(theirs.state_dict())
    return ours.eval(), theirs.eval()


def cases() -> dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]]:
    """Name → our function, and torch's."""
    ours, theirs = norms(5)
    return {
        "relu": (in_place.relu, torch.relu),
        "ReLU": (in_place.ReLU(), nn.ReLU()),
        "add": (lambda x: in_place.add(x, _other(x), spare=x), lambda x: x + _other(x)),
        "BatchNorm3d": (ours, theirs),
    }


def _other(x: Tensor) -> Tensor:
    return torch.full_like(x, 0.3)


def equal_bits(one: Tensor, other: Tensor) -> bool:
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[one.element_size()]
    number = ~other.isnan()
    is_nan_alike = torch.equal(one.isnan(), other.isnan()) and one.stride() == other.stride()
    return is_nan_alike and torch.equal(one.view(bits)[number], other.view(bits)[number])


@pytest.mark.parametrize("name", cases())
@pytest.mark.parametrize("shape", [(1, 5, 3, 7, 9), (2, 5, 1, 16, 32)], ids=str)
def test_the_bits_are_those_of_torch_and_the_input_is_overwritten(
    name: str, shape: tuple[int, ...]
) -> None:
    ours, theirs = cases()[name]
    x = drawn(*shape)
    with torch.inference_mode():
        expected = theirs(x)
        found = ours(x)
    assert equal_bits(found, expected)
    assert found.data_ptr() == x.data_ptr()


@pytest.mark.parametrize("name", cases())
def test_nothing_is_overwritten_with_a_gradient(name: str) -> None:
    ours, theirs = cases()[name]
    x = drawn(1, 5, 2, 4, 4).nan_to_num(0, 1, -1).requires_grad_()
    before = x.detach().clone()
    (found,), (expected,) = (
        torch.autograd.grad(function(x).square().sum(), x) for function in (ours, theirs)
    )
    assert torch.equal(found, expected)
    assert torch.equal(x, before)


def test_a_norm_in_training_keeps_counting() -> None:
    ours, theirs = (norm.train() for norm in norms(5))
    x = drawn(2, 5, 2, 4, 4).nan_to_num(0, 1, -1)
    with torch.no_grad():
        assert torch.equal(ours(x.clone()), theirs(x))
    assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_norms_of_other_formats_and_layouts_are_those_of_torch(kind: torch.dtype) -> None:
    x = drawn(2, 4, 6, 7).to(kind).contiguous(memory_format=torch.channels_last)
    statistics = in_place.NormStatistics(*(torch.rand(4) + 0.5 for _ in range(4)))
    if kind is torch.float64:
        statistics = in_place.NormStatistics(*(one.double() for one in statistics))
    mean, variance, weight, bias = statistics
    with torch.inference_mode():
        expected = functional.batch_norm(x, mean, variance, weight, bias, eps=1e-5)
        assert equal_bits(in_place.batch_norm(x, statistics, eps=1e-5), expected)


def test_a_sum_of_unlike_layouts_has_the_layout_that_torch_chooses() -> None:
    x = drawn(2, 4, 6, 7)
    y = x.contiguous(memory_format=torch.channels_last)
    for one, other in ((x, y), (y, x)):
        with torch.inference_mode():
            expected = one + other
            assert equal_bits(in_place.add(one, other, spare=other), expected)
