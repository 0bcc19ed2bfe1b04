"""A web server on loopback that misbehaves on purpose: one path, one fault. Every request it gets
is kept.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.videos import ffmpeg


def tiny(suffix: str, brightest: int = 255) -> bytes:
    """A whole video of noise, some 40 kB: 20 frames, 2 seconds. The same bytes every time."""
    noise = f"nullsrc=size=64x48:rate=10:duration=2,geq=lum='random(1)*{brightest}':cb=128:cr=128"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"tiny{suffix}"
        exact = ("-fflags", "+bitexact", "-flags:v", "+bitexact", "-movflags", "+faststart")
        encoder = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "18")
        ffmpeg("-f", "lavfi", "-i", noise, *encoder, *exact, path)
        return path.read_bytes()


MP4 = tiny(".mp4")
MKV = tiny(".mkv")
OTHER = tiny(".mp4", brightest=250)
"""Another encode of the same length."""

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers `/<id>` with what the mirror holds under that id; 404 for anything else."""

    protocol_version = "HTTP/1.1"
    server: Mirror

    def do_GET(self) -> None:
        self.close_connection = True
        self.server.requests.append((self.path, dict(self.headers)))
        asked = self.path.removeprefix("/")
        answers = self.server.answers
        (answers.get(asked) or answers.get(asked.partition("?")[0]) or status(404))(self)

    def do_HEAD(self) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr."""

    def reply(self, code: int, body: bytes, **headers: str) -> None:
        """A whole answer; header names have `_` for `-`."""
        self.send_response(code)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


class Mirror(ThreadingHTTPServer):
    """The server, its answers by id, and the requests it has seen."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []

    @property
    def template(self) -> str:
        """A source template that asks here."""
        return f"http://127.0.0.1:{self.server_port}/{{id}}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves early is part of the tests, not news."""


@contextlib.contextmanager
def running_mirror() -> Iterator[Mirror]:
    """A mirror that answers until the block ends."""
    mirror = Mirror()
    thread = threading.Thread(
        target=mirror.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    )
    thread.start()
    try:
        yield mirror
    finally:
        mirror.shutdown()
        thread.join(5)
        mirror.server_close()


def body(content: bytes, content_type: str = "video/mp4") -> Answer:
    """The file, whole, at every request."""
    return lambda handler: handler.reply(200, content, Content_Type=content_type)


def status(code: int) -> Answer:
    """That HTTP state, with a short page."""
    return lambda handler: handler.reply(code, b"<html>sorry</html>", Content_Type="text/html")


def in_turn(*answers: Answer) -> Answer:
    """Each answer once, then the last one for ever."""
    waiting = list(answers)
    return lambda handler: (waiting.pop(0) if len(waiting) > 1 else waiting[0])(handler)


def cut(content: bytes, after_bytes: int, **headers: str) -> Answer:
    """Promises the whole file, sends its beginning."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        for name, value in {"Content_Length": str(len(content)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content[:after_bytes])

    return answer


def resumable(content: bytes, tag: str, *, heeds_if_range: bool = True) -> Answer:
    """Serves ranges of one version; a careless server (`heeds_if_range=False`) never looks which
    version was begun.
    """

    def answer(handler: Handler) -> None:
        wanted, condition = handler.headers.get("Range"), handler.headers.get("If-Range")
        if wanted is None or (heeds_if_range and condition not in (None, tag)):
            handler.reply(200, content, ETag=tag)
            return
        start = int(wanted.removeprefix("bytes=").partition("-")[0])
        content_range = f"bytes {start}-{len(content) - 1}/{len(content)}"
        handler.reply(206, content[start:], ETag=tag, Content_Range=content_range)

    return answer


def reset(handler: Handler) -> None:
    """Closes with a TCP reset instead of an answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # The request's two file objects hold the socket open until they are closed as well.
    handler.rfile.close()
    handler.wfile.close()
    handler.connection.close()


def redirect_to_itself(handler: Handler) -> None:
    """302 to the same path, for ever."""
    handler.reply(302, b"", Location=handler.path)
