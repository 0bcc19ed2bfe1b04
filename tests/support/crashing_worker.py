"""Stands in for `tasks` on Luigi's command line and in Dask's workers, and kills the process at one
video.

As Dask preloads it into every worker, so the video named in POISON ends its worker each time it is
in hand, as a crash inside a network's library would. DELAY makes every video take so many seconds
longer.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.decoding.events import Event
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.sampling.planner import VideoSampling

POISON = os.environ.get("POISON", "")
DELAY = float(os.environ.get("DELAY", "0"))
_decode = SubprocessDecoder.decode


def _lethal(
    self: SubprocessDecoder, video_id: str, path: Path, samplings: Sequence[VideoSampling]
) -> Iterator[Event]:
    time.sleep(DELAY)
    for event in _decode(self, video_id, path, samplings):
        if video_id == POISON:
            # To this thread, which then does nothing more: one to the process leaves it time to
            # finish the video.
            signal.pthread_kill(threading.get_ident(), signal.SIGSEGV)
        yield event


SubprocessDecoder.decode = _lethal  # type: ignore[method-assign, assignment]
