"""Ways in which a server gives something else than the video, by name; for tests, and to compare
with yt-dlp.
"""

from __future__ import annotations

import gzip
import json
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.support import faulty_server as web
from tests.support.faulty_server import MKV, MP4, OTHER, Answer, Handler

HTML = (
    b"<!DOCTYPE html><html><head><title>Login</title></head><body>"
    + b"<p>please</p>" * 50
    + b"</body></html>"
)
CAPTCHA = (
    "<!DOCTYPE html><html><head><title>验证</title></head><body><p>Подтвердите, что вы не робот</p></body></html>"
    * 3
)
ERROR = json.dumps({"error": {"code": 403, "message": "quota exceeded for abc"}}).encode()
PLAYLIST = (
    b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"
    + b"#" * 64
)
WHOLE = (MP4, MKV, OTHER)
"""What may be accepted: files that some server holds, from the first byte to the last."""
TICK_SECONDS = 0.05
PATIENCE_TICKS = 600
"""A server of these ends by itself after so many ticks, half a minute, if nobody leaves it."""


@dataclass(frozen=True)
class Fault:
    """What the server answers, and where the video must end: a reason, or `done` where a whole file
    can be had.
    """

    fresh: Callable[[], Answer]
    """Makes the answer; one that changes from request to request starts over."""
    outcome: str
    attempts: int = 3
    """Fewer where every attempt waits for a limit."""


def patience(handler: Handler) -> None:
    """Says nothing for three seconds."""
    time.sleep(TICK_SECONDS * PATIENCE_TICKS / 10)


def raw(*pieces: bytes, after: Answer = lambda handler: None) -> Answer:
    """Exactly these bytes, with no status line added; then the end, or silence."""

    def answer(handler: Handler) -> None:
        for piece in pieces:
            handler.wfile.write(piece)
        after(handler)

    return answer


def dripping(start: bytes, drops: Iterator[bytes] | Callable[[], Iterator[bytes]]) -> Answer:
    """These bytes at once, then one drop after the other, for half a minute: no read waits for
    long.
    """

    def answer(handler: Handler) -> None:
        handler.wfile.write(start)
        for _, drop in zip(
            range(PATIENCE_TICKS), drops() if callable(drops) else drops, strict=False
        ):
            handler.wfile.write(drop)
            time.sleep(TICK_SECONDS)

    return answer


def flooding(start: bytes, piece: bytes, times: int = 2000) -> Answer:
    """These bytes, then the piece again and again, as fast as it goes."""

    def answer(handler: Handler) -> None:
        handler.wfile.write(start)
        for _ in range(times):
            handler.wfile.write(piece)

    return answer


def forever(drop: bytes) -> Callable[[], Iterator[bytes]]:
    """The same drop, for ever."""

    def drops() -> Iterator[bytes]:
        while True:
            yield drop

    return drops


def unmeasured(content: bytes, **headers: str) -> Answer:
    """The content without its length; the end of the connection is the end of the file."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def reset_after(size_bytes: int) -> Answer:
    """A reset in the middle of the body."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(MP4)))
        handler.end_headers()
        handler.wfile.write(MP4[:size_bytes])
        handler.wfile.flush()
        time.sleep(0.05)
        web.reset(handler)

    return answer


def to_tls(handler: Handler) -> None:
    """Sends the client to a TLS address where nobody speaks TLS."""
    handler.reply(302, b"", Location=f"https://127.0.0.1:{handler.server.server_port}/tls")


def further(handler: Handler) -> None:
    """Sends the client to another address each time, for ever."""
    number = handler.path.partition("?")[2] or "0"
    handler.reply(302, b"", Location=f"{handler.path.partition('?')[0]}?{int(number) + 1}")


def slowly_further(handler: Handler) -> None:
    """The same, but each answer takes its time."""
    time.sleep(6 * TICK_SECONDS)
    further(handler)


def redirect_with(location: str) -> Answer:
    """A redirect to that address."""
    return lambda handler: handler.reply(302, b"", Location=location)


def part_of(
    content: bytes, first: int, last: int, *, told: str | None = None, **headers: str
) -> Answer:
    """206 with some bytes of the content, and what it tells of them: by default the truth."""
    true_range = f"bytes {first}-{last}/{len(content)}"
    stated = {} if told == "" else {"Content_Range": told or true_range}
    return lambda handler: handler.reply(206, content[first : last + 1], **stated, **headers)


