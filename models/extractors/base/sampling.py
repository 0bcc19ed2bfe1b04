"""Which frames of a video make a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


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
    """One frame for each instant `first frame's time + k / frames_per_second`: the frame shown at
    that instant.

    A frame shown at several instants makes one row; with a rate above the video's own, every frame
    is a row once.
    """

    kind: ClassVar[str] = "FramesAtRate"
    frames_per_second: float

    def __post_init__(self) -> None:
        if not self.frames_per_second > 0:
            raise ValueError(f"frames_per_second must be above 0, got {self.frames_per_second}")


@dataclass(frozen=True)
class FramesAtRateWithHistory:
    """The frames of `FramesAtRate`, each as the last of a window of `history_frames` consecutive
    native frames.

    One of the first `history_frames - 1` frames has too short a past: its window is the frames that
    start with it, in reverse, so that it comes last there too. A frame with neither makes no row: a
    video of N frames, fewer than `2 * history_frames - 2`, has none for frames `[N - history_frames
    + 1, history_frames - 1)`, and one of fewer than `history_frames` has no row at all.
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
    """A row for each annotated segment of a video: `length_frames` of the frames shown in it,
    spread over it.

    Of a segment's n frames, `equal` takes frame `floor(k * n / length_frames)` for k = 0, 1, ...:
    equal intervals over the whole segment, as the paper says (Xu et al., Cross-Category Video
    Highlight Detection via Set-Based Learning, ICCV 2021). `released` takes frame `k * floor(100 /
    length_frames)` of every segment, as its authors' code does
    (ChrisAllenMing/Cross_Category_Video_Highlight, dataloaders/youtube_highlights_set.py): with 16,
    the numbers 0, 6, ..., 90, and no others of a longer one. In the place of frames that a shorter
    segment lacks, their code has whatever was in memory; here it is the segment's last frame. With
    `equal`, the frames of a segment of fewer than `length_frames` are repeated evenly.
    """

    kind: ClassVar[str] = "FramesOfSegments"
    length_frames: int
    spread: str

    def __post_init__(self) -> None:
        if not 1 <= self.length_frames <= RELEASED_CLIP_FRAMES or self.spread not in SPREADS:
            raise ValueError(
                f"length_frames is 1 to {RELEASED_CLIP_FRAMES}, spread one of {SPREADS}, got {self}"
            )

    def frame_indices(self, frames: int) -> tuple[int, ...]:
        """Which of a segment's `frames` (1 or more) frames make its row: `length_frames` numbers,
        never falling.
        """
        if self.spread == "equal":
            return tuple(k * frames // self.length_frames for k in range(self.length_frames))
        interval = RELEASED_CLIP_FRAMES // self.length_frames
        return tuple(min(k * interval, frames - 1) for k in range(self.length_frames))


Sampling = (
    ConsecutiveFrames | FramesAtRate | FramesAtRateWithHistory | EveryFrame | FramesOfSegments
)
"""Which frames make a row. `pipeline.sampling.planners` turns one of these into frame numbers and
spans.

`kind` is part of every fingerprint: a class may be renamed, its `kind` never.
"""
