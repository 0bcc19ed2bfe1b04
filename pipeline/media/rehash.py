"""Computes the sha256 of a stored media file again while it is decoded.

So damage on disk never becomes features. A thread reads the file beside the decoder: each page is
read from disk once for both.
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
    """A context around decoding. Raises VideoError `altered` at its end if the bytes have changed.

    That replaces any other VideoError. A file that was hashed in this run is not hashed again.
    """
    if not media.was_hashed_earlier:
        yield
        return
    hashing = _HashThread(media)
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


class _HashThread:
    """Hashes a file in a thread of its own."""

    def __init__(self, media: Media) -> None:
        self._media = media
        self._sha256 = ""
        self._fault: OSError | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rehash", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        sha256 = hashlib.sha256()
        try:
            with self._media.path.open("rb", buffering=0) as file:
                # hashlib releases the interpreter lock for large pieces, so decoding goes on.
                while not self._stopped.is_set() and (piece := file.read(_PIECE_BYTES)):
                    sha256.update(piece)
        except OSError as error:
            self._fault = error
        self._sha256 = sha256.hexdigest()

    def compare(self, video_id: str, cause: VideoError | None = None) -> None:
        """Wait for the end, and raise VideoError if the bytes are not those of the record."""
        self._thread.join()
        if self._fault is not None:
            raise SystemicFault(
                f"cannot read {self._media.path}: {self._fault.strerror}"
            ) from self._fault
        if self._sha256 != self._media.sha256:
            detail = describe_change(self._media, self._sha256)
            raise VideoError(video_id, failure_status("altered", detail)) from cause

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


def describe_change(media: Media, sha256: str) -> str:
    """A sentence with the sha256 that a file has now, and the recorded one."""
    return (
        f"{media.path.name} has sha256 {sha256[:12]}, and {media.sha256[:12]} was recorded "
        "when it was fetched"
    )
