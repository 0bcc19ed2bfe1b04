"""Ways in which a server gives something else than the video, by name; for tests, and to compare with yt-dlp."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.pipeline import mirror as web
from tests.pipeline.mirror import MKV, MP4, OTHER, Answer, Handler

HTML = b"<!DOCTYPE html><html><head><title>Login</title></head><body>" + b"<p>please</p>" * 50 + b"</body></html>"
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n" + b"#" * 64
WHOLE = (MP4, MKV, OTHER)
"""What may be accepted: files that some server holds, from the first byte to the last."""


@dataclass(frozen=True)
class Fault:
    """What the server answers, and where the video must end: a reason, or `done` where a whole file can be had."""

    fresh: Callable[[], Answer]
    """Makes the answer; one that changes from request to request starts over."""
    outcome: str


def unmeasured(content: bytes, **headers: str) -> Answer:
    """The content without its length; the end of the connection is the end of the file."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def drip(handler: Handler) -> None:
    """A byte now and then, for a long time: a socket's time-out never fires."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(MP4)))
    handler.end_headers()
    for start in range(600):
        handler.wfile.write(MP4[start : start + 1])
        handler.wfile.flush()
        time.sleep(0.05)


def endless(handler: Handler) -> None:
    """A video that never ends."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(MP4)


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


def chunked_cut(handler: Handler) -> None:
    """A chunked body without its last chunk."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    half = MP4[: len(MP4) // 2]
    handler.wfile.write(b"%x\r\n%s\r\n" % (len(half), half))


HALF = len(MP4) // 2
CUT_AT = 30_000
GZIPPED = gzip.compress(MP4, mtime=0)

FAULTS: dict[str, Fault] = {
    "no length, cut body": Fault(lambda: unmeasured(MP4[:HALF]), "done, damaged"),
    "no length, last byte missing": Fault(lambda: unmeasured(MP4[:-1]), "done, damaged"),
    "no length, cut mkv": Fault(lambda: unmeasured(MKV[:HALF]), "done, damaged"),
    "no length, cut differently each time": Fault(
        lambda: web.in_turn(*(unmeasured(MP4[: HALF + step]) for step in range(3))), "network"
    ),
    "no length, cut once": Fault(lambda: web.in_turn(unmeasured(MP4[:HALF]), web.body(MP4)), "done"),
    "too small Content-Length": Fault(
        lambda: web.in_turn(*(unmeasured(MP4, Content_Length=str(HALF + step)) for step in range(3))), "network"
    ),
    "full Content-Length, cut body": Fault(lambda: web.cut(MP4, HALF), "network"),
    "chunked, cut body": Fault(lambda: chunked_cut, "network"),
    "206 of another file": Fault(
        lambda: web.in_turn(web.cut(MP4, CUT_AT, ETag='"v1"'), web.resumable(OTHER, '"v1"', heeds_if_range=False)),
        "done",
    ),
    "206 of another version": Fault(
        lambda: web.in_turn(web.cut(MP4, CUT_AT, ETag='"v1"'), web.resumable(OTHER, '"v2"', heeds_if_range=False)),
        "done",
    ),
    "web page with status 200": Fault(lambda: web.body(HTML, "text/html"), "text_answer"),
    "web page that calls itself a video": Fault(lambda: web.body(HTML), "text_answer"),
    "playlist that calls itself a video": Fault(lambda: web.body(PLAYLIST), "text_answer"),
    "empty body": Fault(lambda: web.body(b""), "network"),
    "whole body, gzipped": Fault(lambda: web.in_turn(unmeasured(GZIPPED, Content_Encoding="gzip")), "done"),
    "cut body, gzipped": Fault(lambda: unmeasured(GZIPPED[: len(GZIPPED) // 2], Content_Encoding="gzip"), "network"),
    "gzipped file, not told": Fault(lambda: web.body(GZIPPED), "not_a_video"),
    "slow drip": Fault(lambda: drip, "network"),
    "10 GB declared": Fault(lambda: unmeasured(MP4, Content_Length="10000000000"), "too_large"),
    "endless body": Fault(lambda: endless, "too_large"),
    "reset instead of an answer": Fault(lambda: web.reset, "network"),
    "reset in mid-body": Fault(lambda: reset_after(HALF), "network"),
    "TLS where nobody speaks it": Fault(lambda: to_tls, "network"),
    "redirect loop": Fault(lambda: web.redirect_to_itself, "unknown"),
    "403": Fault(lambda: web.status(403), "forbidden"),
    "404": Fault(lambda: web.status(404), "not_found"),
    "429": Fault(lambda: web.status(429), "rate_limited"),
    "500": Fault(lambda: web.status(500), "server_error"),
}
