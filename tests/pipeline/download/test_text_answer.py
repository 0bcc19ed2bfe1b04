"""Text where a video should be: recognised in any alphabet, pending at first, and final only where
others come.
"""

from __future__ import annotations

import gzip
import itertools
import json
import random
import zlib
from pathlib import Path

import pytest

from pipeline.download.access.rate_limiter import SharedRateLimiter
from pipeline.download.access.text_streak import TEXTS_LIMIT
from pipeline.download.fetch import SourceSettings, fetch
from pipeline.download.text_answer import detect_text
from storage.base.errors import SystemicFault, VideoError
from storage.base.paths import Layout
from tests.pipeline.download.test_rate_limiter import UNPACED, Time, gate_at
from tests.support import faulty_server as web
from tests.support.faulty_server import MKV, MP4, Mirror
from tests.support.network_faults import CAPTCHA, ERROR, HTML

pytestmark = pytest.mark.usefixtures("counted_here")

PAGE = web.body(HTML, "text/html")


@pytest.mark.parametrize(
    ("head", "content_type"),
    [
        *(
            (CAPTCHA.encode(charset), "video/mp4")
            for charset in ("utf-8", "utf-8-sig", "utf-16", "utf-32", "gb18030")
        ),
        ("<p>Подтвердите</p>".encode("koi8-r"), ""),
        ("<p>確認してください</p>".encode("iso-2022-jp"), ""),
        ("<p>確認してください</p>".encode("shift-jis"), ""),
        (HTML.decode().encode("utf-16-be"), "application/octet-stream"),
        (HTML.decode().encode("utf-32-le"), ""),
        (HTML.decode().encode("cp037"), "text/html; charset=cp037"),
        (ERROR, "video/mp4"),
        (b"no", "text/plain"),
        (b"{}", "application/problem+json"),
        (b" " * 100, "video/mp4"),
        (b"The free plan is used up.", ""),
        (b"#EXTM3U\n#EXT-X-ENDLIST\n", "video/mp4"),
        (gzip.compress(HTML), "video/mp4"),
        (zlib.compress(ERROR), "video/mp4"),
        (bytes(range(256)), "text/html"),
        (HTML, "text/html; charset=no-such-alphabet"),
        (HTML, "text/html; charset=unicode_escape"),
        (HTML, "text/html; charset=rot13"),
    ],
    ids=itertools.count(),
)
def test_text_is_text_in_any_alphabet(head: bytes, content_type: str) -> None:
    assert detect_text(head, content_type)


@pytest.mark.parametrize(
    "head",
    [
        MP4, MKV, gzip.compress(MP4), b"", b"FLV\x01\x05" + bytes(59), b"GIF89a" + bytes(range(64)),
        b"PK\3\4" + bytes(500), (b"G" + b"@\x11\x10" + b"\xff" * 184) * 5, b"RIFF\x20\x20\x20\x20AVI LIST" + bytes(40),
        *(random.Random(seed).randbytes(4096) for seed in range(20)),
    ],
    ids=itertools.count(),
)  # fmt: skip
@pytest.mark.parametrize("content_type", ["video/mp4", "text/plain", "text/plain; charset=utf-16"])
def test_a_video_or_noise_is_no_text(head: bytes, content_type: str) -> None:
    assert detect_text(head[:4096], content_type) == ""


@pytest.mark.parametrize("content", [MP4, MKV])
def test_a_video_is_a_video_whatever_it_is_called(
    mirror: Mirror, tmp_path: Path, content: bytes
) -> None:
    mirror.answers["abc"] = web.body(content, "text/html; charset=utf-8")
    media = fetch(
        "abc", layout=Layout(tmp_path, "phd2"), shard=0, source=SourceSettings(mirror.template)
    )
    assert media.path.read_bytes() == content


