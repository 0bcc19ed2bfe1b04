"""What an extractor is: the contract between a network and the pipeline that feeds it.

To add one: write a file beside this one that ends in a `SPEC`, and add a row to `table.py`. A file
with a SPEC imports no torch, so that settings, help and planning stay light; its network lies in a
file of its own, which `build` imports.

Letters in shapes: L frames of a window, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
    uint8 for JPEG bytes.
    """
    item_shape: tuple[int, ...]
    """Shape of one row, or of one item of a row if ragged."""
    ragged: bool = False
    """Whether a row holds any number of items, none included."""


RANDOM_PREFIX = "random:"


def random_seed(weights: str) -> int | None:
    """The SEED of `random:SEED`; None if `weights` names a file. ValueError for a seed that is no
    whole number.
    """
    if not weights.startswith(RANDOM_PREFIX):
        return None
    digits = weights.removeprefix(RANDOM_PREFIX)
    if not digits.isdecimal():
        raise ValueError(
            f"random weights are written random:SEED with a whole number, got {weights!r}"
        )
    return int(digits)


class Extractor(Protocol):
    """A network with its weights, ready to be fed.

    `prepare` runs once per decoded frame and shrinks it (the decoded frame is not kept); `extract`
    turns windows of prepared frames into rows. One video's result never depends on another video.
    """

    def prepare(self, frame: Any) -> Any:
        """Shrink one `(H, W, 3)` uint8 RGB frame to what the network needs to keep of it.

        One that `accepts_planes` is also given `models.extractors.base.yuv.Planes`.
        """
        ...

    def extract(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        """Windows of L prepared frames → for each array, one `item_shape` (ragged: `(items,
        *item_shape)`) a window.
        """
        ...


def accepts_planes(extractor: Extractor) -> bool:
    """Whether frames may come as `Planes`: for extractors whose attribute `planar` is true."""
    return bool(getattr(extractor, "planar", False))


@dataclass(frozen=True)
class ExtractorSpec:
    """One row of the table of extractors: everything the pipeline must know before a network is
    built.
    """

    name: str
    numerics_version: int
    """Raise by hand when code changes the numbers; a golden test fails to remind you."""
    settings_type: type[Any]
    """A frozen dataclass with defaults for every field: what a user may set, and part of the
    fingerprint.
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
    """Fixed, so that the same video gives the same bytes on a CPU, whatever else runs."""
    windows_on_gpu: int = 32
    """On a GPU at most so many windows, of any videos, share a batch: from where more of them are
    no faster.
    """
    files: Callable[[Any], tuple[str, ...]] = lambda _: ()
    """settings → those of their fields that name a file. The fingerprint holds such a file's
    sha256, not its path.
    """
