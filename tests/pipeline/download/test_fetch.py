"""Fetching one video: what is accepted, what each failure is called, what is asked twice, and what
is never touched.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.download.fetch import SourceSettings, fetch
from pipeline.media.media_file import Media, verify_media
from storage.base.errors import DiskFull, IntegrityError, SystemicFault, VideoError
from storage.base.fingerprint import readable_json
from storage.base.paths import Layout
from storage.base.video_status import REASONS, State
from storage.features.media_records import encode_media_record
from tests.conftest import REPOSITORY
from tests.support import faulty_server as web
from tests.support.faulty_server import MKV, MP4, OTHER, Mirror

pytestmark = pytest.mark.usefixtures("counted_here")

SHARD = 3


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "data $HOME %(id)s ü", "phd2")


def source_at(mirror: Mirror, attempts: int = 3) -> SourceSettings:
    return SourceSettings(
        mirror.template, socket_timeout_seconds=5.0, attempts=attempts, backoff_seconds=0.0
    )


def get(mirror: Mirror, layout: Layout, video_id: str = "abc", *, retry: bool = False) -> Media:
    return fetch(video_id, layout=layout, shard=SHARD, source=source_at(mirror), retry=retry)


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("video_id", "content", "suffix"),
    [
        ("abc", MP4, ".mp4"),
        ("-starts_with-dash", MKV, ".mkv"),
        ("--exec", MP4, ".mp4"),
        ("a" * 64, MKV, ".mkv"),
    ],
)
def test_a_good_file_arrives_whole_with_a_record_beside_it_and_nothing_else(
    mirror: Mirror, layout: Layout, tmp_path: Path, video_id: str, content: bytes, suffix: str
) -> None:
    mirror.answers[video_id] = web.body(content)
    media = get(mirror, layout, video_id)
    assert media.path == layout.media_file(video_id, SHARD, suffix)
    assert media.path.read_bytes() == content
    assert (media.sha256, media.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    expected = sorted([media.path, layout.media_record(video_id, SHARD)])
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == expected
    assert sorted(path for path in media.path.parent.iterdir()) == expected
    assert len(mirror.requests) == 1


def test_a_second_call_asks_nobody(mirror: Mirror, layout: Layout) -> None:
    mirror.answers["abc"] = web.body(MP4)
    first = get(mirror, layout)
    asked = len(mirror.requests)
    assert get(mirror, layout) == first == get(mirror, layout, retry=True)
    assert len(mirror.requests) == asked


def test_the_same_video_gives_the_same_record_bytes(mirror: Mirror, tmp_path: Path) -> None:
    mirror.answers["abc"] = web.body(MP4)
    records = []
    for root in ("one", "two"):
        layout = Layout(tmp_path / root, "phd2")
        get(mirror, layout)
        records.append(layout.media_record("abc", SHARD).read_bytes())
    assert records[0] == records[1]
    assert json.loads(records[0])["record"]["suffix"] == ".mp4"


HTML = (
    b"<!DOCTYPE html><html><head><title>Login</title></head><body>"
    + b"<p>please</p>" * 50
    + b"</body></html>"
)
PLAYLIST = (
    b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"
    + b"#" * 64
)


FAULTS: dict[str, tuple[web.Answer, str, int]] = {
    "404": (web.status(404), "not_found", 1),
    "410": (web.status(410), "not_found", 1),
    "401": (web.status(401), "forbidden", 1),
    "403": (web.status(403), "forbidden", 1),
    "429": (web.status(429), "rate_limited", 1),
    "418": (web.status(418), "unknown", 1),
    "500": (web.status(500), "server_error", 3),
    "503": (web.status(503), "server_error", 3),
    "web page": (web.body(HTML, "text/html"), "text_answer", 1),
    "web page that calls itself a video": (web.body(HTML), "text_answer", 1),
    "playlist that calls itself a video": (web.body(PLAYLIST), "text_answer", 1),
    "empty body": (web.body(b""), "network", 3),
    "24 bytes": (web.body(MP4[:24]), "network", 3),
    "cut body": (web.cut(MP4, 40_000), "network", 3),
    "connection reset": (web.reset, "network", 3),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_failure_has_its_reason_and_leaves_no_media(
    mirror: Mirror, layout: Layout, fault: str
) -> None:
    answer, reason, requests = FAULTS[fault]
    mirror.answers["abc"] = answer
    with pytest.raises(VideoError, match=f"abc: {REASONS[reason].state}:{reason}") as caught:
        get(mirror, layout)
    assert len(mirror.requests) == requests
    record = json.loads(layout.media_record("abc", SHARD).read_bytes())["record"]
    assert (record["state"], record["reason"]) == (REASONS[reason].state, reason)
    assert record["detail"] == caught.value.status.detail != ""
    assert not [
        path for path in layout.media_folder(SHARD).iterdir() if path.suffix in (".mp4", ".mkv")
    ]


def test_a_redirect_loop_ends_and_stays_pending(mirror: Mirror, layout: Layout) -> None:
    mirror.answers["abc"] = web.redirect_to_itself
    with pytest.raises(VideoError, match="redirect") as caught:
        get(mirror, layout)
    assert caught.value.status.state is State.PENDING
    assert len(mirror.requests) < 20


def test_a_server_that_recovers_is_asked_again_within_one_call(
    mirror: Mirror, layout: Layout
) -> None:
    mirror.answers["abc"] = web.in_turn(web.status(500), web.reset, web.body(MP4))
    assert get(mirror, layout).path.read_bytes() == MP4
    assert len(mirror.requests) == 3


def test_a_final_failure_is_told_again_without_asking_until_a_retry(
    mirror: Mirror, layout: Layout
) -> None:
    for _ in range(2):
        with pytest.raises(VideoError, match="unavailable:not_found"):
            get(mirror, layout)
    assert len(mirror.requests) == 1
    mirror.answers["abc"] = web.body(MP4)
    with pytest.raises(VideoError, match="unavailable:not_found"):
        get(mirror, layout)
    assert len(mirror.requests) == 1
    assert get(mirror, layout, retry=True).path.read_bytes() == MP4
    assert get(mirror, layout).path.read_bytes() == MP4
    assert len(mirror.requests) == 2


def test_a_pending_failure_is_asked_again_by_itself(mirror: Mirror, layout: Layout) -> None:
    mirror.answers["abc"] = web.in_turn(web.status(429), web.body(MP4))
    with pytest.raises(VideoError, match="pending:rate_limited"):
        get(mirror, layout)
    assert get(mirror, layout).path.read_bytes() == MP4


def test_a_refusal_by_one_source_does_not_bind_another(
    mirror: Mirror, layout: Layout, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(VideoError, match="the folder has no abc"):
        fetch("abc", layout=layout, shard=SHARD, source=SourceSettings(str(empty)))
    mirror.answers["abc"] = web.body(MP4)
    media = get(mirror, layout)
    assert fetch("abc", layout=layout, shard=SHARD, source=SourceSettings(str(empty))) == media


@pytest.mark.parametrize(
    ("later", "content", "ranges"),
    [
        (web.resumable(MP4, '"v1"'), MP4, ["bytes=23616-"]),
        (web.resumable(OTHER, '"v2"'), OTHER, ["bytes=23616-"]),
        (web.resumable(OTHER, '"v2"', heeds_if_range=False), OTHER, ["bytes=23616-", None]),
    ],
    ids=["same version is continued", "new version is sent whole", "careless server is caught"],
)
def test_a_part_is_continued_across_calls_only_for_the_same_version(
    mirror: Mirror, layout: Layout, later: web.Answer, content: bytes, ranges: list[str | None]
) -> None:
    mirror.answers["abc"] = web.cut(MP4, 40_000, ETag='"v1"')
    # The last 16,384 bytes are asked for again: 40,000 - 16,384 = 23,616.
    with pytest.raises(VideoError, match="pending:network"):
        fetch("abc", layout=layout, shard=SHARD, source=source_at(mirror, attempts=1))
    mirror.requests.clear()
    mirror.answers["abc"] = later
    assert get(mirror, layout).path.read_bytes() == content
    assert [headers.get("Range") for _, headers in mirror.requests] == ranges
    assert len(files_below(layout.media_folder(SHARD))) == 2


def test_a_part_whose_version_nobody_named_is_begun_anew(mirror: Mirror, layout: Layout) -> None:
    mirror.answers["abc"] = web.in_turn(web.cut(MP4, 40_000), web.resumable(OTHER, '"v2"'))
    assert get(mirror, layout).path.read_bytes() == OTHER
    assert mirror.requests[-1][1].get("Range") is None


def test_changed_files_are_noticed(mirror: Mirror, layout: Layout) -> None:
    mirror.answers["abc"] = web.body(MP4)
    media = get(mirror, layout)
    verify_media(media)
    media.path.write_bytes(MP4[:-1] + b"!")
    with pytest.raises(IntegrityError, match=r"has sha256 \w{64}, its record"):
        verify_media(media)
    media.path.write_bytes(MP4[:-1])
    with pytest.raises(
        IntegrityError, match=f"has {len(MP4) - 1:,} bytes, its record {len(MP4):,}"
    ):
        verify_media(media)
    with pytest.raises(
        VideoError,
        match=f"pending:altered .*{len(MP4) - 1:,} bytes, and {len(MP4):,} were recorded",
    ):
        get(mirror, layout)
    assert get(mirror, layout, retry=True) == media
    verify_media(media)
    media.path.write_bytes(MP4[:-1] + b"!")
    asked = len(mirror.requests)
    assert get(mirror, layout).was_hashed_earlier  # who decodes it hashes it meanwhile
    assert len(mirror.requests) == asked
    assert get(mirror, layout, retry=True) == media
    assert len(mirror.requests) > asked
    verify_media(media)
    asked = len(mirror.requests)
    assert get(mirror, layout, retry=True).was_hashed_earlier
    assert len(mirror.requests) == asked  # a whole file is kept, also in a retry
    media.path.unlink()
    with pytest.raises(IntegrityError, match="is gone"):
        verify_media(media)
    assert get(mirror, layout) == media


def test_a_file_that_was_never_recorded_gives_way(mirror: Mirror, layout: Layout) -> None:
    mirror.answers["abc"] = web.body(MP4)
    unrecorded = layout.media_file("abc", SHARD, ".mp4")
    unrecorded.parent.mkdir(parents=True)
    unrecorded.write_bytes(OTHER)
    assert get(mirror, layout).path == unrecorded
    assert unrecorded.read_bytes() == MP4


def test_a_record_of_an_earlier_release_is_read(mirror: Mirror, layout: Layout) -> None:
    mirror.answers["abc"] = web.body(MP4)
    media = get(mirror, layout)
    record = layout.media_record("abc", SHARD)
    record.write_bytes(readable_json(json.loads(record.read_bytes())["record"]))
    assert get(mirror, layout) == media
    assert len(mirror.requests) == 1


def test_every_flipped_bit_of_a_record_is_noticed(mirror: Mirror, layout: Layout) -> None:
    mirror.answers["abc"] = web.body(MP4)
    get(mirror, layout)
    record = layout.media_record("abc", SHARD)
    whole = record.read_bytes()
    for bit in range(0, 8 * len(whole), 5):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        record.write_bytes(damaged)
        with pytest.raises(IntegrityError, match=r"audit --repair|Delete it"):
            get(mirror, layout)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"asked": "x", "state": "gone"}'])
def test_a_damaged_record_is_told_not_guessed(
    mirror: Mirror, layout: Layout, content: bytes
) -> None:
    record = layout.media_record("abc", SHARD)
    record.parent.mkdir(parents=True)
    record.write_bytes(content)
    with pytest.raises(IntegrityError, match="Delete it"):
        get(mirror, layout)
    assert mirror.requests == []


def test_a_record_cannot_name_a_file_elsewhere(mirror: Mirror, layout: Layout) -> None:
    mirror.answers["abc"] = web.body(MP4)
    get(mirror, layout)
    record = layout.media_record("abc", SHARD)
    whole = json.loads(record.read_bytes())["record"]
    for write in (
        encode_media_record,
        readable_json,
    ):  # as this release writes it, and as earlier ones did
        record.write_bytes(write({**whole, "suffix": "/../../../x"}))
        with pytest.raises(IntegrityError, match="not a media record"):
            get(mirror, layout)
    record.write_bytes(encode_media_record(whole).replace(b'".mp4"', b'"/../../../x"'))
    with pytest.raises(IntegrityError, match="not a media record"):
        get(mirror, layout)


@pytest.mark.parametrize("video_id", ["../x", "a/b", "", "a b", "a" * 65, "x\n", "%2e%2e"])
def test_hostile_ids_are_refused_before_anything_is_asked(
    mirror: Mirror, layout: Layout, video_id: str
) -> None:
    with pytest.raises(ValueError, match="a video id is 1 to 64"):
        get(mirror, layout, video_id)
    assert mirror.requests == []
    assert files_below(layout.root) == []


# Other names


def test_a_site_is_asked_for_the_next_name_only_where_it_has_not_the_first(
    mirror: Mirror, layout: Layout
) -> None:
    alternative_ids = ("abc", "its copy")
    mirror.answers["its%20copy"] = web.body(MP4)
    media = fetch(
        "abc", layout=layout, shard=SHARD, source=source_at(mirror), alternative_ids=alternative_ids
    )
    assert [path for path, _ in mirror.requests] == ["/abc", "/its%20copy"]
    assert media.path == layout.media_file("abc", SHARD, ".mp4")
    assert media.facts["asked_as"] == "its copy"
    assert (
        fetch(
            "abc",
            layout=layout,
            shard=SHARD,
            source=source_at(mirror),
            alternative_ids=alternative_ids,
        )
        == media
    )
    assert len(mirror.requests) == 2
    mirror.answers["abc"] = web.body(OTHER)
    layout.media_record("abc", SHARD).unlink()
    assert (
        "asked_as"
        not in fetch(
            "abc",
            layout=layout,
            shard=SHARD,
            source=source_at(mirror),
            alternative_ids=alternative_ids,
        ).facts
    )


def test_a_failing_site_is_not_asked_for_another_name(mirror: Mirror, layout: Layout) -> None:
    mirror.answers["abc"] = web.status(500)
    with pytest.raises(VideoError, match=":server_error ") as failed:
        fetch(
            "abc",
            layout=layout,
            shard=SHARD,
            source=source_at(mirror, 1),
            alternative_ids=("abc", "copy"),
        )
    assert failed.value.video_id == "abc"
    assert {path for path, _ in mirror.requests} == {"/abc"}


def test_a_video_gone_under_every_name_is_gone(mirror: Mirror, layout: Layout) -> None:
    with pytest.raises(VideoError, match=r"asked for copy: ") as gone:
        fetch(
            "abc",
            layout=layout,
            shard=SHARD,
            source=source_at(mirror),
            alternative_ids=("abc", "copy"),
        )
    assert (gone.value.video_id, gone.value.status.reason) == ("abc", "not_found")
    assert [path for path, _ in mirror.requests] == ["/abc", "/copy"]


# Folder sources


def folder_source(tmp_path: Path, **files: bytes) -> SourceSettings:
    folder = tmp_path / "videos"
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".").replace("dash", "-")).write_bytes(content)
    return SourceSettings(str(folder))


@pytest.mark.parametrize(
    ("video_id", "name"),
    [("abc", "abc__mp4"), ("-abc", "dashabc__webm"), ("abc", "abc__MKV"), ("abc", "abc__ogv")],
)
def test_a_folder_file_is_used_in_place(
    layout: Layout, tmp_path: Path, video_id: str, name: str
) -> None:
    source = folder_source(tmp_path, **{name: MKV, "abcd__mp4": MP4})
    media = fetch(video_id, layout=layout, shard=SHARD, source=source)
    assert media.path.name == name.replace("__", ".").replace("dash", "-")
    assert media.path.parent == source.folder
    assert media.sha256 == hashlib.sha256(MKV).hexdigest()
    assert files_below(layout.media_folder(SHARD)) == [layout.media_record(video_id, SHARD).name]
    assert str(tmp_path) not in layout.media_record(video_id, SHARD).read_text()
    assert fetch(video_id, layout=layout, shard=SHARD, source=source) == media


@pytest.mark.parametrize(
    ("alternative_ids", "name"),
    [((), "v_abc__mp4"), (("a name of it",), "a name of it__webm"), (("x", "y"), "y__AVI")],
)
def test_a_folder_may_call_it_by_another_name(
    layout: Layout, tmp_path: Path, alternative_ids: tuple[str, ...], name: str
) -> None:
    source = folder_source(tmp_path, **{name: MKV})
    media = fetch("abc", layout=layout, shard=SHARD, source=source, alternative_ids=alternative_ids)
    assert media.path.name == name.replace("__", ".")
    assert (
        fetch("abc", layout=layout, shard=SHARD, source=source, alternative_ids=alternative_ids)
        == media
    )
    (tmp_path / "videos" / "abc.mp4").write_bytes(MP4)
    layout.media_record("abc", SHARD).unlink()
    assert (
        fetch(
            "abc", layout=layout, shard=SHARD, source=source, alternative_ids=alternative_ids
        ).path.name
        == "abc.mp4"
    )


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"abcd__mp4": MP4, "xabc__mp4": MP4, "abc__txt": MP4, "abc": MP4}, "not_found"),
        ({"abc__mp4": HTML}, "not_a_video"),
        ({"abc__mp4": b""}, "not_a_video"),
        ({"abc__mp4": b"sorry"}, "not_a_video"),
        ({"abc__mp4": b"", "abc__mkv": b"\1\2\3"}, "not_a_video"),
    ],
)
def test_a_folder_without_the_video(
    layout: Layout, tmp_path: Path, files: dict[str, bytes], reason: str
) -> None:
    with pytest.raises(VideoError, match=f":{reason} "):
        fetch("abc", layout=layout, shard=SHARD, source=folder_source(tmp_path, **files))


# This machine's faults

CHILD = """
import sys
from pathlib import Path
from pipeline.download.fetch import SourceSettings, fetch
from storage.features.media_records import encode_media_record
from storage.base.fingerprint import readable_json
from storage.base.paths import Layout
root, template = sys.argv[1:]
source = SourceSettings(template, attempts=1, backoff_seconds=0)
print(fetch("abc", layout=Layout(Path(root), "phd2"), shard=3, source=source).size_bytes)
"""
LIMITED = (
    "import resource, signal\nresource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n" + CHILD
)


def test_a_full_disk_is_the_machines_matter_and_records_nothing(
    mirror: Mirror, tmp_path: Path
) -> None:
    mirror.answers["abc"] = web.body(MP4)
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "data"), mirror.template]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"{DiskFull.__module__}.DiskFull: no room to write ")
    assert f"it needs {len(MP4):,} bytes" in last
    assert not [name for name in files_below(tmp_path / "data") if name.endswith(".json")]


def test_a_folder_that_cannot_be_made_is_the_machines_matter(
    mirror: Mirror, layout: Layout
) -> None:
    mirror.answers["abc"] = web.body(MP4)
    layout.media_folder(SHARD).parent.mkdir(parents=True)
    layout.media_folder(SHARD).write_bytes(b"a file where a folder should be")
    with pytest.raises(SystemicFault, match="run the same command again"):
        get(mirror, layout)
    assert mirror.requests == []
