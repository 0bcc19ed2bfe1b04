"""The local server: pages, numbers as JSON, stored pictures, and media by their id.

It listens on 127.0.0.1 only, and answers GET and HEAD only. Every request must have the run's
token in its path, and this server's name as its host; see `http_rules.py`.
"""

from __future__ import annotations

import math
import re
import socketserver
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

from storage.base.errors import LookupFailed, SettingsError
from storage.base.records import JSON, VIDEO_ID
from trainer.view.feature_strips import strips_json
from trainer.view.http_rules import (
    HEADERS,
    ByteRange,
    RangeNotSatisfiable,
    is_own_host,
    is_token,
    new_token,
    parse_range,
    safe_json,
)
from trainer.view.lanes import StoredScores
from trainer.view.media import NoMedia
from trainer.view.opened_store import UNREADABLE, OpenedStore, Snapshot
from trainer.view.overlays import overlays_json
from trainer.view.pages import FILES, asset, render
from trainer.view.video_details import check_id, details_json, media_of, picture
from trainer.view.video_list import ListRequest, VideoList

ADDRESS = "127.0.0.1"
CHUNK_BYTES = 2**18
IDLE_SECONDS = 60
LONGEST_PATH = 4096
HTML, JSON_TYPE, TEXT = "text/html; charset=utf-8", "application/json", "text/plain; charset=utf-8"
Query = dict[str, str]
_NOTHING = ByteRange(0, 0)


@dataclass(frozen=True)
class Answer:
    """An answer, before headers that all answers share."""

    status: HTTPStatus
    content_type: str
    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    file: Path | None = None
    """Sent in place of `content`: bytes `part` of it."""
    part: ByteRange = _NOTHING

    @property
    def length_bytes(self) -> int:
        """Length of the body."""
        return len(self.content) if self.file is None else self.part.end - self.part.first


@dataclass(frozen=True)
class Request:
    """A request whose token and host were checked."""

    path: str
    """Decoded, without the token: `video/ID`."""
    query: Query
    range_header: str | None = None
    if_range: str | None = None


class StoreServer(ThreadingHTTPServer):
    """Serves one catalog on 127.0.0.1 until it is closed."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int = 0) -> None:
        """`port` 0 takes a free one.

        Raises LookupFailed if there is no catalog, SettingsError if the port is taken.
        """
        self.site = Site(folder)
        self.site.prepare()
        self.token = new_token()
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            raise SettingsError(
                (f"port {port} cannot be opened ({error.strerror}); --port 0 takes a free one",)
            ) from error

    def server_bind(self) -> None:
        """Bind, without looking the address's name up, which may ask another machine."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a browser that left, as it does whenever a person seeks."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://{ADDRESS}:{self.server_port}/{self.token}/"


