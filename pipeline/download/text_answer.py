"""Recognises text that a site sends instead of a video, and decides when that answer is final.

Text (a captcha, a login page, an error in JSON, a playlist) says nothing about the video, so the
video stays pending. Only if text comes on three runs, while other videos come from the same host,
is it the final answer for that video.
"""

from __future__ import annotations

import codecs
import contextlib
import re
import unicodedata
import urllib.parse
import zlib
from collections.abc import Mapping
from pathlib import Path

from pipeline.media.container.container_formats import CONTAINERS
from pipeline.media.media_file import MediaRecord, read_record
from storage.base.errors import IntegrityError
from storage.base.records import JSON
from storage.base.video_status import State, VideoStatus, failure_status

FINAL_AFTER_RUNS = 3
SHOWN_CHARACTERS = 200
_SHORTEST_BYTES = 8
"""Fewer bytes are text only if their server calls them so."""
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
_CONTROLS = frozenset(range(32)) - frozenset(b"\b\t\n\v\f\r\x1b\x0e\x0f") | {127}
"""Bytes that do not occur in text. Escape and the shifts are allowed: Japanese pages (ISO-2022-JP)
switch character sets with them.
"""
_LEAST_PRINTABLE = 0.98
_LEAST_ASCII = 0.3
_TEXT_TYPE = re.compile(
    r"\s*(text/html|text/xml|application/(?:[a-z0-9.+-]*\+)?(?:json|xml|xhtml\+xml))\s*(?:;|$)",
    re.I,
)
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([A-Za-z0-9._:-]{1,40})", re.I)
_NOT_A_CHARSET = re.compile(r"escape|punycode|idna|utf.?7", re.I)
"""Python codecs that are not charsets."""


def detect_text(head: bytes, content_type: str) -> str:
    """The beginning of the text in a file, at most `SHOWN_CHARACTERS`; empty if it is not text.

    `head` is the first bytes of the file, `content_type` the header of that name.
    """
    text = _decode_text(head, content_type)
    if not text:
        text = _decode_text(_decompress(head), content_type)
    if not text:
        text = _describe_undecodable(head, content_type)
    shown = " ".join(text.split())[:SHOWN_CHARACTERS]
    # A text of only white space is text too.
    return shown or text[:1]


def _describe_undecodable(head: bytes, content_type: str) -> str:
    """Bytes that the server calls text, but that no charset fits; empty for a container."""
    if not head or _is_container(head):
        return ""
    if not _TEXT_TYPE.match(content_type):
        return ""
    type_name = content_type.partition(";")[0].strip()
    return f"bytes that their server calls {type_name}: {head[:40]!r}"


def _decode_text(head: bytes, content_type: str) -> str:
    is_markup = _TEXT_TYPE.match(content_type) is not None
    is_text_type = is_markup or content_type.lower().startswith("text/")
    shortest_bytes = 1 if is_text_type else _SHORTEST_BYTES
    if len(head) < shortest_bytes:
        return ""
    text = _decode_by_bom(head)
    if text:
        return text
    return _decode_by_type(head, content_type, is_text_type=is_text_type)


def _decode_by_type(head: bytes, content_type: str, *, is_text_type: bool) -> str:
    match = _CHARSET.search(content_type)
    declared_charset = match[1] if match else ""
    has_controls = bool(_CONTROLS.intersection(head))
    if not has_controls:
        return _decode_without_controls(head, declared_charset or "utf-8")
    if _is_container(head):
        return ""
    text = _decode_wide(head)
    if text:
        return text
    if declared_charset and is_text_type:
        return _decode(head, declared_charset, _LEAST_PRINTABLE)
    return ""


def _decode_by_bom(head: bytes) -> str:
    for bom, charset in _BOMS:
        if not head.startswith(bom):
            continue
        # The mark of UTF-16 begins that of UTF-32, so the next one may fit too.
        text = _decode(head[len(bom) :], charset, _LEAST_PRINTABLE)
        if text:
            return text
    return ""


