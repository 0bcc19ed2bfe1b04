"""Checks of single settings, for the `__post_init__` of settings classes.

Each raises a ValueError that names the setting, what is allowed, and the value. A check passes only
if the comparison holds, so NaN never passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def one_of(name: str, value: str, allowed: Iterable[str]) -> None:
    """`value` is one of `allowed`."""
    names = list(allowed)
    if value not in names:
        raise ValueError(f"{name} must be one of {', '.join(names)}; got {value!r}")


def distinct_names(name: str, values: Sequence[str], allowed: Iterable[str]) -> None:
    """`values` has one or more entries, all of `allowed`, none twice."""
    names = list(allowed)
    has_unknown = not set(values) <= set(names)
    has_repeats = len(set(values)) != len(values)
    if not values or has_unknown or has_repeats:
        raise ValueError(
            f"{name} must list one or more of {', '.join(names)}, each once; got {values}"
        )


def at_least(name: str, value: float, lowest: float) -> None:
    """`value` >= `lowest`."""
    if not value >= lowest:
        raise ValueError(f"{name} must be at least {lowest}; got {value}")


def above(name: str, value: float, bound: float) -> None:
    """`value` > `bound`."""
    if not value > bound:
        raise ValueError(f"{name} must be above {bound}; got {value}")


def between(name: str, value: float, lowest: float, highest: float) -> None:
    """`lowest` <= `value` <= `highest`."""
    if not lowest <= value <= highest:
        raise ValueError(f"{name} must be {lowest} to {highest}; got {value}")


def unit_interval(name: str, value: float) -> None:
    """0 <= `value` <= 1: a probability or an overlap."""
    between(name, value, 0, 1)


def dropout_rate(name: str, value: float) -> None:
    """0 <= `value` < 1: at 1 nothing would be left to scale up."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1; got {value}")


def odd(name: str, value: int) -> None:
    """`value` is odd and positive, as the kernel of a convolution that keeps the length."""
    if value < 1 or value % 2 == 0:
        raise ValueError(f"{name} must be an odd number, at least 1; got {value}")


def layer_widths(name: str, values: Sequence[int]) -> None:
    """`values` has one or more entries, each at least 1."""
    if not values or min(values) < 1:
        raise ValueError(f"{name} must list one or more widths, each at least 1; got {values}")