def continued(**changes: str) -> Answer:
    """A continuation of MP4 as it should be, but for these headers; `size` cuts its body short
    without a length.
    """

    def answer(handler: Handler) -> None:
        wanted = handler.headers.get("Range")
        if wanted is None:
            handler.reply(200, MP4, ETag='"v1"')
            return
        start = int(wanted.removeprefix("bytes=").partition("-")[0])
        headers = {
            "ETag": '"v1"',
            "Content_Range": f"bytes {start}-{len(MP4) - 1}/{len(MP4)}",
            **changes,
        }
        size = headers.pop("size", "")
        handler.send_response(206)
        for name, value in headers.items():
            if value:
                handler.send_header(
                    name.replace("_", "-"), value.format(start=start, total=len(MP4))
                )
        handler.end_headers()
        handler.wfile.write(MP4[start:][: int(size) if size else None])

    return answer


def cut_then(*later: Answer) -> Callable[[], Answer]:
    """The first 30,000 bytes of MP4, version "v1"; then these."""
    return lambda: web.in_turn(web.cut(MP4, CUT_AT, ETag='"v1"'), *later)


def in_slices(size_bytes: int) -> Answer:
    """A server that sends no more than so many bytes at a time to whom asks for a range."""

    def answer(handler: Handler) -> None:
        wanted = handler.headers.get("Range")
        if wanted is None:
            web.cut(MP4, CUT_AT, ETag='"v1"')(handler)
            return
        start = int(wanted.removeprefix("bytes=").partition("-")[0])
        part_of(MP4, start, min(start + size_bytes, len(MP4)) - 1, ETag='"v1"')(handler)

    return answer


def insisting(handler: Handler) -> None:
    """Answers 206 without being asked to, and rightly to whom asks."""
    part_of(MP4, 0, len(MP4) - 1)(handler)


def packed_twice(content: bytes) -> bytes:
    """gzip of gzip."""
    return gzip.compress(gzip.compress(content, mtime=0), mtime=0)


