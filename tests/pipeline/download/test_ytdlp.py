"""What yt-dlp may do here: which format it takes, what of a user's machine it sees, what its
answers may claim.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yt_dlp
from yt_dlp.networking import HEADRequest
from yt_dlp.networking.exceptions import HTTPError, TransportError

from pipeline.download import ytdlp_network
from pipeline.download.access.rate_limiter import NoLimit
from pipeline.download.access.source import YOUTUBE, SourceSettings
from pipeline.download.ytdlp import _client, _describe_video, _transfer, _YtdlpLog
from storage.base.errors import VideoError
from tests.conftest import REPOSITORY
from tests.support import faulty_server as web
from tests.support.faulty_server import MP4, Mirror
from tests.support.network_faults import dripping, forever


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def formats_like_youtubes() -> list[dict[str, object]]:
    rows = [
        # format_id, ext, vcodec, acodec, height, protocol
        ("sb0", "mhtml", "none", "none", 90, "mhtml"),
        ("140", "m4a", "none", "mp4a.40.2", None, "https"),
        ("160", "mp4", "avc1.4d400c", "none", 144, "https"),
        ("18", "mp4", "avc1.42001E", "mp4a.40.2", 360, "https"),
        ("134", "mp4", "avc1.4d401e", "none", 360, "https"),
        ("243", "webm", "vp9", "none", 360, "https"),
        ("396", "mp4", "av01.0.01M.08", "none", 360, "https"),
        ("93", "mp4", "avc1.4D401E", "mp4a.40.2", 360, "m3u8_native"),
        ("134-dash", "mp4", "avc1.4d401e", "none", 360, "http_dash_segments"),
        ("137", "mp4", "avc1.640028", "none", 1080, "https"),
    ]
    names = ("format_id", "ext", "vcodec", "acodec", "height", "protocol")
    return [
        {**dict(zip(names, row, strict=True)), "url": f"https://x.invalid/{row[0]}"} for row in rows
    ]


@pytest.mark.parametrize(
    ("missing", "chosen"),
    [
        ((), "134"),
        (("134",), "18"),
        (("134", "18"), "243"),
        (("134", "18", "243", "396"), "160"),
        (("134", "18", "243", "396", "160"), "137"),
    ],
    ids=str,
)
def test_the_format_is_one_plain_file_near_360_lines_h264_and_mute_if_possible(
    missing: tuple[str, ...], chosen: str
) -> None:
    formats = [row for row in formats_like_youtubes() if row["format_id"] not in missing]
    info = {"id": "abc", "title": "t", "extractor": "youtube", "formats": formats}
    with _client(SourceSettings(), _YtdlpLog(SourceSettings())) as client:
        assert client.process_ie_result(info, download=False)["format_id"] == chosen


def test_formats_that_need_another_program_are_not_taken() -> None:
    formats = [row for row in formats_like_youtubes() if row["protocol"] != "https"]
    info = {"id": "abc", "title": "t", "extractor": "youtube", "formats": formats}
    with (
        _client(SourceSettings(), _YtdlpLog(SourceSettings())) as client,
        pytest.raises(yt_dlp.utils.YoutubeDLError, match="Requested format is not available"),
    ):
        client.process_ie_result(info, download=False)


@pytest.mark.parametrize(
    ("template", "only"), [("http://127.0.0.1/{id}", "Generic"), (YOUTUBE, "Youtube")]
)
def test_one_site_module_is_loaded_and_nothing_is_read_or_run(template: str, only: str) -> None:
    with _client(SourceSettings(template), _YtdlpLog(SourceSettings())) as client:
        assert list(client._ies) == [only]
        off = (
            "cookiefile",
            "cookiesfrombrowser",
            "usenetrc",
            "netrc_cmd",
            "external_downloader",
            "writelink",
            "exec_cmd",
        )
        assert [client.params.get(name) for name in off] == [None] * len(off)
        assert client.params["remote_components"] == set()
        assert client.proxies == {"all": "__noproxy__"}
        assert not any(client._pps.values())


class Site:
    """Stands where yt-dlp's YouTube module would be asked, and answers what it was told to."""

    def __init__(self, answer: dict[str, object] | None) -> None:
        self.answer = answer

    def extract_info(self, address: str, *, download: bool) -> dict[str, object] | None:
        assert (address, download) == ("https://www.youtube.com/watch?v=abc", False)
        return self.answer


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (None, "pending:unknown .*asked for abc, got None"),
        ({"id": "other", "url": "x"}, "pending:unknown .*asked for abc, got 'other'"),
        ({"id": "abc", "_type": "playlist"}, "pending:unknown .*asked for abc"),
        ({"id": "abc", "url": "x", "live_status": "is_live"}, "pending:not_yet_live .is_live"),
        (
            {"id": "abc", "url": "x", "live_status": "is_upcoming"},
            "pending:not_yet_live .is_upcoming",
        ),
    ],
    ids=repr,
)
def test_an_answer_about_something_else_or_still_running_is_pending(
    answer: dict[str, object] | None, told: str
) -> None:
    with pytest.raises(VideoError, match=told):
        _describe_video(Site(answer), "abc", SourceSettings())


