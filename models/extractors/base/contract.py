"""The contract between an extractor's network and the pipeline that feeds it.

To add an extractor: write a folder beside this one with a `spec.py` that ends in a `SPEC`, and add
a row to `models/extractors/registry.py`. A `spec.py` imports no torch, so that settings, help and
planning stay light; `build` imports the network.

Letters in shapes: L frames of a window, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.extractors.base.sampling import Sampling

Frame = NDArray[np.uint8]
"""`(H, W, 3)` uint8 RGB, upright, as decoded."""


@dataclass(frozen=True)
class ArraySpec:
    """One array an extractor keeps."""

    dtype: str
    """A numpy dtype name: float16 for embeddings and saliency, float32 for coordinates and scores,
    uint8 for JPEG bytes. Rows of another float dtype are cast to it; a value that float16 cannot
    hold, above 65,504, becomes infinite, and its video is rejected. Rows of other dtypes must have
    it.
    """
    item_shape: tuple[int, ...]
    """Shape of one row, or of one item of a row if ragged."""
    ragged: bool = False
    """Whether a row holds any number of items, also none."""


RANDOM_PREFIX = "random:"


def random_seed(weights: str) -> int | None:
    """The SEED of `random:SEED`; None if `weights` names a file.

    ValueError for a seed that is not a whole number.
    """
    if not weights.startswith(RANDOM_PREFIX):
        return None
    digits = weights.removeprefix(RANDOM_PREFIX)
    if not digits.isdecimal():
        raise ValueError(
            f"random weights must be random:SEED with a whole number as SEED; got {weights!r}"
        )
    return int(digits)


class Extractor(Protocol):
    """A network with its weights, ready to compute.

    `prepare` runs once per decoded frame and shrinks it (the decoded frame is not kept). `extract`
    turns windows of prepared frames into rows. One video's rows never depend on another video.
    """

    def prepare(self, frame: Any) -> Any:
        """Shrink one `(H, W, 3)` uint8 RGB frame to what the network needs of it.

        An extractor that `accepts_planes` also receives `models.extractors.base.yuv.Planes`.
        """
        ...

    def extract(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        """Windows of L prepared frames → for each array, one row per window.

        A row has the shape `item_shape`, or `(items, *item_shape)` if the array is ragged.
        """
        ...


def accepts_planes(extractor: Extractor) -> bool:
    """Whether frames may be `Planes`: true if the extractor's attribute `planar` is true."""
    # getattr, because extractors without planes need not declare the attribute.
    return bool(getattr(extractor, "planar", False))


@dataclass(frozen=True)
class GoldenCase:
    """How an extractor's golden outputs are made and compared."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings, other than the defaults, that make the test cheaper or more thorough."""
    tolerances: Mapping[str, float] = field(default_factory=dict)
    """Array → share of its norm that rounding may change, where that is more than 1e-4."""
    resize_settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings for which the synthetic clip must be resized, to test `resize = fast`."""


@dataclass(frozen=True)
class ExtractorSpec:
    """One row of the registry: all that the pipeline must know before it builds a network."""

    name: str
    numerics_version: int
    """Raise by hand when code changes the numbers; a golden test fails to remind you."""
    settings_type: type[Any]
    """A frozen dataclass with a default for every field: the user's settings, all of them part of
    the fingerprint.
    """
    arrays: Callable[[Any], Mapping[str, ArraySpec]]
    """settings → the arrays kept."""
    sampling: Callable[[Any], Sampling]
    """settings → which frames make a row."""
    build: Callable[[Any, str, str], Extractor]
    """(settings, weights, device) → an extractor. `weights` is a file's path, or `random:SEED`, or
    empty if it needs none; `device` is a torch device name.
    """
    needs_weights: bool
    windows_per_batch: int = 1
    """Fixed, so that the same video gives the same bytes on a CPU under any load."""
    windows_on_gpu: int = 32
    """On a GPU at most so many windows, of any videos, share a batch. More are not faster."""
    files: Callable[[Any], tuple[str, ...]] = lambda _: ()
    """settings → the fields that name a file. The fingerprint holds the file's sha256, not its
    path.
    """
    golden: GoldenCase = field(default=GoldenCase(), compare=False)
