"""Sixty hostile ids and titles: nothing outside the work folder, no option, no protocol, no
program.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from pipeline.download.access.rate_limiter import NoLimit
from pipeline.download.fetch import SourceSettings, fetch
from pipeline.download.ytdlp import _client, _transfer, _YtdlpLog
from storage.base.errors import VideoError
from storage.base.paths import Layout
from tests.support import faulty_server as web
from tests.support.faulty_server import MP4, Mirror

pytestmark = pytest.mark.usefixtures("counted_here")

REFUSED = (
    "", " ", ".", "..", "../x", "../../etc/passwd", "/etc/passwd", "a/b", "a\\b", "..\\x", "~root", "$HOME", "${HOME}",
    "$(touch x)", "`touch x`", "a;b", "a|b", "a&b", "a>b", "a\nb", "a\r\nb", "a\tb", "x\n", "a\0b", "a b", "a:b",
    "file:x", "http://x", "concat:a|b", "%2e%2e", "%(id)s", "{id}", "{0.__class__}", "a.mp4", "*", "?", "[a]", "a#b",
    "a?b", "a=b", "a'b", 'a"b', "\u202egnp", "ａｂｃ", "é", "a" * 65, "a" * 4096,
)  # fmt: skip
HARMLESS = (
    "-x",
    "--exec",
    "--config-locations",
    "-",
    "__proto__",
    "CON",
    "NUL",
    "0",
    "1e890",
    "AbC",
    "aBc",
)
TITLES = (
    "../../escaped", "/escaped", "$(touch escaped)", "%(id)s", "--exec touch escaped", "a\0b", "CON", "x" * 4096,
    "\x1b]0;title\x07", "\u202egnp.exe", "=HYPERLINK(1)", "<script>alert(1)</script>", "a\nb", "file:///etc/passwd",
)  # fmt: skip


def everything_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_there_are_sixty_and_more() -> None:
    assert len(set(REFUSED + HARMLESS)) + len(set(TITLES)) >= 60


@pytest.mark.parametrize("video_id", REFUSED, ids=itertools.count())
def test_what_is_no_id_is_refused_before_anything_happens(
    mirror: Mirror, tmp_path: Path, video_id: str
) -> None:
    for template in (mirror.template, str(tmp_path)):
        with pytest.raises(ValueError, match="a video id is 1 to 64"):
            fetch(
                video_id,
                layout=Layout(tmp_path / "data", "phd2"),
                shard=0,
                source=SourceSettings(template),
            )
    assert (mirror.requests, everything_below(tmp_path)) == ([], [])


def test_odd_ids_are_ids_and_keep_apart(mirror: Mirror, tmp_path: Path) -> None:
    layout, source = Layout(tmp_path / "data", "phd2"), SourceSettings(mirror.template, attempts=1)
    for video_id in HARMLESS:
        mirror.answers[video_id] = web.body(MP4)
        assert fetch(video_id, layout=layout, shard=0, source=source).path.read_bytes() == MP4
    assert [path for path, _ in mirror.requests] == [f"/{video_id}" for video_id in HARMLESS]
    files = everything_below(tmp_path)
    assert len({str(path).casefold() for path in files}) == 2 * len(
        HARMLESS
    )  # a file and a record each
    assert {path.parent for path in files} == {layout.media_folder(0)}
    assert all(path.name.startswith("v_") for path in files)


@pytest.mark.parametrize("title", TITLES, ids=itertools.count())
def test_what_a_site_says_names_nothing(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, title: str
) -> None:
    monkeypatch.chdir(tmp_path)
    mirror.answers["abc"] = web.body(MP4)
    work = tmp_path / "work"
    work.mkdir()
    source = SourceSettings(mirror.template)
    said = dict.fromkeys(
        ("title", "fulltitle", "uploader", "description", "filename", "_filename", "filepath"),
        title,
    )
    info = {**said, "id": "abc", "ext": "mp4", "url": mirror.template.format(id="abc")}
    notes = _YtdlpLog(source)
    with _client(source, notes) as client:
        _transfer(client, info, work / "media", source=source, log=notes, rate_limiter=NoLimit())
    assert {path.parent for path in everything_below(tmp_path)} == {work}
    assert (work / "media").read_bytes() == MP4


@pytest.mark.parametrize(
    "address", ["file:///etc/hostname", "data:video/mp4,x", "ftp://127.0.0.1:9/x"]
)
def test_other_protocols_bring_nothing_in(tmp_path: Path, address: str) -> None:
    source = SourceSettings("http://127.0.0.1:9/{id}", socket_timeout_seconds=1)
    notes, info = _YtdlpLog(source), {"id": "abc", "ext": "mp4", "url": address}
    with _client(source, notes) as client, pytest.raises(VideoError, match="pending:"):
        _transfer(
            client, info, tmp_path / "media", source=source, log=notes, rate_limiter=NoLimit()
        )
    assert not (tmp_path / "media").exists()
