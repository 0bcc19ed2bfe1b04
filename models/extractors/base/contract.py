"""What an extractor is: the contract between a network and the pipeline that feeds it.

To add one: write a file beside this one that ends in a `SPEC`, and add a row to `table.py`. A file with a SPEC imports
no torch, so that settings, help and planning stay light; its network lies in a file of its own, which `build` imports.

Letters in shapes: L frames of a window, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
"""`(H, W, 3)` uint8 RGB, upright, as decoded."""


@dataclass(frozen=True)
class ConsecutiveFrames:
    """Windows of `length_frames` consecutive native frames, a new one every `stride_frames`.

    A rest shorter than a window at the end of the video makes no row.
    """

    kind: ClassVar[str] = "ConsecutiveFrames"
    length_frames: int
    stride_frames: int

    def __post_init__(self) -> None:
        if self.length_frames < 1 or self.stride_frames < 1:
            raise ValueError(f"length_frames and stride_frames must be at least 1, got {self}")


@dataclass(frozen=True)
class FramesAtRate:
    """One frame for each instant `first frame's time + k / frames_per_second`: the frame shown at that instant.

    A frame shown at several instants makes one row; with a rate above the video's own, every frame is a row once.
    """

    kind: ClassVar[str] = "FramesAtRate"
    frames_per_second: float

    def __post_init__(self) -> None:
        if not self.frames_per_second > 0:
            raise ValueError(f"frames_per_second must be above 0, got {self.frames_per_second}")


@dataclass(frozen=True)
class FramesAtRateWithHistory:
    """The frames of `FramesAtRate`, each as the last of a window of `history_frames` consecutive native frames.

    One of the first `history_frames - 1` frames has too short a past: its window is the frames that start with it, in
    reverse, so that it comes last there too. A frame with neither makes no row: a video of N frames, fewer than
    `2 * history_frames - 2`, has none for frames `[N - history_frames + 1, history_frames - 1)`, and one of fewer than
    `history_frames` has no row at all.
    """

    kind: ClassVar[str] = "FramesAtRateWithHistory"
    frames_per_second: float
    history_frames: int
    """Frames in a window, the one it is about included."""

    def __post_init__(self) -> None:
        FramesAtRate(self.frames_per_second)
        if self.history_frames < 1:
            raise ValueError(f"history_frames must be at least 1, got {self.history_frames}")


@dataclass(frozen=True)
class EveryFrame:
    """Every native frame is a row."""

    kind: ClassVar[str] = "EveryFrame"


SPREADS = ("equal", "released")
RELEASED_CLIP_FRAMES = 100


@dataclass(frozen=True)
class FramesOfSegments:
    """A row for each annotated segment of a video: `length_frames` of the frames shown in it, spread over it.

    Of a segment's n frames, `equal` takes frame `floor(k * n / length_frames)` for k = 0, 1, ...: equal intervals over
    the whole segment, as the paper says (Xu et al., Cross-Category Video Highlight Detection via Set-Based Learning,
    ICCV 2021). `released` takes frame `k * floor(100 / length_frames)` of every segment, as its authors' code does
    (ChrisAllenMing/Cross_Category_Video_Highlight, dataloaders/youtube_highlights_set.py): with 16, the numbers 0, 6,
    ..., 90, and no others of a longer one. In the place of frames that a shorter segment lacks, their code has whatever
    was in memory; here it is the segment's last frame. With `equal`, the frames of a segment of fewer than
    `length_frames` are repeated evenly.
    """

    kind: ClassVar[str] = "FramesOfSegments"
    length_frames: int
    spread: str

    def __post_init__(self) -> None:
        if not 1 <= self.length_frames <= RELEASED_CLIP_FRAMES or self.spread not in SPREADS:
            raise ValueError(f"length_frames is 1 to {RELEASED_CLIP_FRAMES}, spread one of {SPREADS}, got {self}")

    def chosen(self, frames: int) -> tuple[int, ...]:
        """Which of a segment's `frames` (1 or more) frames make its row: `length_frames` numbers, never falling."""
        if self.spread == "equal":
            return tuple(k * frames // self.length_frames for k in range(self.length_frames))
        interval = RELEASED_CLIP_FRAMES // self.length_frames
        return tuple(min(k * interval, frames - 1) for k in range(self.length_frames))


Sampling = ConsecutiveFrames | FramesAtRate | FramesAtRateWithHistory | EveryFrame | FramesOfSegments
"""Which frames make a row. `pipeline.clips` turns one of these into frame numbers and spans.

`kind` is part of every fingerprint: a class may be renamed, its `kind` never.
"""


@dataclass(frozen=True)
class ArraySpec:
    """One array an extractor keeps."""

    dtype: str
    """A numpy dtype name: float16 for embeddings and saliency, float32 for coordinates and scores, uint8 for JPEG
    bytes."""
    item_shape: tuple[int, ...]
    """Shape of one row, or of one item of a row if ragged."""
    ragged: bool = False
    """Whether a row holds any number of items, none included."""


RANDOM_PREFIX = "random:"


def random_seed(weights: str) -> int | None:
    """The SEED of `random:SEED`; None if `weights` names a file. ValueError for a seed that is no whole number."""
    if not weights.startswith(RANDOM_PREFIX):
        return None
    digits = weights.removeprefix(RANDOM_PREFIX)
    if not digits.isdecimal():
        raise ValueError(f"random weights are written random:SEED with a whole number, got {weights!r}")
    return int(digits)


class Extractor(Protocol):
    """A network with its weights, ready to be fed.

    `prepare` runs once per decoded frame and shrinks it (the decoded frame is not kept); `extract` turns windows of
    prepared frames into rows. One video's result never depends on another video.
    """

    def prepare(self, frame: Any) -> Any:
        """Shrink one `(H, W, 3)` uint8 RGB frame to what the network needs to keep of it.

        One that `takes_planes` is also given `models.extractors.base.yuv.Planes`.
        """
        ...

    def extract(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        """Windows of L prepared frames → for each array, one `item_shape` (ragged: `(items, *item_shape)`) a window."""
        ...


def takes_planes(extractor: Extractor) -> bool:
    """Whether frames may come as `Planes`: for extractors whose attribute `planar` is true."""
    return bool(getattr(extractor, "planar", False))


@dataclass(frozen=True)
class ExtractorSpec:
    """One row of the table of extractors: everything the pipeline must know before a network is built."""

    name: str
    numerics_version: int
    """Raise by hand when code changes the numbers; a golden test fails to remind you."""
    settings_type: type[Any]
    """A frozen dataclass with defaults for every field: what a user may set, and part of the fingerprint."""
    arrays: Callable[[Any], Mapping[str, ArraySpec]]
    """settings → the arrays kept."""
    sampling: Callable[[Any], Sampling]
    """settings → which frames make a row."""
    build: Callable[[Any, str, str], Extractor]
    """(settings, weights, device) → an extractor. `weights` is a file's path, or `random:SEED`, or empty if it needs
    none; `device` is a torch device name."""
    needs_weights: bool
    windows_per_batch: int = 1
    """Fixed, so that the same video gives the same bytes on a CPU, whatever else runs."""
    windows_on_gpu: int = 32
    """On a GPU at most so many windows, of any videos, share a batch: from where more of them are no faster."""
    files: Callable[[Any], tuple[str, ...]] = lambda _: ()
    """settings → those of their fields that name a file. The fingerprint holds such a file's sha256, not its path."""
