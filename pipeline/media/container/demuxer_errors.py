"""What FFmpeg's demuxers say when a file is broken, and go on without a sign: their error messages,
counted.

A Matroska demuxer that meets damage looks for the next cluster, and the blocks between are gone
without an error; it is told in its messages alone. Refuses to know what is in the packets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType

import av.logging

from pipeline.media.container.container_formats import CONTAINERS

LONGEST_TEXT = 200
"""Characters kept of a message: it may quote the file."""


@dataclass
class DemuxerErrors:
    """Error messages of a file's demuxer. Use it as a context, around each call that reads the
    file.

    FFmpeg's messages are otherwise off; they are on for the whole process meanwhile, and taken from
    this thread alone.
    """

    count: int = 0
    first: str = ""
    _captures: list[av.logging.Capture] = field(default_factory=list, repr=False)

    @property
    def summary(self) -> str:
        """In words; empty if there are none."""
        return f"{self.count} complaints of the demuxer, first: {self.first}" if self.count else ""

    def __enter__(self) -> None:
        capture = av.logging.Capture()
        av.logging.set_skip_repeated(
            False
        )  # or the last message of one file would be repeated in the next
        av.logging.set_level(av.logging.ERROR)
        capture.__enter__()
        self._captures.append(capture)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        capture = self._captures.pop()
        capture.__exit__(None, None, None)
        av.logging.set_level(None)
        for level, name, text in capture.logs:
            if level <= av.logging.ERROR and name.startswith(tuple(CONTAINERS)):
                self.count += 1
                self.first = self.first or " ".join(text.split())[:LONGEST_TEXT]