class Site:
    """The answers to requests, apart from how they come."""

    def __init__(self, folder: Path) -> None:
        self.store = OpenedStore(folder)
        self._scores = StoredScores(self.store)
        self._list: VideoList | None = None

    def prepare(self) -> None:
        """Open the catalog and prepare the list, so that the first page comes at once."""
        with self.store.lock, suppress(*UNREADABLE):  # every request reports what is damaged
            self._video_list(self.store.snapshot())

    def answer(self, request: Request) -> Answer:
        """The answer to a request: a page, numbers, a picture or media."""
        for pattern, respond in _ROUTES:
            match = pattern.fullmatch(request.path)
            if match is not None:
                return self._guarded(respond, request, match.groups())
        return plain(HTTPStatus.NOT_FOUND, "there is no such page")

    def _guarded(self, respond: Responder, request: Request, parts: tuple[str, ...]) -> Answer:
        """The answer, or a plain message if the store is damaged or lacks what was asked for."""
        try:
            return respond(self, request, *parts)
        except LookupFailed as error:
            return _problem(request, HTTPStatus.NOT_FOUND, str(error))
        except UNREADABLE as error:
            return _problem(request, HTTPStatus.INTERNAL_SERVER_ERROR, f"{error}")

    def file(self, request: Request, name: str) -> Answer:
        """Style, script or icon."""
        return Answer(HTTPStatus.OK, FILES[name], asset(name).encode())

    def list_page(self, request: Request) -> Answer:
        """The page with the list of videos; its rows come as JSON."""
        return _html("list.html.jinja", catalog=self.store.layout.catalog, base="")

    def video_page(self, request: Request, video_id: str) -> Answer:
        """The page of a video; its numbers come as JSON."""
        with self.store.lock:
            snapshot = self.store.snapshot()
            check_id(snapshot, video_id)
            title = snapshot.title(video_id)
        catalog = self.store.layout.catalog
        return _html("video.html.jinja", catalog=catalog, id=video_id, title=title, base="../")

    def videos(self, request: Request) -> Answer:
        """One page of the list as JSON."""
        query = request.query
        page = query.get("page", "1")
        asked = ListRequest(
            query.get("q", ""),
            query.get("state", ""),
            query.get("variant", ""),
            int(page) if page.isascii() and page.isdigit() and len(page) < 9 else 1,
        )
        with self.store.lock:
            return _json(self._video_list(self.store.snapshot()).answer(asked))

    def _video_list(self, snapshot: Snapshot) -> VideoList:
        if self._list is None or self._list.snapshot is not snapshot:
            self._list = VideoList(snapshot)
        return self._list

    def details(self, request: Request, video_id: str) -> Answer:
        """A video as JSON, without rows."""
        with self.store.lock:
            return _json(details_json(self.store.snapshot(), self._scores, video_id))

    def strips(self, request: Request, video_id: str, variant: str) -> Answer:
        """The rows of a variant as colours or numbers over time."""
        with self.store.lock:
            snapshot = self.store.snapshot()
            check_id(snapshot, video_id)
            if variant not in snapshot.variants:
                raise LookupFailed(f"no variant {variant!r}; see api/videos/{video_id}")
            return _json(strips_json(snapshot.variants[variant].reader[video_id]))

    def overlays(self, request: Request, video_id: str) -> Answer:
        """Boxes, joints and saliency between two times."""
        start, end = (_seconds(request.query, name) for name in ("from", "to"))
        with self.store.lock:
            snapshot = self.store.snapshot()
            check_id(snapshot, video_id)
            variants = snapshot.readers_of(video_id)
            return _json(overlays_json(video_id, variants, start, end))

    def frame(self, request: Request, video_id: str) -> Answer:
        """A stored picture as JPEG."""
        seconds = _seconds(request.query, "at")
        with self.store.lock:
            content = picture(self.store.snapshot(), video_id, seconds)
        headers = {"Cache-Control": "private, max-age=600"}
        return Answer(HTTPStatus.OK, "image/jpeg", content, headers)

    def media(self, request: Request, video_id: str) -> Answer:
        """A video's file, or a part of it."""
        with self.store.lock:
            media = media_of(self.store.snapshot(), video_id)
        if isinstance(media, NoMedia):
            return plain(HTTPStatus.NOT_FOUND, media.reason)
        about = media.path.stat()
        etag = f'"{about.st_mtime_ns:x}-{about.st_size:x}"'
        headers = {"Accept-Ranges": "bytes", "ETag": etag}
        # A part of another version of the file would not fit the part that the client has.
        is_same = request.if_range in (None, etag)
        try:
            part = parse_range(request.range_header if is_same else None, about.st_size)
        except RangeNotSatisfiable:
            headers["Content-Range"] = f"bytes */{about.st_size}"
            status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            return Answer(status, TEXT, b"no byte of the file lies in this range\n", headers)
        whole = ByteRange(0, about.st_size)
        if part is None:
            return Answer(HTTPStatus.OK, media.content_type, b"", headers, media.path, whole)
        headers["Content-Range"] = f"bytes {part.first}-{part.end - 1}/{about.st_size}"
        status = HTTPStatus.PARTIAL_CONTENT
        return Answer(status, media.content_type, b"", headers, media.path, part)


Responder = Callable[..., Answer]
_ID, _VARIANT = f"({VIDEO_ID.pattern})", r"([a-z0-9_.]+-[0-9a-f]{12})"
_ROUTES: list[tuple[re.Pattern[str], Responder]] = [
    (re.compile(""), Site.list_page),
    (re.compile(f"({'|'.join(map(re.escape, FILES))})"), Site.file),
    (re.compile(f"video/{_ID}"), Site.video_page),
    (re.compile("api/videos"), Site.videos),
    (re.compile(f"api/videos/{_ID}"), Site.details),
    (re.compile(f"api/videos/{_ID}/features/{_VARIANT}"), Site.strips),
    (re.compile(f"api/videos/{_ID}/overlays"), Site.overlays),
    (re.compile(f"frame/{_ID}"), Site.frame),
    (re.compile(f"media/{_ID}"), Site.media),
]


