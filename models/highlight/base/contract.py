"""The contract of highlight models: the arrays they read, their input and their output.

A model sees rows of features, masks and a user's history, but no files, datasets, labels or losses.

Letters in shapes: B users (or videos) of a batch, T positions of a video (rows, or segments if the
model's unit is a segment), K elements of a history (shots, clips or videos), L positions of one
element, S samples of a window.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Any, Literal, get_args

from torch import Tensor, nn

_MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
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

    def __post_init__(self) -> None:
        """Raise ValueError for a field of the wrong kind: specs also come from plug-ins."""
        if not _MODEL_NAME.fullmatch(str(self.name)):
            raise ValueError(f"name has 1 to 64 of a-z 0-9 _ -, got {self.name!r}")
        is_tuple = isinstance(self.arrays, tuple)
        if not is_tuple or not all(isinstance(key, str) for key in self.arrays):
            raise ValueError(f"arrays is a tuple such as ('c3d/pool5',), got {self.arrays!r}")
        for name, kind in (("unit", Unit), ("history", History)):
            if getattr(self, name) not in get_args(kind):
                choices = ", ".join(get_args(kind))
                raise ValueError(f"{name} is one of {choices}; got {getattr(self, name)!r}")
        _check_settings(self.name, self.settings)
        if not callable(self.build):
            raise ValueError(f"build is a function or a class, got {self.build!r}")


def _check_settings(model: str, kind: object) -> None:
    """Raise ValueError unless `kind` is a frozen dataclass."""
    if not isinstance(kind, type) or not is_dataclass(kind):
        raise ValueError(
            f"settings of {model} must be a frozen dataclass, got {kind!r}; write a class with "
            "@dataclass(frozen=True) above it, empty if there are no settings"
        )
    if not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise ValueError(
            f"settings of {model}: {kind.__name__} must be a frozen dataclass; "
            "write @dataclass(frozen=True) above it"
        )
