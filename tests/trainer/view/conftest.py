"""A running server over a small planted store, and a client that speaks HTTP to it."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.view_stores import write_viewed_store
from trainer.view.server import StoreServer


@dataclass(frozen=True)
class Reply:
    """An answer of the server."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass(frozen=True)
class Client:
    """Sends requests as they are given, without tidying a path."""

    server: StoreServer

    def raw(self, path: str, method: str = "GET", **headers: str) -> Reply:
        """A request for exactly this path; `Host=` replaces the right host."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=30)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            own = {"Host": f"127.0.0.1:{self.server.server_port}"}
            for name, value in {**own, **headers}.items():
                if value:
                    connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, named, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        """A request with the token."""
        return self.raw(f"/{self.server.token}/{path}", **headers)


@contextmanager
def serving(folder: Path) -> Iterator[Client]:
    """A server in a thread, closed with the block."""
    with StoreServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield Client(server)
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="package")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planted store; tests only read it."""
    return write_viewed_store(tmp_path_factory.mktemp("view"))


@pytest.fixture(scope="package")
def client(seen: Path) -> Iterator[Client]:
    with serving(seen) as running:
        yield running