def _decode_without_controls(head: bytes, charset: str) -> str:
    # Bytes without control characters are text, even if the declared charset is wrong: Latin-1
    # decodes any byte.
    text = _decode(head, charset, 0.9)
    if not text:
        text = _decode(head, "utf-8", 0.9)
    return text or head.decode("latin-1")


def _decode_wide(head: bytes) -> str:
    """UTF-16 or UTF-32 without a byte order mark."""
    for charset in _WIDE:
        text = _decode(head, charset, _LEAST_PRINTABLE)
        if not text:
            continue
        if _is_mostly_ascii(text):
            return text
    return ""


def _is_container(head: bytes) -> bool:
    return any(fits(head) for fits in CONTAINERS.values())


def _decode(data: bytes, charset: str, least_printable: float) -> str:
    """The text; empty if fewer than `least_printable` (0 to 1) of its characters are printable."""
    if _NOT_A_CHARSET.search(charset):
        return ""
    try:
        text = data.decode(charset, "replace")
    except (LookupError, UnicodeError, ValueError):
        return ""
    printable = sum(map(_is_printable, text))
    replaced = text.count("\ufffd")
    return text if printable - replaced >= least_printable * len(text) else ""


def _is_printable(character: str) -> bool:
    return character.isspace() or not unicodedata.category(character).startswith("C")


def _is_mostly_ascii(text: str) -> bool:
    """Whether it may be a page. Markup is ASCII in any language; noise read as UTF-16 is not."""
    return sum(character.isascii() for character in text) >= _LEAST_ASCII * len(text)


def _decompress(head: bytes) -> bytes:
    """The beginning of what gzip or zlib compressed; empty if the bytes are not compressed so.

    Some servers compress without saying so in a header.
    """
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(head, len(head))
    except zlib.error:
        return b""


def record_text_answer(
    status: VideoStatus,
    folder: Path,
    known: MediaRecord | None,
    source_name: str,
    successes: int | None,
) -> MediaRecord:
    """The record after a run that got text for a video: final if text has come often enough.

    Args:
        status: the failure of this run, `text_answer`.
        folder: the records of the shard's other videos.
        known: the video's record of earlier runs.
        source_name: the site.
        successes: how many other videos this run got from the site so far; None if that is not
            counted, and then all videos in `folder` count.
    """
    facts: Mapping[str, JSON] = {}
    if known is not None and known.source_name == source_name:
        facts = known.facts
    runs = _count_of(facts, "text_runs", 0) + 1
    others = _count_downloaded(folder, source_name)
    others_before = 0 if successes is None else max(others - successes, 0)
    others_at_first = _count_of(facts, "others_at_first", others_before)
    if runs >= FINAL_AFTER_RUNS and others > others_at_first:
        detail = (
            f"text on {runs} runs, while other videos of its host came; at last: {status.detail}"
        )
        return MediaRecord(source_name, failure_status("only_text", detail))
    counts: dict[str, JSON] = {"text_runs": runs, "others_at_first": others_at_first}
    return MediaRecord(source_name, status, facts=counts)


def _count_of(facts: Mapping[str, JSON], name: str, default: int) -> int:
    value = facts.get(name)
    return value if isinstance(value, int) else default


def _count_downloaded(folder: Path, source_name: str) -> int:
    """How many records in `folder` say that a video came from the same host."""
    if not folder.is_dir():
        return 0
    host = urllib.parse.urlsplit(source_name).netloc
    count = 0
    for path in folder.glob("*.json"):
        record = None
        # A damaged record of another video is reported when that video is fetched.
        with contextlib.suppress(IntegrityError):
            record = read_record(path)
        if record is None or record.status.state is not State.DONE:
            continue
        count += urllib.parse.urlsplit(record.source_name).netloc == host
    return count
