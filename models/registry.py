"""A table of named rows whose unknown names list the known ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

Row = TypeVar("Row")


class Registry(dict[str, Row], Generic[Row]):
    """Name → row. `registry[name]` raises a KeyError that lists every name if `name` is unknown."""

    def __init__(self, noun: str, rows: Mapping[str, Row]) -> None:
        super().__init__(rows)
        self.noun = noun

    def __missing__(self, name: str) -> Row:
        raise KeyError(f"unknown {self.noun} {name!r}; choose one of {', '.join(sorted(self))}")
