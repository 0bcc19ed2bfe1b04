"""Events that a decoder yields for one video, and the interface of every decoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from models.extractors.base.contract import Frame
from models.extractors.base.yuv import Planes
from pipeline.decoding.video_reader import DecodeSummary
from pipeline.media.probe import Probe
from pipeline.sampling.planner import VideoSampling, Window
from pipeline.sampling.segment_alignment import SegmentAlignment


@dataclass(frozen=True)
class FrameEvent:
    """A frame of some window, as RGB. Each frame comes once, in rising order."""

    index: int
    rgb: Frame
    """uint8 `(H, W, 3)`, upright. Valid only until the next event: copy or resize it at once."""
    wanted_by: tuple[int, ...]
    """Positions of the samplings that have a window with this frame."""


@dataclass(frozen=True)
class YuvFrameEvent:
    """A frame of some window, as YUV planes from which RGB can be computed exactly.

    Comes for samplings that are wrapped in `YuvSampling`, once a frame, in rising order. If others
    want the frame too, it also comes as a `FrameEvent` for them.
    """

    index: int
    planes: Planes
    """Valid only until the next event."""
    wanted_by: tuple[int, ...]


@dataclass(frozen=True)
class WindowEvent:
    """A complete window: its frames came before it. Windows of one sampling come in order."""

    sampling: int
    """Position in the list of samplings."""
    window: Window


@dataclass(frozen=True)
class DecodeEnd:
    """The last event of a video that was decoded."""

    probe: Probe
    summary: DecodeSummary
    cpu_seconds: float | None = field(default=None, compare=False)
    """CPU time of the process that decoded; None if that is this process."""
    rows_lacking: tuple[int, ...] = ()
    """For each sampling, how many rows the video is too short for, see `Planner.rows_lacking`."""


@dataclass(frozen=True)
class AlignmentEvent:
    """Where the annotated segments of one sampling lie in the video.

    Comes before the first frame, once for each sampling of segments.
    """

    sampling: int
    """Position in the list of samplings."""
    alignment: SegmentAlignment


Event = AlignmentEvent | FrameEvent | YuvFrameEvent | WindowEvent | DecodeEnd


class Decoder(Protocol):
    """Decodes videos one after the other. Only one thread may use it at a time."""

    @property
    def name(self) -> str:
        """The backend's name, a key of `pipeline.decoding.video_reader.BACKENDS`."""
        ...

    def decode(
        self, video_id: str, path: Path, samplings: Sequence[VideoSampling]
    ) -> Iterator[Event]:
        """All events of one video.

        Raises VideoError if the video cannot be used, SystemicFault if this machine cannot decode.
        """
        ...

    def close(self) -> None:
        """Release everything. May be called more than once."""
        ...
