"""Checks that a downloaded file is complete.

It must end where its container says, and have the packets and seconds that it declares.

Servers cut, mix and pad files without an error, so a success of the downloader proves nothing.
Packets are counted in a child process, because a demuxer may hang or crash. Only downloads are
checked: of a damaged file in a person's own folder the decoder saves what it can.
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
    """What is wrong with a file."""

    damage: str
    """In words; empty if the file is complete."""
    opens: bool
    """Whether a video stream with packets was found, so that a damaged file may be useful."""


def check_integrity(
    video_id: str, path: Path, site_seconds: float | None = None
) -> IntegrityResult:
    """Compare a file with what it declares, and with the duration that its site states.

    Raises VideoError (hang, crash) if the demuxer does not survive it, SystemicFault if a child
    process cannot be started.
    """
    counted = count_in_child(video_id, path)
    damages = _damages(path, counted, site_seconds)
    return IntegrityResult("; ".join(damages), counted.opens and counted.packets > 0)


def _damages(path: Path, counted: PacketCounts, site_seconds: float | None) -> Iterator[str]:
    cut = missing_bytes(path)
    if cut:
        yield cut
    if not counted.opens:
        # If a complete file has no video stream, the decoder gives the status.
        if cut or "no video stream" not in counted.problem:
            yield f"it does not open: {counted.problem}"
        return
    yield from _missing_packets(path, counted)
    yield from _missing_seconds(
        "its header", counted.covered_seconds, counted.declared_seconds, LEAST_SECONDS_TOLERANCE
    )
    yield from _missing_seconds(
        "its site", counted.longest_seconds, site_seconds, LEAST_SITE_TOLERANCE
    )


def _missing_packets(path: Path, counted: PacketCounts) -> Iterator[str]:
    size_bytes = path.stat().st_size
    if counted.index_end > size_bytes:
        yield (
            f"its index has pictures up to byte {counted.index_end:,}, the file has {size_bytes:,}"
        )
    if counted.lacks:
        yield counted.lacks
    if counted.errors:
        yield f"{counted.errors} damaged packets"
    frames = counted.declared_frames
    if frames is not None and counted.packets < frames * (1 - FRAMES_TOLERANCE):
        yield f"{counted.packets} packets of {frames} declared"


def _missing_seconds(
    who: str, found_seconds: float, declared_seconds: float | None, least_tolerance: float
) -> Iterator[str]:
    if declared_seconds is None:
        return
    tolerance = max(least_tolerance, declared_seconds * SECONDS_TOLERANCE)
    if found_seconds < declared_seconds - tolerance:
        yield f"{found_seconds:.3f} s of {declared_seconds:.3f} s that {who} declares"


def count_in_child(video_id: str, path: Path) -> PacketCounts:
    """Run `pipeline.media.container.packet_counts` in a child process.

    Raises VideoError (hang, crash), SystemicFault if the child cannot be started or was stopped.
    """
    command = [sys.executable, "-m", "pipeline.media.container.packet_counts", str(path.absolute())]
    # Counting gives no sign of life in between, so both limits are the same.
    limits = TimeLimits(COUNT_SECONDS, COUNT_SECONDS)
    try:
        status, output = run_to_end(command, PROJECT_ROOT, limits)
    except Hung as hung:
        detail = f"counting its packets: {hung}"
        raise VideoError(video_id, failure_status("hang", detail)) from None
    except OSError as error:
        raise SystemicFault(
            f"cannot start {sys.executable} to count packets: {error.strerror}"
        ) from error
    stopped = fault_if_stopped(status)
    if stopped:
        raise stopped
    if status:
        detail = f"counting its packets ended with {describe_exit(status)}"
        raise VideoError(video_id, failure_status("crash", detail))
    return PacketCounts(**json.loads(output))
