"""Extractors small enough to think about: what they give follows from the pictures by
arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.extractors.base.contract import ArraySpec, ExtractorSpec, Frame
from models.extractors.base.sampling import Sampling
from pipeline.extraction.variant import Variant


@dataclass(frozen=True)
class TinySettings:
    """One number that shapes the bytes."""

    scale: float = 1.0


@dataclass
class Tiny:
    """Mean colour of each frame of a window, times `scale`."""

    scale: float

    def prepare(self, frame: Frame) -> NDArray[np.float32]:
        return np.asarray(frame.reshape(-1, 3).mean(axis=0) * self.scale, dtype=np.float32)

    def extract(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        return {"mean": [np.stack(window) for window in windows]}


def tiny_variant(
    name: str, sampling: Sampling, frames: int, scale: float = 1.0, dtype: str = "float32"
) -> Variant:
    """Keeps `mean`, `(frames, 3)` a row."""
    spec = ExtractorSpec(
        name=name,
        numerics_version=1,
        settings_type=TinySettings,
        arrays=lambda _: {"mean": ArraySpec(dtype, (frames, 3))},
        sampling=lambda _: sampling,
        build=lambda settings, *_: Tiny(settings.scale),
        needs_weights=False,
    )
    return Variant(name, spec, TinySettings(scale))
