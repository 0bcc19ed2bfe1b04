"""Packed bodies of HTTP, unpacked as they come, a piece at a time: a small body may unpack to
gigabytes.

Knows no HTTP but the names of its codings.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

PIECE_BYTES = 1 << 18
"""No piece is larger, however much its packed bytes unpack to."""
_GZIP = frozenset({"gzip", "x-gzip"})
_GZIP_MAGIC = b"\x1f\x8b"
_EITHER_WRAPPER = zlib.MAX_WBITS | 32
_NO_WRAPPER = -zlib.MAX_WBITS


def decode_content(pieces: Iterator[bytes], coding: str) -> Iterator[bytes]:
    """The pieces without their coding: gzip of several members too, deflate with its wrapper or
    without.

    Raises ValueError for a coding that is not known, EOFError if the end is missing, zlib.error for
    other bytes.
    """
    if coding not in (*_GZIP, "deflate"):
        raise ValueError(f"{coding[:40]!r} was not asked for and is not known")
    engine, began = None, False
    for data in pieces:
        rest = data
        while rest:
            if engine is None:
                if began and not (coding in _GZIP and rest.startswith(_GZIP_MAGIC[: len(rest)])):
                    # What follows the last member is padding. The rest is read, since only its end
                    # shows a cut.
                    for _ in pieces:
                        pass
                    return
                engine, began = zlib.decompressobj(_wrapper(coding, rest)), True
            yield from _grown(engine, rest)
            if not engine.eof:
                break
            rest, engine = engine.unused_data, None
    if engine is not None:
        raise EOFError("its end is missing")


def _grown(engine: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    while True:
        piece = engine.decompress(data, PIECE_BYTES)
        data = engine.unconsumed_tail
        if piece:
            yield piece
        if engine.eof or (not data and len(piece) < PIECE_BYTES):
            return


def _wrapper(coding: str, start: bytes) -> int:
    """Servers differ in what they call deflate: zlib's wrapper, as the standard says, or none."""
    if coding in _GZIP or start[0] & 0x0F == zlib.DEFLATED:
        return _EITHER_WRAPPER
    return _NO_WRAPPER
