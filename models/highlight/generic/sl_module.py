"""The SL-module: a score for each segment of a set, in the context of the others.

Source: Xu et al., "Cross-category Video Highlight Detection via Set-based Learning", ICCV 2021,
sections 3.2 and 4.1; released code and commit are named in `set_transformer.py`.

Two rows, because the paper and the released code are two systems:

- `sl_module`, the paper: scores without bounds, no dropout in the scorer.
- `sl_module_released`, the code: scores 2σ(x) - 1, dropout 0.5 after both hidden layers of the
  scorer, attention scaled by the whole width, test sets clipped at a video's ends. Given the same
  weights it equals the code.

Errors in that code that this does not repeat: C3D should be fixed but never enters evaluation mode,
so fc6's dropout of 0.5 is active in training and testing; test clips are cropped at random; clips
of fewer than 91 frames end in uninitialised memory; the scheduler steps before each epoch, so that
the learning rate falls after 19 epochs, not 20; ActivityNet's labels are cast to whole numbers (see
`trainer.losses.set_based.set_kl`).

The feature is fc7 before its ReLU, as in the code; the paper only says that it is 4096 wide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from models.highlight.base.contract import Batch, ModelSpec, Scores
from models.highlight.base.history import (
    FNN,
    FNNSettings,
    scatter_to_positions,
    single_vector_array,
)
from models.highlight.base.set_transformer import SetSettings, SetTransformer
from models.validation import dropout_rate, layer_widths

Shapes = Mapping[str, tuple[int, ...]]
ARRAYS = ("c3d.segments/fc7_linear",)


@dataclass(frozen=True)
class SLSettings(SetSettings):
    """The paper's sizes."""

    scorer_widths: tuple[int, ...] = (1024, 256)
    scorer_dropout: float = 0.0
    """After each hidden layer of the scorer."""
    is_squashed: bool = False
    """Whether a score is 2σ(x) - 1, so that segments differ in a softmax by e² at most."""

    def __post_init__(self) -> None:
        super().__post_init__()
        layer_widths("scorer_widths", self.scorer_widths)
        dropout_rate("scorer_dropout", self.scorer_dropout)


@dataclass(frozen=True)
class ReleasedSLSettings(SLSettings):
    """The sizes of the released code."""

    scale: Literal["head", "width"] = "width"
    test_sets: Literal["repeated", "clipped", "whole"] = "clipped"
    scorer_dropout: float = 0.5
    is_squashed: bool = True


class Scorer(nn.Module):
    """Layers with ReLU between them, from an embedding to a score."""

    def __init__(self, width: int, settings: SLSettings) -> None:
        super().__init__()
        rates = (0.0, *[settings.scorer_dropout] * len(settings.scorer_widths))
        self.fnn = FNN(width, FNNSettings(settings.scorer_widths, rates))
        self.is_squashed = settings.is_squashed

    def forward(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """`(B, T, D)` and `(B, T)` → `(B, T)` float32, zero outside the mask."""
        scores = scatter_to_positions(self.fnn(embeddings[mask]), mask)
        if not self.is_squashed:
            return scores
        return (2 * torch.sigmoid(scores) - 1).masked_fill(~mask, 0)


class SLModule(nn.Module):
    """Transformer and scorer."""

    def __init__(self, key: str, width: int, settings: SLSettings) -> None:
        super().__init__()
        self.encoder = SetTransformer(key, width, settings)
        self.scorer = Scorer(width, settings)

    def forward(self, batch: Batch) -> Scores:
        """`parts["embeddings"]` is `(B, T, D)`, the scorer's input."""
        embeddings = self.encoder(batch)
        return Scores(self.scorer(embeddings, batch.mask), {"embeddings": embeddings})


def _build(settings: SLSettings, shapes: Shapes) -> nn.Module:
    return SLModule(*single_vector_array(shapes), settings)


SL_MODULE = ModelSpec(
    name="sl_module",
    source="Set-based Learning (ICCV 2021), section 3.2, SL-module",
    arrays=ARRAYS,
    unit="segment",
    history="none",
    settings=SLSettings,
    build=_build,
)
SL_MODULE_RELEASED = replace(
    SL_MODULE,
    name="sl_module_released",
    source="Set-based Learning (ICCV 2021), SL-module as released: train_SL_module.py",
    settings=ReleasedSLSettings,
)