def bare_deflate(content: bytes) -> bytes:
    """deflate without zlib's wrapper, as some servers send it."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


def chunks(content: bytes, size_bytes: int, *, end: bytes = b"0\r\n\r\n") -> bytes:
    """The content in chunks."""
    starts = range(0, len(content), size_bytes)
    pieces = (content[start : start + size_bytes] for start in starts)
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + end


HALF = len(MP4) // 2
CUT_AT = 30_000
GZIPPED = gzip.compress(MP4, mtime=0)
OK = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(MP4)
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
MOVED = b"HTTP/1.1 302 Found\r\nLocation: /abc?1\r\n"
ZEROS = gzip.compress(bytes(20_000_000), mtime=0)
EMPTY_MEMBER = gzip.compress(b"", mtime=0)


def retry_after(code: int, told: str) -> Callable[[], Answer]:
    """That state for ever, with that Retry-After, by a clock that stands at ten."""
    head = f"HTTP/1.1 {code} Later\r\nDate: Sat, 21 Nov 2026 10:00:00 GMT\r\nRetry-After: {told}\r\n\r\n"
    return lambda: raw(head.encode(), b"later")


KNOWN: dict[str, Fault] = {
    "no length, cut body": Fault(lambda: unmeasured(MP4[:HALF]), "done, damaged"),
    "no length, last byte missing": Fault(lambda: unmeasured(MP4[:-1]), "done, damaged"),
    "no length, cut mkv": Fault(lambda: unmeasured(MKV[:HALF]), "done, damaged"),
    "no length, cut differently each time": Fault(
        lambda: web.in_turn(*(unmeasured(MP4[: HALF + step]) for step in range(3))), "network"
    ),
    "no length, cut once": Fault(
        lambda: web.in_turn(unmeasured(MP4[:HALF]), web.body(MP4)), "done"
    ),
    "too small Content-Length": Fault(
        lambda: web.in_turn(
            *(unmeasured(MP4, Content_Length=str(HALF + step)) for step in range(3))
        ),
        "network",
    ),
    "full Content-Length, cut body": Fault(lambda: web.cut(MP4, HALF), "network"),
    "chunked, cut body": Fault(lambda: raw(CHUNKED, chunks(MP4[:HALF], HALF, end=b"")), "network"),
    "206 of another file": Fault(
        cut_then(web.resumable(OTHER, '"v1"', heeds_if_range=False)), "done"
    ),
    "206 of another version": Fault(
        cut_then(web.resumable(OTHER, '"v2"', heeds_if_range=False)), "done"
    ),
    "web page with status 200": Fault(lambda: web.body(HTML, "text/html"), "text_answer"),
    "web page that calls itself a video": Fault(lambda: web.body(HTML), "text_answer"),
    "playlist that calls itself a video": Fault(lambda: web.body(PLAYLIST), "text_answer"),
    "empty body": Fault(lambda: web.body(b""), "network"),
    "whole body, gzipped": Fault(lambda: unmeasured(GZIPPED, Content_Encoding="gzip"), "done"),
    "cut body, gzipped": Fault(
        lambda: unmeasured(GZIPPED[: len(GZIPPED) // 2], Content_Encoding="gzip"), "network"
    ),
    "gzipped file, not told": Fault(lambda: web.body(GZIPPED), "not_a_video"),
    "slow drip": Fault(
        lambda: dripping(OK + LENGTH + b"\r\n", (MP4[at : at + 1] for at in range(900))),
        "network",
        1,
    ),
    "10 GB declared": Fault(lambda: unmeasured(MP4, Content_Length="10000000000"), "too_large"),
    "endless body": Fault(lambda: flooding(OK + b"\r\n", MP4), "too_large"),
    "reset instead of an answer": Fault(lambda: web.reset, "network"),
    "reset in mid-body": Fault(lambda: reset_after(HALF), "network"),
    "TLS where nobody speaks it": Fault(lambda: to_tls, "network"),
    "redirect loop": Fault(lambda: web.redirect_to_itself, "unknown"),
    "403": Fault(lambda: web.status(403), "forbidden"),
    "404": Fault(lambda: web.status(404), "not_found"),
    "429": Fault(lambda: web.status(429), "rate_limited"),
    "500": Fault(lambda: web.status(500), "server_error"),
}
"""The 28 that this project began with."""

TEXTS: dict[str, Fault] = {
    "captcha in UTF-16": Fault(
        lambda: web.body(CAPTCHA.encode("utf-16"), "text/html"), "text_answer"
    ),
    "captcha in UTF-16, unmarked": Fault(
        lambda: web.body(HTML.decode().encode("utf-16-le")), "text_answer"
    ),
    "captcha in GB 18030": Fault(lambda: web.body(CAPTCHA.encode("gb18030")), "text_answer"),
    "captcha in Latin-1": Fault(
        lambda: web.body("<p>Prouvez que vous êtes né(e)</p>".encode("latin-1")), "text_answer"
    ),
    "error in JSON": Fault(lambda: web.body(ERROR, "application/json"), "text_answer"),
    "error in nine bytes": Fault(
        lambda: web.body(b"Forbidden", "application/octet-stream"), "text_answer"
    ),
    "portal, gzipped": Fault(
        lambda: unmeasured(gzip.compress(HTML), Content_Encoding="gzip"), "text_answer"
    ),
    "portal, gzipped, not told": Fault(lambda: web.body(gzip.compress(HTML)), "text_answer"),
    "portal behind a redirect": Fault(
        lambda: web.in_turn(redirect_with("/abc?login"), web.body(HTML, "text/html")), "text_answer"
    ),
    "text that begins like a box of mp4": Fault(
        lambda: web.body(b"The free plan is used up. " * 9), "text_answer"
    ),
    "endless web page": Fault(lambda: flooding(OK + b"\r\n", HTML, 20_000), "text_answer"),
    "web page of 10 GB": Fault(
        lambda: unmeasured(HTML * 9, Content_Length="10000000000"), "text_answer"
    ),
    "web page instead of the rest": Fault(cut_then(web.body(HTML, "text/html")), "text_answer"),
}
"""Text in place of a video, in several alphabets and wrappings."""

RANGES: dict[str, Fault] = {
    "unasked 206, half the file": Fault(lambda: part_of(MP4, 0, HALF), "network"),
    "unasked 206, second half": Fault(lambda: part_of(MP4, HALF, len(MP4) - 1), "network"),
    "unasked 206 without Content-Range": Fault(lambda: part_of(MP4, 0, HALF, told=""), "network"),
    "unasked 206 of the whole file": Fault(lambda: insisting, "done"),
    "206 without Content-Range": Fault(cut_then(continued(Content_Range="")), "done"),
    "206 from another place": Fault(
        cut_then(continued(Content_Range="bytes 0-{total}/{total}")), "done"
    ),
    "206 of another length": Fault(
        cut_then(continued(Content_Range="bytes {start}-50000/50001")), "done"
    ),
    "206 without the whole length": Fault(
        cut_then(continued(Content_Range="bytes {start}-39999/*")), "done"
    ),
    "206 in several parts": Fault(
        cut_then(continued(Content_Type="multipart/byteranges", Content_Range="")), "done"
    ),
    "206, gzipped": Fault(cut_then(continued(Content_Encoding="gzip")), "done"),
    "206 short of its Content-Range": Fault(cut_then(continued(size="17000")), "network", 2),
    "206 longer than its Content-Range": Fault(
        cut_then(continued(Content_Range=f"bytes {{start}}-{CUT_AT + 99}/{{total}}")), "done"
    ),
    "206 a little at a time": Fault(lambda: in_slices(20_000), "done"),
    "416": Fault(cut_then(web.status(416), web.body(MP4)), "done"),
    "416 for ever": Fault(cut_then(web.status(416)), "unknown"),
}
"""Parts that were not asked for, or are not what was asked for."""

ENDLESS: dict[str, Fault] = {
    "silence": Fault(lambda: raw(after=patience), "network", 1),
    "silence after headers": Fault(
        lambda: raw(OK + LENGTH + b"\r\n", after=patience), "network", 1
    ),
    "status line, drop by drop": Fault(
        lambda: dripping(b"HTTP/1.1 200 ", forever(b"O")), "network", 1
    ),
    "headers, drop by drop": Fault(lambda: dripping(OK + b"X: ", forever(b"x")), "network", 1),
    "headers without end": Fault(lambda: flooding(OK, b"X: x\r\n"), "network"),
    "a header without end": Fault(lambda: flooding(OK + b"X: ", b"x" * 1000), "network"),
    "100 Continue without end": Fault(
        lambda: flooding(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "network"
    ),
    "103 Early Hints, now and then": Fault(
        lambda: dripping(b"", forever(b"HTTP/1.1 103 Early Hints\r\n\r\n")), "network", 1
    ),
    "chunk size without end": Fault(lambda: flooding(CHUNKED, b"0" * 1000), "network"),
    "chunk size, drop by drop": Fault(lambda: dripping(CHUNKED, forever(b"0")), "network", 1),
    "chunk extension, drop by drop": Fault(
        lambda: dripping(CHUNKED + b"5;x=", forever(b"x")), "network", 1
    ),
    "chunks of one byte, now and then": Fault(
        lambda: dripping(CHUNKED, (b"1\r\n" + MP4[at : at + 1] + b"\r\n" for at in range(900))),
        "network",
        1,
    ),
    "trailers, drop by drop": Fault(
        lambda: dripping(CHUNKED + chunks(MP4, 5000, end=b"0\r\n"), forever(b"X: x\r\n")),
        "network",
        1,
    ),
    "redirect with an endless body": Fault(
        lambda: web.in_turn(flooding(MOVED + b"\r\n", bytes(10_000), 50_000), web.body(MP4)), "done"
    ),
    "redirect with a dripping body": Fault(
        lambda: web.in_turn(dripping(MOVED + b"\r\n", forever(b"x")), web.body(MP4)), "done"
    ),
    "redirects without end": Fault(lambda: further, "unknown"),
    "slow redirects": Fault(lambda: slowly_further, "network", 1),
    "error page, drop by drop": Fault(
        lambda: dripping(b"HTTP/1.1 503 Sorry\r\n\r\n", forever(b"x")), "server_error"
    ),
    "gzip that unpacks to too much": Fault(
        lambda: unmeasured(ZEROS, Content_Encoding="gzip"), "too_large"
    ),
    "gzip of gzip that does": Fault(
        lambda: unmeasured(gzip.compress(ZEROS), Content_Encoding="gzip, gzip"), "too_large"
    ),
    "gzip that unpacks to nothing": Fault(
        lambda: flooding(OK + b"Content-Encoding: gzip\r\n\r\n", EMPTY_MEMBER * 1000, 1000),
        "too_large",
    ),
    "gzip, drop by drop": Fault(
        lambda: dripping(
            OK + b"Content-Encoding: gzip\r\n\r\n", (GZIPPED[at : at + 1] for at in range(900))
        ),
        "network",
        1,
    ),
}
"""Servers that keep a client: each ends by a limit of ours."""

BROKEN: dict[str, Fault] = {
    "length that is a word": Fault(lambda: unmeasured(MP4, Content_Length="many"), "network"),
    "length below zero": Fault(lambda: unmeasured(MP4, Content_Length="-5"), "network"),
    "two lengths": Fault(lambda: raw(OK + LENGTH + b"Content-Length: 99\r\n\r\n", MP4), "network"),
    "the same length twice": Fault(lambda: raw(OK + LENGTH + LENGTH + b"\r\n", MP4), "done"),
    "chunk of a size below zero": Fault(lambda: raw(CHUNKED, b"-5\r\n", MP4), "network"),
    "chunk size as Python writes it": Fault(
        lambda: raw(CHUNKED, b"0x%x\r\n" % len(MP4), MP4, b"\r\n0\r\n\r\n"), "network"
    ),
    "gzipped transfer": Fault(
        lambda: raw(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", chunks(GZIPPED, 999)),
        "network",
    ),
    "chunked, a blank behind": Fault(
        lambda: raw(OK + b"Transfer-Encoding: CHUNKED \r\n\r\n", chunks(MP4, 999)), "done"
    ),
    "chunked, told twice": Fault(
        lambda: raw(
            OK + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n",
            chunks(MP4, 999),
        ),
        "done",
    ),
    "gzipped transfer, told twice": Fault(
        lambda: raw(
            OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n",
            chunks(gzip.compress(HTML), 999),
        ),
        "network",
    ),
    "redirect cut within its address": Fault(
        lambda: raw(b"HTTP/1.1 302 Found\r\nLocation: /abc-no-longer-whole"), "network"
    ),
    "404 cut within its headers": Fault(
        lambda: raw(b"HTTP/1.1 404 Not Found\r\nContent-Le"), "network"
    ),
    "407 of a site": Fault(lambda: web.status(407), "forbidden"),
    "packed with brotli": Fault(lambda: unmeasured(MP4, Content_Encoding="br"), "network"),
    "called gzip, and is not": Fault(lambda: unmeasured(MP4, Content_Encoding="gzip"), "network"),
    "gzip of gzip": Fault(
        lambda: unmeasured(packed_twice(MP4), Content_Encoding="gzip, gzip"), "done"
    ),
    "gzip in two members": Fault(
        lambda: unmeasured(
            gzip.compress(MP4[:HALF]) + gzip.compress(MP4[HALF:]), Content_Encoding="x-gzip"
        ),
        "done",
    ),
    "deflate": Fault(lambda: unmeasured(zlib.compress(MP4), Content_Encoding="deflate"), "done"),
    "deflate without its wrapper": Fault(
        lambda: unmeasured(bare_deflate(MP4), Content_Encoding="deflate"), "done"
    ),
    "small chunks": Fault(lambda: raw(CHUNKED, chunks(MP4, 7)), "done"),
    "103 before the answer": Fault(
        lambda: raw(b"HTTP/1.1 103 Early Hints\r\n\r\n", OK + LENGTH + b"\r\n", MP4), "done"
    ),
    "no HTTP at all": Fault(lambda: raw(b"220 smtp.example ESMTP\r\n"), "network"),
    "202": Fault(lambda: lambda handler: handler.reply(202, MP4[:HALF]), "network"),
    "204": Fault(lambda: raw(b"HTTP/1.1 204 No Content\r\n\r\n"), "network"),
    "304": Fault(lambda: raw(b"HTTP/1.1 304 Not Modified\r\n\r\n"), "unknown"),
    "redirect to a file": Fault(lambda: redirect_with("file:///etc/hostname"), "unknown"),
    "redirect to ftp": Fault(lambda: redirect_with("ftp://127.0.0.1:9/abc"), "network"),
    "redirect to data": Fault(lambda: redirect_with("data:video/mp4;base64,AAAA"), "unknown"),
}
"""Answers that break HTTP, or use a rare part of it."""

WAITS: dict[str, Fault] = {
    "503, wait 0 s": Fault(retry_after(503, "0"), "server_error"),
    "503, wait a week": Fault(retry_after(503, "604800"), "server_error"),
    "503, wait below zero": Fault(retry_after(503, "-1"), "server_error"),
    "503, wait until the year 99999": Fault(
        retry_after(503, "Sat, 21 Nov 99999 10:00:00 GMT"), "server_error"
    ),
    "503, wait in a zone that cannot be": Fault(
        retry_after(503, "Sat, 21 Nov 2026 10:00:00 +99999999999"), "server_error"
    ),
    "429, wait for 1e400 s": Fault(retry_after(429, "9" * 400), "rate_limited"),
    "429, wait for words": Fault(retry_after(429, "später"), "rate_limited"),
    "502, wait for half a second": Fault(retry_after(502, "0.5"), "server_error", 2),
}
"""Retry-After, in all spellings."""

FAULTS = {**KNOWN, **TEXTS, **RANGES, **ENDLESS, **BROKEN, **WAITS}
