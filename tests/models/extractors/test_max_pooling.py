"""The fast pools give the bits of torch's own, also where those are odd: NaN, infinities, -0.0."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from models.extractors.base import max_pooling
from models.extractors.base.max_pooling import max_pool2d, max_pool3d

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
ODD = (float("nan"), float("inf"), -float("inf"), -0.0, 0.0, 1.0)
POOLS: list[dict[str, Any]] = [
    {"kernel": (1, 3, 3), "stride": (1, 2, 2), "padding": (0, 1, 1)},
    {"kernel": (3, 3, 3), "stride": (1, 1, 1), "padding": (1, 1, 1)},
    {"kernel": (3, 3, 3), "stride": (2, 2, 2), "padding": (1, 1, 1)},
    {"kernel": (4, 1, 1)},
    {"kernel": (2, 2, 2), "ceil_mode": True},
    {"kernel": (2, 2, 2), "padding": (0, 1, 1)},
]
"""Those of the networks."""


def assert_equal_bits(found: Tensor, expected: Tensor) -> None:
    """Also of zeros; a NaN is equal to any NaN."""
    assert found.dtype is expected.dtype
    assert found.shape == expected.shape
    assert found.stride() == expected.stride()
    assert torch.equal(found.isnan(), expected.isnan())
    bits = BITS[found.element_size()]
    number = ~expected.isnan()
    assert torch.equal(found.view(bits)[number], expected.view(bits)[number])


def by_torch(x: Tensor, pool: dict[str, Any]) -> Tensor:
    rest = {name: value for name, value in pool.items() if name != "kernel"}
    pooled: Tensor = functional.max_pool3d(x, pool["kernel"], **rest)
    return pooled


def drawn(shape: tuple[int, ...], dtype: torch.dtype, seed: int, odd_share: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    # Few different values, so that windows hold equal ones.
    x = (torch.randn(shape, generator=generator) * 3).round().to(dtype) / 2
    x = x + 0.0  # rounding leaves -0.0, which only the odd values shall have
    chosen = torch.randint(len(ODD), shape, generator=generator)
    odd = torch.tensor(ODD, dtype=dtype)[chosen]
    return torch.where(torch.rand(shape, generator=generator) < odd_share, odd, x)


@st.composite
def pools(draw: st.DrawFn) -> tuple[tuple[int, ...], dict[str, Any]]:
    """A shape, and a pool that torch accepts for it."""
    kernel = draw(st.tuples(*[st.integers(1, 5)] * 3))
    padding = tuple(draw(st.integers(0, size // 2)) for size in kernel)
    sides = [
        draw(st.integers(max(1, size - 2 * pad), 9))
        for size, pad in zip(kernel, padding, strict=True)
    ]
    pool = {
        "kernel": kernel,
        "stride": draw(st.tuples(*[st.integers(1, 4)] * 3)),
        "padding": padding,
        "ceil_mode": draw(st.booleans()),
    }
    return (draw(st.integers(1, 2)), draw(st.integers(1, 3)), *sides), pool


@settings(max_examples=150, deadline=None)
@given(
    case=pools(),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**31),
    odd_share=st.sampled_from((0.0, 0.05, 0.5, 1.0)),
    block_bytes=st.sampled_from((1, 500, max_pooling.BLOCK_BYTES)),
)
def test_any_pool_has_the_bits_of_torch(
    case: tuple[tuple[int, ...], dict[str, Any]],
    dtype: torch.dtype,
    seed: int,
    odd_share: float,
    block_bytes: int,
) -> None:
    shape, pool = case
    x = drawn(shape, dtype, seed, odd_share)
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(max_pooling, "BLOCK_BYTES", block_bytes)
        assert_equal_bits(max_pool3d(x, **pool), by_torch(x, pool))


@pytest.mark.parametrize("pool", POOLS, ids=str)
@pytest.mark.parametrize("side", [7, 12, 33, 48])
def test_pools_of_the_networks_do_not_call_the_slow_operator(
    pool: dict[str, Any], side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = drawn((2, 5, 8, side, side + 1), torch.float32, seed=side)
    x[0, 0, 0, 0], x[1, 0, 3, 2] = torch.nan, -torch.inf
    expected = by_torch(x, pool)

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("the slow operator was called")

    monkeypatch.setattr(functional, "max_pool3d", refuse)
    with torch.inference_mode():
        assert_equal_bits(max_pool3d(x, **pool), expected)


@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_of_equal_zeros_the_first_is_kept(pool: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    zeros = torch.zeros(2, 3, 8, 14, 14)
    x = torch.where(torch.rand(zeros.shape, generator=generator) < 0.5, zeros, -zeros)
    with torch.inference_mode():
        found = max_pool3d(x, **pool)
    assert_equal_bits(found, by_torch(x, pool))
    assert 0 < int(found.signbit().sum()) < found.numel(), "one sign only shows nothing"


def test_a_map_in_another_layout_keeps_it() -> None:
    x = drawn((2, 4, 8, 12, 12), torch.float32, seed=0)
    last = x.contiguous(memory_format=torch.channels_last_3d)
    for layout in (last, x.transpose(3, 4), x[..., ::2], x[:, :, 1:]):
        with torch.inference_mode():
            assert_equal_bits(max_pool3d(layout, **POOLS[1]), by_torch(layout, POOLS[1]))


def test_a_gradient_passes() -> None:
    x = drawn((1, 2, 4, 6, 6), torch.float64, seed=0).requires_grad_()
    (found,) = torch.autograd.grad(max_pool3d(x, **POOLS[1]).sum(), x)
    (expected,) = torch.autograd.grad(by_torch(x, POOLS[1]).sum(), x)
    assert torch.equal(found, expected)


def test_what_torch_refuses_is_refused_in_its_words() -> None:
    x = drawn((1, 2, 4, 6, 6), torch.float32, seed=0)
    with torch.inference_mode():
        with pytest.raises(RuntimeError, match="half of"):
            max_pool3d(x, (1, 2, 2), padding=(0, 2, 2))
        with pytest.raises(RuntimeError, match="utput size"):
            max_pool3d(x, (9, 1, 1))


@pytest.mark.parametrize("odd_share", [0.0, 0.3])
def test_pools_of_pictures_have_the_bits_of_torch(odd_share: float) -> None:
    x = drawn((2, 3, 17, 30), torch.float32, seed=1, odd_share=odd_share)
    for layout in (x, x.contiguous(memory_format=torch.channels_last)):
        expected = functional.max_pool2d(layout, 3, stride=2, padding=1)
        with torch.inference_mode():
            found = max_pool2d(layout, (3, 3), stride=(2, 2), padding=(1, 1))
        assert_equal_bits(found, expected)
