"""Decompresses HTTP bodies as they come, a piece at a time.

A small body may decompress to gigabytes, so no piece is larger than `PIECE_BYTES`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

PIECE_BYTES = 1 << 18
"""The largest piece that is returned."""
_GZIP = frozenset({"gzip", "x-gzip"})
_GZIP_MAGIC = b"\x1f\x8b"
_EITHER_WRAPPER = zlib.MAX_WBITS | 32
_NO_WRAPPER = -zlib.MAX_WBITS


def decode_content(pieces: Iterator[bytes], coding: str) -> Iterator[bytes]:
    """The pieces without their coding: gzip of one or more members, deflate with or without header.

    Raises ValueError for an unknown coding, EOFError if the end is missing, zlib.error for other
    bytes.
    """
    if coding not in (*_GZIP, "deflate"):
        raise ValueError(f"{coding[:40]!r} was not asked for and is not known")
    decoder = _MemberDecoder(coding)
    for data in pieces:
        yield from decoder.decode(data)
        if decoder.is_over:
            # What follows the last member is padding. It is read, because only the end of the
            # connection shows whether the body was cut.
            for _ in pieces:
                pass
            return
    decoder.check_end()


class _MemberDecoder:
    """Decompresses the members of one body, one after the other."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._engine: zlib._Decompress | None = None
        self._has_begun = False
        self.is_over = False
        """Whether only padding follows."""

    def decode(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._engine is None:
                if self._has_begun and not self._starts_member(data):
                    self.is_over = True
                    return
                self._engine = zlib.decompressobj(_window_bits(self._coding, data))
                self._has_begun = True
            yield from _decompress(self._engine, data)
            if not self._engine.eof:
                return
            data = self._engine.unused_data
            self._engine = None

    def check_end(self) -> None:
        """Raise EOFError if the last member is not complete."""
        if self._engine is not None:
            raise EOFError("its end is missing")

    def _starts_member(self, data: bytes) -> bool:
        # A piece may end within the two bytes of the magic number.
        return self._coding in _GZIP and data.startswith(_GZIP_MAGIC[: len(data)])


def _decompress(engine: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    while True:
        piece = engine.decompress(data, PIECE_BYTES)
        data = engine.unconsumed_tail
        if piece:
            yield piece
        # A full piece without unread input may hide more output inside zlib.
        may_have_more = bool(data) or len(piece) == PIECE_BYTES
        if engine.eof or not may_have_more:
            return


def _window_bits(coding: str, start: bytes) -> int:
    """zlib's `wbits`. Servers mean two formats by deflate: with zlib's header, or without."""
    if coding in _GZIP or start[0] & 0x0F == zlib.DEFLATED:
        return _EITHER_WRAPPER
    return _NO_WRAPPER
