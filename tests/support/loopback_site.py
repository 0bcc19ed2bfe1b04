"""A site on this machine: serves files under names, says 404 for everything else, and may stall in
one of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

DRIPS, DRIP_BYTES = 20, 1000


class Site:
    """What is served, by path without the slash; may change while the site is up."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.failing: frozenset[str] = frozenset()
        """Names under which it answers 503."""
        self.asked: list[str] = []
        self.address = ""
        self.stalls_at = ""
        """The first answer under this name stops in the middle until `go_on`, and then drips for a
        second.
        """
        self.stalled = Event()
        self.go_on = Event()


@contextmanager
def site() -> Iterator[Site]:
    """A site that is up inside the block, on a free loopback port."""
    served = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            served.asked.append(name)
            content = served.files.get(name)
            self.send_response(503 if name in served.failing else 404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("ETag", f'"{name}"')
            self.end_headers()
            if name == served.stalls_at and not served.stalled.is_set():
                self._stall(content or b"")
            else:
                self.wfile.write(content or b"")

        def _stall(self, content: bytes) -> None:
            middle = len(content) // 2
            self.wfile.write(content[:middle])
            served.stalled.set()
            served.go_on.wait(60)
            with suppress(ConnectionError):  # nobody listens any more
                for _ in range(DRIPS):
                    self.wfile.write(content[middle : middle + DRIP_BYTES])
                    middle += DRIP_BYTES
                    time.sleep(1 / DRIPS)
                self.wfile.write(content[middle:])

        def log_message(self, format: str, *args: object) -> None:
            """Tests read `asked` instead."""

    with serve(Handler) as served.address:
        yield served


@contextmanager
def serve(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server with this handler, on a free loopback port, up inside the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
