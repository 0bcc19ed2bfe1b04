"""Counts the error messages of FFmpeg's demuxers.

A Matroska demuxer that meets damage looks for the next cluster, and the blocks between are lost
without an error: only its messages show it.
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
    """Error messages of one file's demuxer. Use it as a context around each call that reads.

    FFmpeg's messages are otherwise off. Inside they are on for the whole process, and those of this
    thread are counted.
    """

    count: int = 0
    first: str = ""
    _captures: list[av.logging.Capture] = field(default_factory=list, repr=False)

    @property
    def summary(self) -> str:
        """In words; empty if there are none."""
        if not self.count:
            return ""
        return f"{self.count} complaints of the demuxer, first: {self.first}"

    def __enter__(self) -> None:
        capture = av.logging.Capture()
        # Otherwise the last message of one file would be repeated in the next.
        av.logging.set_skip_repeated(False)
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
        # Off again, as it is by PyAV's default.
        av.logging.set_level(None)
        for level, name, text in capture.logs:
            is_of_demuxer = name.startswith(tuple(CONTAINERS))
            if level <= av.logging.ERROR and is_of_demuxer:
                self.count += 1
                self.first = self.first or " ".join(text.split())[:LONGEST_TEXT]