def test_an_answer_about_the_video_is_taken() -> None:
    assert (
        _describe_video(
            Site({"id": "abc", "url": "x", "live_status": "was_live"}), "abc", SourceSettings()
        )["url"]
        == "x"
    )


def test_a_stale_media_address_does_not_make_a_video_gone(mirror: Mirror, tmp_path: Path) -> None:
    info = {"id": "abc", "url": mirror.template.format(id="stale"), "ext": "mp4"}
    notes = _YtdlpLog(SourceSettings())
    for source, reason in (
        (SourceSettings(), "pending:forbidden"),
        (SourceSettings(mirror.template), "unavailable:not_found"),
    ):
        with _client(source, notes) as client, pytest.raises(VideoError, match=reason):
            _transfer(
                client, info, tmp_path / "media", source=source, log=notes, rate_limiter=NoLimit()
            )


@pytest.mark.parametrize("size_bytes", [1000, 20_000, 10_000_000])
def test_a_site_that_wants_slices_is_asked_for_slices(
    mirror: Mirror, tmp_path: Path, size_bytes: int
) -> None:
    mirror.answers["abc"] = ranged
    info = {
        "id": "abc",
        "url": mirror.template.format(id="abc"),
        "downloader_options": {"http_chunk_size": size_bytes},
    }
    source, notes = SourceSettings(mirror.template), _YtdlpLog(SourceSettings())
    with _client(source, notes) as client:
        _transfer(
            client, info, tmp_path / "media", source=source, log=notes, rate_limiter=NoLimit()
        )
    assert (tmp_path / "media").read_bytes() == MP4
    assert len(mirror.requests) == -(-len(MP4) // size_bytes)
    assert mirror.requests[0][1]["Range"] == f"bytes=0-{size_bytes - 1}"


class Waiting(NoLimit):
    """A way that waits for nothing, and notes for how long it should have."""

    def __init__(self) -> None:
        self.waited: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waited += [seconds] if seconds else []


@pytest.mark.parametrize(("later_seconds", "least"), [(30, 20), (3600, 60), (-5, 0), (0, 0)])
def test_an_address_that_becomes_good_later_is_waited_for(
    mirror: Mirror, tmp_path: Path, later_seconds: int, least: float
) -> None:
    mirror.answers["abc"] = web.body(MP4)
    later = time.time() + later_seconds if later_seconds else None
    info = {"id": "abc", "url": mirror.template.format(id="abc"), "available_at": later}
    source, notes, way = SourceSettings(mirror.template), _YtdlpLog(SourceSettings()), Waiting()
    with _client(source, notes) as client:
        _transfer(client, info, tmp_path / "media", source=source, log=notes, rate_limiter=way)
    assert least <= sum(way.waited) <= max(later_seconds, 0)


def ranged(handler: web.Handler) -> None:
    """Sends exactly the range that is asked for."""
    first, last = (
        int(number) for number in handler.headers["Range"].removeprefix("bytes=").split("-")
    )
    last = min(last, len(MP4) - 1)
    handler.reply(206, MP4[first : last + 1], Content_Range=f"bytes {first}-{last}/{len(MP4)}")


def test_pages_of_a_site_are_unpacked_within_limits(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, source = b"<p>page</p>" * 1000, SourceSettings(mirror.template)
    gzipped = {"Content_Encoding": "gzip"}
    mirror.answers |= {
        "page": lambda handler: handler.reply(200, gzip.compress(page), **gzipped),
        "refusal": lambda handler: handler.reply(403, gzip.compress(page), **gzipped),
        "large": lambda handler: handler.reply(200, gzip.compress(bytes(2_000_000)), **gzipped),
        "slow": dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n", forever(b"x")),
    }
    monkeypatch.setattr(ytdlp_network, "PAGE_BYTES", 1_000_000)
    with _client(source, _YtdlpLog(source)) as client:

        def read(name: str) -> bytes:
            return bytes(client.urlopen(mirror.template.format(id=name)).read())

        assert read("page") == page
        with pytest.raises(HTTPError) as refused:
            read("refusal")
        assert refused.value.response.read() == page
        refused.value.response.close()
        with pytest.raises(TransportError, match="allowed 1,000,000"):
            read("large")
        response = client.urlopen(HEADRequest(mirror.template.format(id="page")))
        assert (response.status, response.read()) == (200, b"")
    hasty = SourceSettings(mirror.template, socket_timeout_seconds=0.2)
    with (
        _client(hasty, _YtdlpLog(hasty)) as client,
        pytest.raises(TransportError, match=r"timed out: the answer took more than 0.8 s"),
    ):
        client.urlopen(mirror.template.format(id="slow")).read()


PLANTED = "import pathlib\npathlib.Path({canary!r}).touch()\n"
CHILD = """
import sys
from pathlib import Path
from pipeline.download.fetch import SourceSettings, fetch
from storage.base.paths import Layout
root, template = sys.argv[1:]
source = SourceSettings(template, attempts=1, backoff_seconds=0)
print(fetch("abc", layout=Layout(Path(root), "phd2"), shard=3, source=source).size_bytes)
"""


def plant(home: Path, canary: Path) -> dict[str, str]:
    """A user's machine full of yt-dlp settings that would all be noticed."""
    code = PLANTED.format(canary=str(canary))
    for folder in (home / ".config" / "yt-dlp", home / "xdg" / "yt-dlp", home / ".yt-dlp"):
        (folder / "plugins" / "evil" / "yt_dlp_plugins" / "extractor").mkdir(parents=True)
        (folder / "plugins" / "evil" / "yt_dlp_plugins" / "extractor" / "evil.py").write_text(code)
        (folder / "config").write_text(
            f"--exec 'touch {canary}'\n--write-info-json\n-o {home}/stolen.mp4\n"
        )
    for package in ("yt_dlp_plugins/extractor/evil.py", "ytdlp_plugins/extractor/__init__.py"):
        path = home / "python" / package
        path.parent.mkdir(parents=True)
        path.write_text(code)
    proxies = dict.fromkeys(
        ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"), "http://127.0.0.1:9"
    )
    return {
        **os.environ,
        **proxies,
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "xdg"),
        "PYTHONPATH": os.pathsep.join([str(home / "python"), str(REPOSITORY)]),
    }


def test_planted_configuration_plugins_and_proxies_are_ignored(
    mirror: Mirror, tmp_path: Path
) -> None:
    mirror.answers["abc"] = web.body(MP4)
    home, canary, data = tmp_path / "home", tmp_path / "canary", tmp_path / "data"
    environment = plant(home, canary)
    before = files_below(home)
    command = [sys.executable, "-B", "-W", "error", "-c", CHILD, str(data), mirror.template]
    done = subprocess.run(
        command,
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{len(MP4)}\n", "")
    assert not canary.exists()
    assert files_below(home) == before
    assert len(files_below(data)) == 2


def test_the_planted_plugins_would_run_without_our_switch(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    environment = plant(tmp_path / "home", canary)
    environment.pop("YTDLP_NO_PLUGINS", None)
    code = "import yt_dlp; yt_dlp.YoutubeDL({'quiet': True, 'logger': None})"
    subprocess.run(
        [sys.executable, "-B", "-c", code], env=environment, cwd=tmp_path, timeout=60, check=True
    )
    assert canary.exists()
