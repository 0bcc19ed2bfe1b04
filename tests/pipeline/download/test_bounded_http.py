"""Weights and annotations from servers that keep, cut, mix and pack; and what a hostile answer
costs in memory.
"""

from __future__ import annotations

import gzip
import subprocess
import sys
import urllib.error
from pathlib import Path

import pytest

from pipeline.datasets.parsing.annotation_files import read_source
from pipeline.download.access.rate_limiter import NoLimit
from pipeline.download.fetch import SourceSettings, fetch
from pipeline.download.http import files as http
from pipeline.download.http.files import fetch_file
from storage.base.errors import SettingsError, SystemicFault, VideoError
from storage.base.paths import Layout
from tests.conftest import REPOSITORY
from tests.support import faulty_server as web
from tests.support.faulty_server import MP4, OTHER, Mirror
from tests.support.network_faults import (
    BROKEN,
    CUT_AT,
    ENDLESS,
    KNOWN,
    OK,
    RANGES,
    WAITS,
    dripping,
    flooding,
    forever,
    raw,
    retry_after,
)

FAULTS = {**KNOWN, **RANGES, **ENDLESS, **BROKEN, **WAITS}
CUT = ("no length, cut", "no length, last byte missing", "too small Content-Length")
"""What nobody can see who knows neither the file's format nor its hash."""
SEEN = [
    name
    for name in FAULTS
    if not name.startswith(CUT) and "web page" not in name and "playlist" not in name
]


def silence_seconds(name: str) -> float:
    """Short where the fault waits for this limit; others end by themselves, on a busy machine
    too.
    """
    return 0.25 if FAULTS[name].attempts == 1 else 10.0


WHOLE = (MP4, OTHER)
LIMIT_BYTES = 5_000_000


def downloaded(url: str, part: Path) -> bytes:
    """What `fetch_file` makes of an address, asked three times at most."""
    for _ in range(3):
        try:
            fetch_file(url, part, max_bytes=LIMIT_BYTES, on_progress=lambda at, total: None)
        except SystemicFault:
            continue
        return part.read_bytes()
    return b""


