"""State dicts that were published under several sets of names: which set a file follows.

Each network's own module lists its layouts; `models.weights.loading` reads the files.
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
    """Its name in error messages: `c3d.pickle`."""
    shapes: Mapping[str, tuple[int, ...]]
    """Exactly the tensors of such a file."""
    names_in_network: Mapping[str, str]
    """Published name → the network's name, for the tensors the network has."""


def load_best_layout(path: Path, layouts: tuple[Layout, ...]) -> dict[str, Tensor]:
    """The tensors of `path` under the network's names, on the CPU, floating ones as float32.

    The layout is the one that shares most names with the file; of several such, the one with fewest
    names. ValueError lists the differences if the file does not match it exactly.
    """
    found = read_tensors(path)

    def likeness(layout: Layout) -> tuple[int, int]:
        shared = layout.shapes.keys() & found.keys()
        # The second number decides if one layout's names include another's.
        return len(shared), -len(layout.shapes)

    best = max(layouts, key=likeness)
    try:
        tensors = match_tensors(path, found, best.shapes)
    except ValueError as error:
        raise ValueError(f"as {best.name}: {error}") from error
    return {ours: tensors[published] for published, ours in best.names_in_network.items()}