class _Handler(BaseHTTPRequestHandler):
    """Checks a request's host and token, and sends the answer."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "video-highlights", ""
    timeout = IDLE_SECONDS
    server: StoreServer

    # The names that http.server looks for.
    def do_GET(self) -> None:
        self._send(self._answer())

    def do_HEAD(self) -> None:
        self._send(self._answer(), has_body=False)

    def _answer(self) -> Answer:
        hosts = self.headers.get_all("Host", [])
        if not is_own_host(hosts, self.server.server_port):
            return plain(HTTPStatus.FORBIDDEN, "this server answers to 127.0.0.1 only")
        # urlsplit would read `//name/path` as an address of another host.
        if not self.path.startswith("/") or len(self.path) > LONGEST_PATH:
            return plain(HTTPStatus.BAD_REQUEST, "the address is not one of this server")
        given, _, path = self.path[1:].partition("/")
        if not is_token(given.partition("?")[0], self.server.token):
            return plain(
                HTTPStatus.FORBIDDEN, "open the address that the command printed, with its token"
            )
        if not self.path[1:].startswith(f"{given}/"):
            return plain(HTTPStatus.NOT_FOUND, "the address ends with a slash")
        parts = urlsplit(f"/{path}")
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        request = Request(
            unquote(parts.path[1:]), query, self.headers.get("Range"), self.headers.get("If-Range")
        )
        return self.server.site.answer(request)

    def _send(self, answer: Answer, *, has_body: bool = True) -> None:
        # A body of a request would be read as the next request.
        self.close_connection = self.close_connection or "Content-Length" in self.headers
        self.send_response(answer.status)
        headers = {**HEADERS, **answer.headers}
        headers["Content-Type"] = answer.content_type
        headers["Content-Length"] = str(answer.length_bytes)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if not has_body:
            return
        try:
            for block in _blocks(answer):
                self.wfile.write(block)
        except OSError:
            # The browser left, as it does whenever a person seeks, or the file became shorter.
            self.close_connection = True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """A plain message, with the headers of all answers, for other methods and bad requests."""
        self.close_connection = True
        self.send_response(code)
        content = f"{message or HTTPStatus(code).phrase}\n".encode()
        headers = {**HEADERS, "Content-Type": TEXT, "Content-Length": str(len(content))}
        for name, value in {**headers, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *values: object) -> None:
        """Print nothing: addresses hold the token."""


def _blocks(answer: Answer) -> Iterable[bytes]:
    if answer.file is None:
        yield answer.content
        return
    left = answer.length_bytes
    with answer.file.open("rb") as file:
        file.seek(answer.part.first)
        while left > 0:
            block = _read(file, min(CHUNK_BYTES, left))
            left -= len(block)
            yield block


def _read(file: BinaryIO, count: int) -> bytes:
    block = file.read(count)
    if not block:
        raise OSError("the file became shorter while it was sent")
    return block


def plain(status: HTTPStatus, text: str) -> Answer:
    """A message as plain text."""
    return Answer(status, TEXT, f"{text}\n".encode())


def _problem(request: Request, status: HTTPStatus, text: str) -> Answer:
    """A message as JSON, as a page, or as plain text, by what was asked for."""
    if request.path.startswith("api/"):
        return _json({"problem": text}, status)
    if request.path.startswith("video/"):
        return _html("message.html.jinja", status, message=text, base="../")
    return plain(status, text)


def _json(content: JSON, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    return Answer(status, JSON_TYPE, safe_json(content).encode())


def _html(template: str, status: HTTPStatus = HTTPStatus.OK, **values: str) -> Answer:
    return Answer(status, HTML, render(template, **values))


def _seconds(query: Query, name: str) -> float:
    """A finite time from a query. Raises LookupFailed for anything else."""
    try:
        value = float(query.get(name, ""))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise LookupFailed(f"{name} must be a number of seconds, got {query.get(name, '')!r}")
    return value
