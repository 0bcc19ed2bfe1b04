"""The contract of highlight models: the arrays they read, their input and their output.

A model sees rows of features, masks and a user's history, but no files, datasets, labels or losses.

Letters in shapes: B users (or videos) of a batch, T positions of a video (rows, or segments if the
model's unit is a segment), K elements of a history (shots, clips or videos), L positions of one
element, S samples of a window.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

Unit = Literal["row", "segment"]
"""A position is a row of the store, or a segment whose rows are averaged into one."""

History = Literal["none", "shots", "clips", "videos"]
"""An element of the history is a shot drawn from the user's highlights (PHD-GIFs), a whole
highlight clip (PR-Net, MHA+Fusion), or all highlights of the user in one video (Adaptive-FCSN).
"""


@dataclass(frozen=True)
class Batch:
    """A model's input. Positions outside the masks are zero and must not change any score."""

    features: Mapping[str, Tensor]
    """Array key (`c3d/pool5`) → `(B, T, ...)` float32, or uint8 for pictures."""
    mask: Tensor
    """`(B, T)` bool: the positions that exist."""
    spans: Tensor
    """`(B, T, 2)` float64 seconds, `[start, end)`."""
    history: Mapping[str, Tensor]
    """Array key → `(B, K, L, ...)`, with the keys of `features`; empty if the model reads none."""
    history_mask: Tensor
    """`(B, K, L)` bool. All false for a user without history; K and L may be 0."""
    history_spans: Tensor
    """`(B, K, L, 2)` float64 seconds in the history's own videos."""


@dataclass(frozen=True)
class Scores:
    """A model's output: one score per position, and by name what else its loss needs."""

    scores: Tensor
    """`(B, T)` float32, higher is more of a highlight; undefined outside the mask."""
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    """Logits, embeddings or second scores that a loss asks for by name."""

    def float(self) -> Scores:
        """The same in single precision: losses are never computed in less."""
        parts = {}
        for name, part in self.parts.items():
            parts[name] = part.float() if part.is_floating_point() else part
        return Scores(self.scores.float(), parts)


@dataclass(frozen=True)
class ModelSpec:
    """One system of a paper's table, as data. Its name is the name that recipes use."""

    name: str
    source: str
    """Paper, section and equation."""
    arrays: tuple[str, ...]
    """Array keys that it reads by default: `VARIANT/ARRAY`, such as `c3d/pool5`."""
    unit: Unit
    history: History
    settings: type[Any]
    """A frozen dataclass of its sizes; docstrings say which are ours."""
    build: Callable[[Any, Mapping[str, tuple[int, ...]]], nn.Module]
    """(settings, shapes) → a module with `forward(batch: Batch) -> Scores`.

    `shapes` maps an array key to the shape of one position, such as `{"c3d/pool5": (8192,)}`.
    Weights are drawn from torch's global generator.
    """
    is_trained: bool = True
    """False for a ranker without parameters, such as the cosine to the history."""
