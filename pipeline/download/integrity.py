"""Is a downloaded file whole? Its container ends where it says, and its packets are those it
declares.

A downloader's success is a hint: servers cut, mix and pad without an error. Packets are counted in
a child, since a demuxer may hang or die. Judges downloads only: a damaged file in a person's own
folder is salvaged by the decoder.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.child_processes.exit_status import describe_exit, fault_if_stopped
from pipeline.child_processes.hang_watch import Hung, TimeLimits
from pipeline.child_processes.project_root import PROJECT_ROOT
from pipeline.child_processes.run_to_end import run_to_end
from pipeline.media.container.packet_counts import PacketCounts
from pipeline.media.container.truncation import missing_bytes
from storage.base.errors import SystemicFault, VideoError
from storage.base.video_status import failure_status

COUNT_SECONDS = 600.0
"""Counting reads the file once; one that takes longer hangs."""
FRAMES_TOLERANCE = 0.02
SECONDS_TOLERANCE = 0.02
LEAST_SECONDS_TOLERANCE = 1.0
LEAST_SITE_TOLERANCE = 2.0
"""A site states whole seconds, of the longest of its streams."""


@dataclass(frozen=True)
class IntegrityResult:
    """What is wrong with a file; all is well when `damage` is empty."""

    damage: str
    opens: bool
    """Whether a video stream with packets was found, so that a damaged file may still be worth
    something.
    """


def check_integrity(
    video_id: str, path: Path, site_seconds: float | None = None
) -> IntegrityResult:
    """Compare a file with what it, and its site where it said so, declare.

    Raises VideoError (hang, crash) if it defeats the demuxer, SystemicFault if no child can be
    started.
    """
    counted = counted_in_child(video_id, path)
    return IntegrityResult(
        "; ".join(_damages(path, counted, site_seconds)), counted.opens and counted.packets > 0
    )


def _damages(path: Path, counted: PacketCounts, site_seconds: float | None) -> Iterator[str]:
    if cut := missing_bytes(path):
        yield cut
    if not counted.opens:
        # A whole file that holds no picture, or none we know, is the decoder's verdict to give.
        if cut or "no video stream" not in counted.problem:
            yield f"it does not open: {counted.problem}"
        return
    if counted.index_end > (size_bytes := path.stat().st_size):
        yield f"its index knows pictures up to byte {counted.index_end:,}, the file has {size_bytes:,}"
    if counted.lacks:
        yield counted.lacks
    if counted.errors:
        yield f"{counted.errors} damaged packets"
    frames = counted.declared_frames
    if frames is not None and counted.packets < frames * (1 - FRAMES_TOLERANCE):
        yield f"{counted.packets} packets of {frames} declared"
    yield from _too_short(
        "its header", counted.covered_seconds, counted.declared_seconds, LEAST_SECONDS_TOLERANCE
    )
    yield from _too_short("its site", counted.longest_seconds, site_seconds, LEAST_SITE_TOLERANCE)


def _too_short(
    who: str, there_seconds: float, seconds: float | None, least_tolerance: float
) -> Iterator[str]:
    if seconds is not None and there_seconds < seconds - max(
        least_tolerance, seconds * SECONDS_TOLERANCE
    ):
        yield f"{there_seconds:.3f} s of {seconds:.3f} s that {who} declares"


def counted_in_child(video_id: str, path: Path) -> PacketCounts:
    """What `pipeline.media.container.packet_counts` counts. Raises VideoError (hang, crash),
    SystemicFault.
    """
    command = [sys.executable, "-m", "pipeline.media.container.packet_counts", str(path.absolute())]
    try:
        status, output = run_to_end(command, PROJECT_ROOT, TimeLimits(COUNT_SECONDS, COUNT_SECONDS))
    except Hung as hung:
        raise VideoError(
            video_id, failure_status("hang", f"counting its packets: {hung}")
        ) from None
    except OSError as error:
        raise SystemicFault(
            f"cannot start {sys.executable} to count packets: {error.strerror}"
        ) from error
    if fault := fault_if_stopped(status):
        raise fault
    if status:
        raise VideoError(
            video_id,
            failure_status("crash", f"counting its packets ended with {describe_exit(status)}"),
        )
    return PacketCounts(**json.loads(output))
