"""What a decoder yields, and what every decoder can be asked."""

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
    """A frame that some window holds; each comes once, in rising order."""

    index: int
    rgb: Frame
    """uint8 `(H, W, 3)`, upright. Valid only until the next event is asked for: copy or shrink it
    now.
    """
    wanted_by: tuple[int, ...]
    """Positions of the samplings that have a window with this frame."""


@dataclass(frozen=True)
class YuvFrameEvent:
    """A frame for samplings that were asked for `YuvSampling`, where its planes say exactly what RGB
    is.

    Once a frame, in rising order; a frame that others want as RGB comes as a `FrameEvent` too, for
    those.
    """

    index: int
    planes: Planes
    """Valid only until the next event is asked for."""
    wanted_by: tuple[int, ...]


@dataclass(frozen=True)
class WindowEvent:
    """One row to be; all its frames came before it. Windows of one sampling come in order."""

    sampling: int
    """Position in the list of samplings."""
    window: Window


@dataclass(frozen=True)
class DecodeEnd:
    """The last event of a video that was decoded."""

    probe: Probe
    summary: DecodeSummary
    cpu_seconds: float | None = field(default=None, compare=False)
    """Of the process that decoded; None where that is our own."""
    lacking: tuple[int, ...] = ()
    """For each sampling, rows at instants for which the video is too short, as in
    `pipeline.sampling.planners.Planner`.
    """


@dataclass(frozen=True)
class AlignmentEvent:
    """Where the segments of one sampling lie in the video: before its first frame, once for each
    such sampling.
    """

    sampling: int
    """Position in the list of samplings."""
    alignment: SegmentAlignment


Event = AlignmentEvent | FrameEvent | YuvFrameEvent | WindowEvent | DecodeEnd


class Decoder(Protocol):
    """What decodes videos, one after the other. One thread at a time uses it."""

    @property
    def name(self) -> str:
        """The backend's name, a key of `pipeline.decoding.video_reader.BACKENDS`."""
        ...

    def decode(
        self, video_id: str, path: Path, samplings: Sequence[VideoSampling]
    ) -> Iterator[Event]:
        """All events of one video. Raises VideoError if it cannot be used, SystemicFault if the
        machine cannot.
        """
        ...

    def close(self) -> None:
        """Leave nothing behind; more than once is fine."""
        ...
