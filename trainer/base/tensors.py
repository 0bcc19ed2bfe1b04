"""Functions over every tensor of a dataclass, such as a batch or its targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeVar

from torch import Tensor

T = TypeVar("T")


def map_tensors(part: T, function: Callable[[Tensor], Tensor]) -> T:
    """A copy of a dataclass of tensors and of dicts of tensors, `function` applied to each."""

    def apply(value: Any) -> Any:
        if isinstance(value, Tensor):
            return function(value)
        return {key: function(tensor) for key, tensor in value.items()}

    dataclass: Any = part
    mapped: T = replace(
        dataclass, **{field.name: apply(getattr(part, field.name)) for field in fields(dataclass)}
    )
    return mapped
