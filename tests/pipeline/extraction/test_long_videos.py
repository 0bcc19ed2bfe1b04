"""A video of three hours: memory does not grow with length, in this process or the worker."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest

from models.extractors.base.sampling import ConsecutiveFrames
from models.extractors.jpeg_frames import spec as frames_extractor
from pipeline.decoding.events import Event, WindowEvent
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.extraction.process_shard import cached_extractor
from pipeline.extraction.process_video import process_video
from pipeline.extraction.variant import Variant
from pipeline.media.decode_settings import DecodeLimits
from pipeline.media.media_file import Media
from pipeline.sampling.planner import VideoSampling
from storage.base.video_status import DONE
from tests.support.tiny_extractor import tiny_variant
from tests.support.videos import ffmpeg

SECONDS, RATE = 3 * 3600, 10
MEGABYTE = 1_000_000


def make(path: Path, seconds: int) -> Path:
    """Three hours of low-resolution video, made of a minute repeated: 10 frames a second."""
    minute = path.with_name(f"minute-{path.name}")
    source = ("-f", "lavfi", "-i", f"testsrc2=size=128x96:rate={RATE}:duration=60")
    ffmpeg(*source, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", minute)
    ffmpeg("-stream_loop", str(seconds // 60 - 1), "-i", minute, "-c", "copy", path)
    return path


def resident_bytes(pid: int | str) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Observed(SubprocessDecoder):
    """Notes the memory of parent and child whenever a share of the video is behind us."""

    def __init__(self, limits: DecodeLimits, seconds: int) -> None:
        super().__init__("pyav", limits)
        self._marks = {share: share / 100 * seconds for share in (10, 50, 99)}
        self.seen: dict[int, tuple[int, int]] = {}

    def decode(
        self, video_id: str, path: Path, samplings: Sequence[VideoSampling]
    ) -> Generator[Event, None, None]:
        for event in super().decode(video_id, path, samplings):
            self._look(event)
            yield event

    def _look(self, event: Event) -> None:
        if isinstance(event, WindowEvent):
            for share, mark in self._marks.items():
                if (
                    share not in self.seen
                    and event.window.end_seconds >= mark
                    and self.pid is not None
                ):
                    self.seen[share] = (resident_bytes("self"), resident_bytes(self.pid))


def run(folder: Path, seconds: int) -> dict[int, tuple[int, int]]:
    path = make(folder / "long.mp4", seconds)
    settings = frames_extractor.SPEC.settings_type(frames_per_second=0.2, height_pixels=48)
    pictures = Variant("frames", frames_extractor.SPEC, settings)
    variants = [tiny_variant("clips", ConsecutiveFrames(16, 16), 16), pictures]
    with Observed(DecodeLimits(), seconds) as decoder:
        outcomes = process_video(
            "v",
            Media(path, "0" * 64, path.stat().st_size),
            [(one, cached_extractor(one, "cpu")) for one in variants],
            decoder,
        )
    assert [outcome.status for outcome in outcomes] == [DONE, DONE]
    rows = [len(outcome.track.spans) for outcome in outcomes if outcome.track]
    assert rows == [seconds * RATE // 16, seconds // 5]
    return decoder.seen


@pytest.mark.slow
def test_three_hours_take_the_memory_of_twenty_minutes(tmp_path: Path) -> None:
    seen = run(tmp_path, SECONDS)
    for share, (parent, child) in seen.items():
        sys.stdout.write(
            f"{share} %: parent {parent // MEGABYTE} MB, child {child // MEGABYTE} MB\n"
        )
    assert abs(seen[99][1] - seen[10][1]) < 8 * MEGABYTE
    # What the parent gains are the rows it keeps: 6,750 clips of 48 numbers, and 2,160 JPEGs of
    # about 2 kB.
    assert seen[99][0] - seen[10][0] < 40 * MEGABYTE
