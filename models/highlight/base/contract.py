"""What a highlight model is: the arrays it reads, what it is handed, and what it answers.

A model knows rows of features, masks and a user's history. It refuses to know files, datasets,
labels and losses.

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
"""What a position is: a row of the store, or a segment whose rows are averaged into one."""

History = Literal["none", "shots", "clips", "videos"]
"""What an element of the history is: a shot drawn from the highlights a user marked (PHD-GIFs), a
whole marked clip (PR-Net, MHA+Fusion), or all that the user marked in one video (Adaptive-FCSN).
"""


@dataclass(frozen=True)
class Batch:
    """What a model is handed. Every position that no mask allows is zero and must not change any
    score.
    """

    features: Mapping[str, Tensor]
    """Array key (`c3d/pool5`) → `(B, T, ...)` float32; uint8 for pictures."""
    mask: Tensor
    """`(B, T)` bool: the positions that exist."""
    spans: Tensor
    """`(B, T, 2)` float64 seconds, `[start, end)`."""
    history: Mapping[str, Tensor]
    """Array key → `(B, K, L, ...)`, the same keys as `features`; empty for a model without
    history.
    """
    history_mask: Tensor
    """`(B, K, L)` bool. A user without history has none set; K and L may be 0."""
    history_spans: Tensor
    """`(B, K, L, 2)` float64 seconds in the history's own videos."""


@dataclass(frozen=True)
class Scores:
    """What a model answers: one score a position, and by name whatever else its objective needs."""

    scores: Tensor
    """`(B, T)` float32, higher is more of a highlight; what lies outside the mask means nothing."""
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    """Logits, embeddings or second scores that an objective asks for by name."""

    def float(self) -> Scores:
        """The same in single precision: losses are never computed in less."""
        parts = {
            name: part.float() if part.is_floating_point() else part
            for name, part in self.parts.items()
        }
        return Scores(self.scores.float(), parts)


@dataclass(frozen=True)
class ModelSpec:
    """One system of a paper's table, as data. Its name is the name that recipes use."""

    name: str
    source: str
    """Paper, section and equation."""
    arrays: tuple[str, ...]
    """Array keys it reads unless the recipe names others: `VARIANT/ARRAY`, such as `c3d/pool5`."""
    unit: Unit
    history: History
    settings: type[Any]
    """A frozen dataclass of its sizes; a comment says which are ours."""
    build: Callable[[Any, Mapping[str, tuple[int, ...]]], nn.Module]
    """Settings and array key → shape of one position, such as `{"c3d/pool5": (8192,)}`; gives a
    module whose `forward(batch: Batch) -> Scores`. Draws its weights from torch's global generator.
    """
    is_trained: bool = True
    """False for a ranker without anything to learn, such as the cosine to the history."""
