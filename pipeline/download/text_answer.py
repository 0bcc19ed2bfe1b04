"""Text where a video should be: a captcha, a portal, an error in JSON, a playlist; what it is, and
when that is final.

The text says nothing about the video, so the video stays pending; only a text that comes on three
runs, while other videos come from the same host, is the answer for that video. Reads media records,
and changes none.
"""

from __future__ import annotations

import codecs
import contextlib
import re
import unicodedata
import urllib.parse
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.media.container.container_formats import CONTAINERS
from pipeline.media.media_file import MediaRecord, read_record
from storage.base.errors import IntegrityError
from storage.base.records import JSON
from storage.base.video_status import State, VideoStatus, failure_status

FINAL_AFTER_RUNS = 3
SHOWN_CHARACTERS = 200
_SHORTEST_BYTES = 8
"""Of fewer bytes nobody can say what they are; a server that calls them text is believed."""
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
_CONTROLS = frozenset(range(32)) - frozenset(b"\b\t\n\v\f\r\x1b\x0e\x0f") | {127}
"""Bytes that no text holds. Escape and the shifts stay: Japanese mail and web pages switch
alphabets with them.
"""
_LEAST_PRINTABLE = 0.98
_LEAST_ASCII = 0.3
_TEXT_TYPE = re.compile(
    r"\s*(text/html|text/xml|application/(?:[a-z0-9.+-]*\+)?(?:json|xml|xhtml\+xml))\s*(?:;|$)",
    re.I,
)
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([A-Za-z0-9._:-]{1,40})", re.I)
_BY_RULES = re.compile(r"escape|punycode|idna|utf.?7", re.I)
"""Codecs that are no alphabets."""


def detect_text(head: bytes, content_type: str) -> str:
    """The beginning of the text that `head`, the first bytes of a file, is; empty if it is
    something else.
    """
    text = _read(head, content_type) or _read(_unpacked(head), content_type)
    if not text and _TEXT_TYPE.match(content_type) and head and not _is_container(head):
        text = (
            f"bytes that their server calls {content_type.partition(';')[0].strip()}: {head[:40]!r}"
        )
    return " ".join(text.split())[:SHOWN_CHARACTERS] or text[:1]


def _read(head: bytes, content_type: str) -> str:
    claimed = _TEXT_TYPE.match(content_type) is not None or content_type.lower().startswith("text/")
    if not head or (len(head) < _SHORTEST_BYTES and not claimed):
        return ""
    for bom, charset in _BOMS:
        if head.startswith(bom) and (text := _decoded(head[len(bom) :], charset, _LEAST_PRINTABLE)):
            return text
    told = _CHARSET.search(content_type)
    charset = told[1] if told else "utf-8"
    if not _CONTROLS.intersection(head):
        return (
            _decoded(head, charset, 0.9) or _decoded(head, "utf-8", 0.9) or head.decode("latin-1")
        )
    if _is_container(head):
        return ""
    wide = (
        text
        for name in _WIDE
        if (text := _decoded(head, name, _LEAST_PRINTABLE)) and _is_western(text)
    )
    return next(wide, "") or (_decoded(head, charset, _LEAST_PRINTABLE) if told and claimed else "")


def _is_container(head: bytes) -> bool:
    return any(fits(head) for fits in CONTAINERS.values())


def _decoded(data: bytes, charset: str, least_printable: float) -> str:
    """The text; empty if the bytes are none in that alphabet."""
    if _BY_RULES.search(charset):
        return ""
    try:
        text = data.decode(charset, "replace")
    except (LookupError, UnicodeError, ValueError):
        return ""
    good = sum(
        character.isspace() or unicodedata.category(character)[0] not in "C" for character in text
    )
    wrong = text.count("\ufffd")
    return text if text and good - wrong >= least_printable * len(text) else ""


def _is_western(text: str) -> bool:
    """Pages are marked up in ASCII, whatever they are written in; noise in a wide alphabet is
    not.
    """
    return sum(character.isascii() for character in text) >= _LEAST_ASCII * len(text)


def _unpacked(head: bytes) -> bytes:
    """The beginning of what gzip or zlib packed and nobody declared; nothing if the bytes are not
    packed so.
    """
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(head, len(head))
    except zlib.error:
        return b""


def record_text_answer(
    status: VideoStatus, folder: Path, known: MediaRecord | None, asked: str, successes: int | None
) -> MediaRecord:
    """The record of one more run that got text for a video, which is final if it has come often
    enough.

    `folder` holds the records of its neighbours and `known` is its own, of before. `successes` is
    how many other videos this run got from the site so far; None if nobody counts, and then all
    neighbours that are here count.
    """
    before: Mapping[str, JSON] = (
        known.facts if known is not None and known.source_name == asked else {}
    )
    runs, others = _number(before, "text_runs") + 1, sum(1 for _ in _arrived(folder, asked))
    first = before.get("others_at_first")
    at_first = (
        first if isinstance(first, int) else 0 if successes is None else max(others - successes, 0)
    )
    if runs >= FINAL_AFTER_RUNS and others > at_first:
        told = f"text on {runs} runs, while other videos of its host came; at last: {status.detail}"
        return MediaRecord(asked, failure_status("only_text", told))
    return MediaRecord(asked, status, facts={"text_runs": runs, "others_at_first": at_first})


def _number(facts: Mapping[str, JSON], name: str) -> int:
    value = facts.get(name)
    return value if isinstance(value, int) else 0


def _arrived(folder: Path, asked: str) -> Iterator[MediaRecord]:
    """Records of this folder that say a video came from the same host."""
    host = urllib.parse.urlsplit(asked).netloc
    for path in folder.glob("*.json") if folder.is_dir() else ():
        record = None
        with contextlib.suppress(
            IntegrityError
        ):  # a neighbour's damaged record is told where it is used
            record = read_record(path)
        if (
            record
            and record.status.state is State.DONE
            and urllib.parse.urlsplit(record.source_name).netloc == host
        ):
            yield record