class Runs:
    """Runs over one data root and one site: each asks for some videos, through a gate of its
    own.
    """

    def __init__(self, mirror: Mirror, folder: Path) -> None:
        self.layout = Layout(folder, "phd2")
        self.source = SourceSettings(mirror.template, backoff_seconds=0, attempts=1)
        self.clock = Time()

    def gate(self) -> SharedRateLimiter:
        return gate_at(self.layout.egress(self.source.egress_key), self.clock, UNPACED)

    def ask(self, *video_ids: str, gate: SharedRateLimiter | None = None) -> dict[str, str]:
        """What becomes of each: `done`, or a reason."""
        way = gate or self.gate()
        ended = {}
        for video_id in video_ids:
            try:
                fetch(video_id, layout=self.layout, shard=0, source=self.source, rate_limiter=way)
            except VideoError as error:
                ended[video_id] = error.status.reason
            else:
                ended[video_id] = "done"
        return ended


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_text_on_three_runs_is_final_where_another_video_came(
    mirror: Mirror, tmp_path: Path, order: str
) -> None:
    runs = Runs(mirror, tmp_path)
    mirror.answers |= {"a": PAGE, "b": web.body(MP4)}
    assert runs.ask(*order) == {"a": "text_answer", "b": "done"}
    assert runs.ask("a") == {"a": "text_answer"}
    mirror.answers["a"] = web.status(500)
    assert runs.ask("a") == {"a": "server_error"}  # takes nothing from the count
    mirror.answers["a"] = PAGE
    assert runs.ask("a") == {"a": "only_text"}
    asked = len(mirror.requests)
    assert runs.ask("a") == {"a": "only_text"}
    assert len(mirror.requests) == asked
    record = json.loads(runs.layout.media_record("a", 0).read_text())["record"]
    assert record["state"] == "unavailable"
    assert "Login" in record["detail"]


def test_text_for_everybody_is_never_final(mirror: Mirror, tmp_path: Path) -> None:
    runs = Runs(mirror, tmp_path)
    mirror.answers |= {"early": web.body(MP4), "a": PAGE, "b": PAGE}
    assert runs.ask("early") == {"early": "done"}  # long before the site began to ask for a person
    for _ in range(5):
        assert runs.ask("a", "b") == {"a": "text_answer", "b": "text_answer"}
    mirror.answers["b"] = web.body(MP4)
    assert runs.ask("b", "a") == {"b": "done", "a": "only_text"}


def test_a_video_that_comes_after_text_is_done(mirror: Mirror, tmp_path: Path) -> None:
    runs = Runs(mirror, tmp_path)
    mirror.answers |= {"a": web.in_turn(PAGE, PAGE, web.body(MP4)), "b": web.body(MP4)}
    assert [runs.ask("a", "b")["a"] for _ in range(3)] == ["text_answer", "text_answer", "done"]


def test_a_neighbours_damaged_record_spoils_nothing(mirror: Mirror, tmp_path: Path) -> None:
    runs = Runs(mirror, tmp_path)
    mirror.answers |= {"a": PAGE, "b": web.body(MP4)}
    runs.ask("a", "b")
    runs.layout.media_record("b", 0).write_text("{")
    assert [runs.ask("a")["a"] for _ in range(2)] == ["text_answer", "text_answer"]


def test_the_run_stops_when_text_came_for_eight_videos_and_no_video_between(
    mirror: Mirror, tmp_path: Path
) -> None:
    runs, ids = Runs(mirror, tmp_path), [f"v{number}" for number in range(TEXTS_LIMIT)]
    mirror.answers |= dict.fromkeys(ids, PAGE) | {"good": web.body(MP4)}
    gate = runs.gate()
    runs.ask(*ids[:-1], *ids[:-1], gate=gate)  # the same videos again are the same videos
    runs.ask("good", *ids[:-1], "gone", gate=gate)
    with pytest.raises(
        SystemicFault, match=r"for 8 videos.*text came in place of a video.*--retry text_answer"
    ):
        runs.ask(ids[-1], gate=gate)
    assert not runs.layout.media_record(ids[-1], 0).exists()
    assert runs.ask(*ids[:-1]) == dict.fromkeys(
        ids[:-1], "only_text"
    )  # a fourth run, and `good` came in the first


def test_processes_count_together_and_forget_after_an_hour(mirror: Mirror, tmp_path: Path) -> None:
    runs, ids = Runs(mirror, tmp_path), [f"v{number}" for number in range(TEXTS_LIMIT)]
    mirror.answers |= dict.fromkeys(ids, PAGE)
    for video_id in ids[:-1]:
        assert runs.ask(video_id) == {video_id: "text_answer"}  # each through another gate
    runs.clock.now += 7200
    assert runs.ask(ids[-1]) == {ids[-1]: "text_answer"}
    runs.ask(*ids[:-2])
    with pytest.raises(SystemicFault, match="for 8 videos"):
        runs.ask(ids[-2])
    assert runs.ask(ids[-2]) == {ids[-2]: "text_answer"}  # a stop begins the count anew