@pytest.mark.parametrize(
    "name", [name for name in SEEN if name not in ("empty body", "gzipped file, not told")]
)
def test_a_file_is_whole_or_a_fault(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(http, "TIMEOUT_SECONDS", silence_seconds(name))
    mirror.answers["abc"] = FAULTS[name].fresh()
    url = mirror.template.format(id="abc")
    if FAULTS[name].attempts == 1:  # it ends by a limit, and once is enough
        with pytest.raises(SystemicFault):
            fetch_file(
                url, tmp_path / "part", max_bytes=LIMIT_BYTES, on_progress=lambda at, total: None
            )
    else:
        content = downloaded(url, tmp_path / "part")
        assert content == b"" or content in WHOLE
        assert (content != b"") == FAULTS[name].outcome.startswith("done")


ANNOTATIONS = [
    name
    for name in SEEN
    if FAULTS[name].attempts == 1 or name in {**BROKEN, **WAITS} or "gzip" in name
]


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_annotations_are_whole_or_a_fault(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(http, "PAUSE_SECONDS", 0.01)
    mirror.answers["abc"] = FAULTS[name].fresh()
    content = read(mirror.template.format(id="abc"), silence_seconds(name))
    assert content in (*WHOLE, gzip.compress(MP4, mtime=0), b"")


def read(url: str, timeout_seconds: float) -> bytes:
    """The annotations; nothing where the right kind of fault says why."""
    try:
        return read_source(url, max_bytes=LIMIT_BYTES, timeout_seconds=timeout_seconds)
    except (SettingsError, SystemicFault):
        return b""


def test_weights_of_two_versions_are_never_joined(mirror: Mirror, tmp_path: Path) -> None:
    for tag in ('"v1"', '"v2"'):
        mirror.answers["abc"] = web.in_turn(
            web.cut(MP4, CUT_AT, ETag='"v1"'), web.resumable(OTHER, tag, heeds_if_range=False)
        )
        assert downloaded(mirror.template.format(id="abc"), tmp_path / "part") == OTHER


class Waiting(NoLimit):
    """A way that waits for nothing, and notes for how long it should have."""

    def __init__(self) -> None:
        self.waited: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waited += [seconds] if seconds else []


@pytest.mark.parametrize(
    ("told", "waited", "requests"),
    [
        ("7", [7.0, 7.0], 3),
        ("1.5", [2.0, 4.0], 3),  # our own pauses are longer
        ("Sat, 21 Nov 2026 10:00:30 GMT", [30.0, 30.0], 3),
        ("-7", [2.0, 4.0], 3),
        ("soon", [2.0, 4.0], 3),
        ("Sat, 21 Nov 99999 10:00:00 GMT", [2.0, 4.0], 3),
        ("Sat, 21 Nov 2026 10:00:30 +99999999999999999999", [2.0, 4.0], 3),
        ("9" * 5000, [2.0, 4.0], 3),
        ("3600", [], 1),  # too long for one video to hold up the others
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.parametrize("code", [500, 503])
def test_a_failing_server_is_given_the_time_it_asks_for(
    mirror: Mirror, tmp_path: Path, code: int, told: str, waited: list[float], requests: int
) -> None:
    mirror.answers["abc"] = retry_after(code, told)()
    way = Waiting()
    with pytest.raises(VideoError, match="pending:server_error"):
        fetch(
            "abc",
            layout=Layout(tmp_path, "phd2"),
            shard=0,
            source=SourceSettings(mirror.template),
            rate_limiter=way,
        )
    assert way.waited == waited
    assert len(mirror.requests) == requests


GREEDY = """
import resource, sys
from pathlib import Path
from pipeline.download.http import files as http
from pipeline.download.fetch import SourceSettings, fetch
from storage.base.errors import SystemicFault, VideoError
from storage.base.paths import Layout
root, template = sys.argv[1:]
source = SourceSettings(template, attempts=1, backoff_seconds=0, socket_timeout_seconds=20, max_bytes=100_000_000)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
def ask(name):
    try:
        fetch(name, layout=Layout(Path(root), "phd2"), shard=0, source=source)
    except VideoError as error:
        return error.status.reason
    return "done"
print(ask("video"))
before = peak()
print(*(ask(name) for name in ("bomb", "redirect", "line", "chunk", "page")))
for name in ("bomb", "redirect"):
    try:
        http.fetch_bytes(template.format(id=name), max_bytes=10_000_000, timeout_seconds=20)
    except Exception as error:
        print(type(error).__name__)
print(peak() - before)
"""


def test_no_answer_takes_more_than_a_little_memory(mirror: Mirror, tmp_path: Path) -> None:
    zeros = gzip.compress(bytes(150_000_000), compresslevel=1)
    moved = b"HTTP/1.1 302 Found\r\nLocation: /video\r\n\r\n"
    million = bytes(1_000_000)
    mirror.answers |= {
        "video": web.body(MP4),
        "bomb": flooding(OK + b"Content-Encoding: gzip\r\n\r\n", zeros, 1),
        "redirect": flooding(moved, million, 150),
        "line": flooding(OK + b"X: ", million, 150),
        "chunk": flooding(OK + b"Transfer-Encoding: chunked\r\n\r\n8000000;", million, 150),
        "page": dripping(b"HTTP/1.1 500 Sorry\r\n\r\n" + million * 50, forever(million)),
    }
    command = [sys.executable, "-c", GREEDY, str(tmp_path), mirror.template]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    *ended, grown_megabytes = done.stdout.split()
    # Whoever follows the redirect without reading its body finds the video.
    assert ended == ["done", "too_large", "done", "network", "network", "server_error", "TooLarge"]
    assert int(grown_megabytes) < 32


@pytest.mark.parametrize(
    "answer", [b"ICY 200 OK\r\n\r\n", b"HTTP/2 200 OK\r\n\r\n", b"\r\nHTTP/1.1 200 OK\r\n\r\n"]
)
def test_what_is_no_http_is_told_in_a_sentence(
    mirror: Mirror, tmp_path: Path, answer: bytes
) -> None:
    mirror.answers["abc"] = raw(answer)
    url = mirror.template.format(id="abc")
    with pytest.raises(SystemicFault, match=r"the server answers .*HTTP"):
        fetch_file(
            url, tmp_path / "part", max_bytes=LIMIT_BYTES, on_progress=lambda at, total: None
        )


def test_an_answer_that_ends_at_any_byte_of_its_headers_is_no_answer(
    mirror: Mirror, tmp_path: Path
) -> None:
    """Half a status, half the address of a redirect: none of them is acted on."""
    url = mirror.template.format(id="abc")
    told = r"breaks off within its headers|the server answers '|without response"
    for head in (
        b"HTTP/1.1 302 Found\r\nLocation: /abcd\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nServer: x\r\n\r\n",
    ):
        for size_bytes in range(len(head) - 1):
            mirror.answers["abc"] = raw(head[:size_bytes])
            with pytest.raises(SystemicFault, match=told):
                fetch_file(
                    url,
                    tmp_path / "part",
                    max_bytes=LIMIT_BYTES,
                    on_progress=lambda at, total: None,
                )
    assert {path for path, _ in mirror.requests} == {"/abc"}


@pytest.mark.parametrize(
    "failures",
    [
        pytest.param([web.status(503)], id="unavailable"),
        pytest.param([web.status(429), web.status(500)], id="twice"),
        pytest.param([raw(b"")], id="closed"),
        pytest.param([raw(OK + b"Content-Length: 9\r\n\r\nwho")], id="cut"),
    ],
)
def test_a_small_file_is_asked_for_again(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, failures: list[web.Answer]
) -> None:
    monkeypatch.setattr(http, "PAUSE_SECONDS", 0.01)
    mirror.answers["abc"] = web.in_turn(*failures, web.body(b"whole"))
    url = mirror.template.format(id="abc")
    assert http.fetch_bytes(url, max_bytes=100, timeout_seconds=10) == b"whole"
    assert len(mirror.requests) == len(failures) + 1


@pytest.mark.parametrize(("code", "requests"), [(404, 1), (403, 1), (503, 3)])
def test_a_small_file_that_stays_away_is_given_up(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, code: int, requests: int
) -> None:
    monkeypatch.setattr(http, "PAUSE_SECONDS", 0.01)
    mirror.answers["abc"] = web.status(code)
    with pytest.raises(urllib.error.HTTPError):
        http.fetch_bytes(mirror.template.format(id="abc"), max_bytes=100, timeout_seconds=10)
    assert len(mirror.requests) == requests
