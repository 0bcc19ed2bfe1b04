"""Sampling rules: which frames of a video make a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from models.validation import above, at_least, between, one_of


@dataclass(frozen=True)
class ConsecutiveFrames:
    """Windows of `length_frames` consecutive native frames, a new one every `stride_frames`.

    A remainder shorter than a window at the end of the video makes no row.
    """

    kind: ClassVar[str] = "ConsecutiveFrames"
    length_frames: int
    stride_frames: int

    def __post_init__(self) -> None:
        at_least("length_frames", self.length_frames, 1)
        at_least("stride_frames", self.stride_frames, 1)


@dataclass(frozen=True)
class FramesAtRate:
    """The frame shown at each instant `first frame's time + k / frames_per_second`.

    A frame shown at several instants makes one row. With a rate above the video's own, every frame
    makes one row.
    """

    kind: ClassVar[str] = "FramesAtRate"
    frames_per_second: float

    def __post_init__(self) -> None:
        above("frames_per_second", self.frames_per_second, 0)


@dataclass(frozen=True)
class FramesAtRateWithHistory:
    """Windows of `history_frames` native frames, each ending with a frame of `FramesAtRate`.

    Before one of the first `history_frames - 1` frames there are too few frames. Its window is the
    frames from it on, in reverse, so that it comes last there too. A frame with too few frames on
    both sides makes no row: a video of N frames, fewer than `2 * history_frames - 2`, has no row
    for frames `[N - history_frames + 1, history_frames - 1)`. A video of fewer than
    `history_frames` frames has no row.
    """

    kind: ClassVar[str] = "FramesAtRateWithHistory"
    frames_per_second: float
    history_frames: int
    """Frames in a window, its last frame included."""

    def __post_init__(self) -> None:
        above("frames_per_second", self.frames_per_second, 0)
        at_least("history_frames", self.history_frames, 1)


@dataclass(frozen=True)
class EveryFrame:
    """Every native frame is a row."""

    kind: ClassVar[str] = "EveryFrame"


SPREADS = ("equal", "released")
RELEASED_CLIP_FRAMES = 100
"""Length of the clips that the released code of set-based learning samples from."""


@dataclass(frozen=True)
class FramesOfSegments:
    """A row for each annotated segment: `length_frames` of its frames, spread over it.

    `equal` takes frame `floor(k * n / length_frames)` of a segment's n frames, for k = 0, 1, ...:
    equal intervals over the whole segment, as in the paper (Xu et al., Cross-Category Video
    Highlight Detection via Set-Based Learning, ICCV 2021). It repeats frames evenly if the segment
    has fewer than `length_frames`.

    `released` takes frame `k * floor(100 / length_frames)` of every segment, as the authors' code
    does (ChrisAllenMing/Cross_Category_Video_Highlight, dataloaders/youtube_highlights_set.py):
    with 16, frames 0, 6, ..., 90, also of a longer segment. Where a shorter segment has no such
    frame, their code reads uninitialised memory; this takes the segment's last frame.
    """

    kind: ClassVar[str] = "FramesOfSegments"
    length_frames: int
    spread: str

    def __post_init__(self) -> None:
        between("length_frames", self.length_frames, 1, RELEASED_CLIP_FRAMES)
        one_of("spread", self.spread, SPREADS)

    def frame_indices(self, frames: int) -> tuple[int, ...]:
        """The `length_frames` indices, not decreasing, of a segment's frames that make its row.

        `frames` is how many frames the segment has, 1 or more.
        """
        if self.spread == "equal":
            return tuple(k * frames // self.length_frames for k in range(self.length_frames))
        last = frames - 1
        interval = RELEASED_CLIP_FRAMES // self.length_frames
        return tuple(min(k * interval, last) for k in range(self.length_frames))


Sampling = (
    ConsecutiveFrames | FramesAtRate | FramesAtRateWithHistory | EveryFrame | FramesOfSegments
)
"""Which frames make a row. `pipeline.sampling.planners` turns it into frame numbers and spans.

`kind` is part of every fingerprint: a class may be renamed, its `kind` never.
"""
