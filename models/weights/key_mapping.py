"""State dict files that were published under several sets of names: which one a file follows, and
our names for it.

Knows names and shapes. Refuses to know formats and networks: `models.weights.loading` reads, the
networks' files name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from models.weights.loading import match_tensors, read_tensors


@dataclass(frozen=True)
class Layout:
    """One published set of names."""

    name: str
    """How a person tells it: `c3d.pickle`."""
    shapes: Mapping[str, tuple[int, ...]]
    """Every tensor such a file holds, no more and no fewer."""
    ours: Mapping[str, str]
    """Published name → the network's name, for the tensors the network has."""


def load_best_layout(path: Path, layouts: tuple[Layout, ...]) -> dict[str, Tensor]:
    """The tensors of `path` under the network's names, on the CPU, floating ones as float32.

    ValueError if the file does not fit the layout that it shares most names with (of several such,
    the one with fewest names); it lists the differences.
    """
    found = read_tensors(path)
    likeliest = max(
        layouts, key=lambda layout: (len(layout.shapes.keys() & found.keys()), -len(layout.shapes))
    )
    try:
        tensors = match_tensors(path, found, likeliest.shapes)
    except ValueError as error:
        raise ValueError(f"as {likeliest.name}: {error}") from error
    return {ours: tensors[published] for published, ours in likeliest.ours.items()}
