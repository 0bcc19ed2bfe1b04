"""The sha256 of a kept media file, taken again while the file is decoded, so that damage on disk
never makes rows.

A thread of this process reads the file beside the decoder: its pages are in memory for both.
Refuses to know decoders.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.media.media_file import Media
from storage.base.errors import SystemicFault, VideoError
from storage.base.video_status import failure_status

_PIECE_BYTES = 1 << 20


@contextmanager
def verify_while_reading(video_id: str, media: Media) -> Iterator[None]:
    """Around decoding: VideoError `altered` at its end, in place of any other, if a kept file is
    not what was recorded.

    A file that was hashed in this run, because it has just arrived, is not hashed again.
    """
    if not media.is_kept:
        yield
        return
    hashing = _Hashing(media)
    try:
        try:
            yield
        except VideoError as error:
            # A damaged file may decode badly, crash or hang: then the damage is the reason, and not
            # the video.
            hashing.compare(video_id, cause=error)
            raise
        hashing.compare(video_id)
    finally:
        hashing.stop()


class _Hashing:
    def __init__(self, media: Media) -> None:
        self._media = media
        self._found = ""
        self._fault: OSError | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rehash", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        sha = hashlib.sha256()
        try:
            with self._media.path.open("rb", buffering=0) as file:
                while not self._stopped.is_set() and (piece := file.read(_PIECE_BYTES)):
                    sha.update(piece)
        except OSError as error:
            self._fault = error
        self._found = sha.hexdigest()

    def compare(self, video_id: str, cause: VideoError | None = None) -> None:
        self._thread.join()
        if self._fault is not None:
            raise SystemicFault(
                f"cannot read {self._media.path}: {self._fault.strerror}"
            ) from self._fault
        if self._found != self._media.sha256:
            raise VideoError(
                video_id, failure_status("altered", describe_change(self._media, self._found))
            ) from cause

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


def describe_change(media: Media, found: str) -> str:
    """What was recorded of a file, and what is there now."""
    return f"{media.path.name} has sha256 {found[:12]}, and {media.sha256[:12]} was recorded when it was fetched"
