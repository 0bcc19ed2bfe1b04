"""Whose a file of a folder is, which of several is taken, and when a verdict is about other files
than are there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.download.fetch import SourceSettings, fetch
from pipeline.download.folder.outdated import outdated_ids
from pipeline.download.folder.video_folder import VideoFolder, file_names, find_files, video_folder
from pipeline.media.media_file import Media, read_record
from storage.base.errors import SystemicFault, VideoError
from storage.base.paths import Layout
from storage.base.video_status import REASONS, State, VideoStatus, failure_status
from tests.support.faulty_server import MKV, MP4

ID = "abc-DEF_123"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    return folder


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "data", "phd2")


def named(folder: Path, *names: str) -> list[str]:
    for name in names:
        (folder / name).write_bytes(MP4)
    return [
        one.path.name for one in VideoFolder(folder).candidates(file_names(ID, ("other name",)))
    ]


@pytest.mark.parametrize(
    "name",
    [
        *(
            f"{ID}{suffix}"
            for suffix in (".mp4", ".MP4", ".Mp4", ".3gp", ".wmv", ".mpg", ".MPEG", ".m2ts", ".MTS")
        ),
        *(f"{ID}{suffix}" for suffix in (".gif", ".ogv", ".vob", ".rmvb", ".asf", ".f4v")),
        f"v_{ID}.mp4",
        "other name.webm",
        f"A title [{ID}].mp4",
        f"[live] 100% [{ID}].WebM",
        f"title-[{ID}].mkv",
        f"Caf\udce9 [{ID}].mp4",
        "Title [other name].mp4",
    ],
)
def test_names_that_are_the_videos(folder: Path, name: str) -> None:
    assert named(folder, name) == [name]


@pytest.mark.parametrize(
    "name",
    [
        f"{ID}.txt", f"{ID}x.mp4", f"x{ID}.mp4", ID.lower() + ".mp4", f"[{ID}] title.mp4", f"{ID}", f"._{ID}.mp4",
        f"Title [{ID}].mp4.part", f"Title [{ID}].f137.mp4", f"{ID}.temp.mp4", f"Title [{ID}x].mp4", f".{ID}.mp4",
    ],
)  # fmt: skip
def test_names_that_are_not(folder: Path, name: str) -> None:
    assert named(folder, name) == []


def test_short_names_are_not_looked_for_in_brackets(folder: Path) -> None:
    for name in ("Clip [720].mp4", "v_0720.mkv", "0720.webm", "Clip [0720].mp4"):
        (folder / name).write_bytes(MP4)
    listed = VideoFolder(folder)
    assert [one.path.name for one in listed.candidates(file_names("0720", ("720",)))] == [
        "0720.webm",
        "v_0720.mkv",
    ]
    assert (
        listed.describe_missing(file_names("0721", ()))
        == "the folder has no 0721 with a suffix of videos"
    )


def test_other_commands_find_the_same_files(folder: Path, tmp_path: Path) -> None:
    named(folder, f"T [{ID}].MP4", f"{ID}.M2TS")
    found = find_files([tmp_path / "absent", folder], ID)
    assert [path.name for path in found] == [f"{ID}.M2TS", f"T [{ID}].MP4"]


def test_of_several_files_the_order_is_stated(folder: Path) -> None:
    order = [
        f"{ID}.mp4", f"{ID}.mkv", f"{ID}.MKV", f"{ID}.wmv", "other name.mp4", f"v_{ID}.mp4",
        f"A [{ID}].mp4", f"B [{ID}].mp4", f"A [{ID}].webm",
    ]  # fmt: skip
    assert sorted(named(folder, *reversed(order))) == sorted(order)
    assert named(folder)[:2] == [f"{ID}.mp4", f"{ID}.MKV"], "then the alphabet, capitals first"
    assert [name for name in named(folder) if name != f"{ID}.MKV"] == [
        name for name in order if name != f"{ID}.MKV"
    ]


def test_what_is_no_file_is_passed_over(folder: Path) -> None:
    (folder / f"{ID}.mp4").mkdir()
    (folder / f"{ID}.mkv").symlink_to(folder / "nowhere")
    (folder / "elsewhere").write_bytes(MP4)
    (folder / f"{ID}.webm").symlink_to(folder / "elsewhere")
    os.mkfifo(folder / f"{ID}.mov")
    assert named(folder) == [f"{ID}.webm"]


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ("", f"the folder has no {ID} with a suffix of videos, nor '... [{ID}]' with one"),
        (f"{ID}.mp4.part", f"; it has {ID}.mp4.part, an unfinished download"),
        (f"T [{ID}].f137.mp4", f"; it has T [{ID}].f137.mp4, an unfinished download"),
        (f"{ID}.crdownload", f"; it has {ID}.crdownload, an unfinished download"),
        (f"{ID}.srt", f"; it has {ID}.srt, not a video by its name"),
        (
            f"T [{ID}].info.json",
            f"the folder has no {ID} with a suffix of videos, nor '... [{ID}]' with one",
        ),
    ],
)
def test_a_video_that_is_not_there_is_told_with_what_is(
    folder: Path, there: str, told: str
) -> None:
    if there:
        (folder / there).touch()
    assert VideoFolder(folder).describe_missing(file_names(ID, ())).endswith(told)


def test_a_folder_is_listed_again_when_it_has_changed(folder: Path) -> None:
    names = file_names(ID, ())
    os.utime(folder, ns=(0, 10**18))
    first = video_folder(folder)
    assert first.candidates(names) == []
    assert video_folder(folder) is first, "it has not changed for long"
    (folder / f"{ID}.mp4").write_bytes(MP4)
    assert [one.path.name for one in video_folder(folder).candidates(names)] == [f"{ID}.mp4"]


def test_a_folder_that_cannot_be_listed_is_the_machines_matter(tmp_path: Path) -> None:
    with pytest.raises(SystemicFault, match="cannot be listed: No such file"):
        video_folder(tmp_path / "absent")


def get(folder: Path, layout: Layout, *, retry: bool = False) -> Media:
    return fetch(ID, layout=layout, shard=0, source=SourceSettings(str(folder)), retry=retry)


def is_outdated(source: Path | str, layout: Layout, status: VideoStatus) -> bool:
    found = outdated_ids(
        {ID: status}, layout=layout, shard=0, source=SourceSettings(str(source)), alternative_ids={}
    )
    return list(found) == [ID]


def refused(folder: Path, layout: Layout, *, retry: bool = False) -> VideoStatus:
    with pytest.raises(VideoError) as error:
        get(folder, layout, retry=retry)
    return error.value.status


def test_a_video_that_was_not_there_is_asked_for_once_it_is(folder: Path, layout: Layout) -> None:
    status = refused(folder, layout)
    assert not is_outdated(folder, layout, status)
    (folder / f"T [{ID}].MP4").write_bytes(MP4)
    assert is_outdated(folder, layout, status)
    assert get(folder, layout).path.name == f"T [{ID}].MP4"


@pytest.mark.parametrize(
    "reason", ["unreadable", "too_short", "bad_timestamps", "too_many_pixels", "hang", "crash"]
)
def test_a_verdict_of_the_decoder_is_about_the_bytes_it_saw(
    folder: Path, layout: Layout, reason: str
) -> None:
    path = folder / f"{ID}.mp4"
    path.write_bytes(MP4)
    get(folder, layout)
    status = failure_status(reason, "some detail")
    assert not is_outdated(folder, layout, status)
    path.rename(folder / f"T [{ID}].mp4")
    assert not is_outdated(folder, layout, status), "another name is not another file"
    (folder / f"T [{ID}].mp4").write_bytes(MP4 + b"\0")
    assert is_outdated(folder, layout, status)
    before = read_record(layout.media_record(ID, 0))
    assert before is not None
    media = get(folder, layout, retry=True)
    assert media.size_bytes == len(MP4) + 1
    assert media.facts["replaces_sha256"] == before.sha256
    assert not is_outdated(folder, layout, status)


def test_a_file_that_is_put_beside_a_refused_one_comes_first(folder: Path, layout: Layout) -> None:
    (folder / f"{ID}.mp4").write_bytes(MP4)
    get(folder, layout)
    (folder / f"T [{ID}].mkv").write_bytes(MKV)
    assert is_outdated(folder, layout, failure_status("unreadable"))
    assert get(folder, layout).path.name == f"{ID}.mp4", (
        "what was taken stays, unless somebody asks again"
    )
    media = get(folder, layout, retry=True)
    assert media.path.name == f"T [{ID}].mkv"
    assert (media.facts["taken"], media.facts["passed_over"]) == (f"T [{ID}].mkv", [f"{ID}.mp4"])
    assert not is_outdated(folder, layout, failure_status("unreadable"))
    assert get(folder, layout) == media == get(folder, layout, retry=True)


def test_a_file_of_another_type_does_not_hide_a_video(folder: Path, layout: Layout) -> None:
    (folder / f"{ID}.mp4").write_bytes(b"<html>" + b" " * 100)
    (folder / f"{ID}.mkv").write_bytes(MKV)
    assert get(folder, layout).path.name == f"{ID}.mkv"


def test_another_folder_is_looked_into(folder: Path, layout: Layout, tmp_path: Path) -> None:
    (folder / f"{ID}.mp4").write_bytes(b"<html>" + b" " * 100)
    status = refused(folder, layout)
    copies, others, empty = (tmp_path / name for name in ("copies", "others", "empty"))
    for other in (copies, others, empty):
        other.mkdir()
    shutil.copy2(folder / f"{ID}.mp4", copies)
    (others / f"{ID}.mp4").write_bytes(MP4)
    assert not is_outdated(copies, layout, status), "the same file"
    assert not is_outdated(empty, layout, status)
    assert is_outdated(others, layout, status)
    assert get(others, layout, retry=True).path.parent == others


def test_a_site_is_asked_for_what_a_folder_lacked_and_a_folder_for_what_a_site_lacked(
    folder: Path, layout: Layout
) -> None:
    site = "http://127.0.0.1:9/{id}"
    assert is_outdated(site, layout, refused(folder, layout))
    (folder / f"{ID}.mp4").write_bytes(MP4)
    get(folder, layout)
    assert is_outdated(site, layout, failure_status("unreadable"))
    for reason in ("removed", "private", "network"):
        assert not is_outdated(site, layout, failure_status(reason))
        layout.media_record(ID, 0).unlink(missing_ok=True)
        assert is_outdated(folder, layout, failure_status(reason))
    assert not is_outdated(folder, layout, failure_status("requested")), "it is asked for anyway"


OLDER: list[tuple[dict[str, Any], bool]] = [
    ({"reason": "not_a_video", "detail": "x", "state": "rejected", "taxonomy": 4}, True),
    (
        {"state": "done", "size_bytes": len(MP4), "suffix": ".mp4", "facts": {}, "sha256": "same"},
        False,
    ),
    (
        {
            "state": "done",
            "size_bytes": len(MP4),
            "suffix": ".mp4",
            "facts": {},
            "sha256": "0" * 64,
        },
        True,
    ),
    (
        {
            "state": "done",
            "size_bytes": len(MP4) - 1,
            "suffix": ".mp4",
            "facts": {},
            "sha256": "0" * 64,
        },
        True,
    ),
]


def test_another_file_makes_no_features_beside_those_of_the_first(
    folder: Path, layout: Layout
) -> None:
    path = folder / f"{ID}.mp4"
    path.write_bytes(MP4)
    first = get(folder, layout)
    os.utime(path, ns=(0, 0))
    assert get(folder, layout) == first, "the same bytes at another time"
    path.rename(folder / f"T [{ID}].mp4")
    path.write_bytes(MP4 + b"\0")
    assert get(folder, layout).path.name == f"T [{ID}].mp4", "the same bytes under another name"
    (folder / f"T [{ID}].mp4").unlink()
    status = refused(folder, layout)
    assert status.reason == "altered"
    assert (
        f"{ID}.mp4 has {len(MP4) + 1:,} bytes, and is not the file that was read before"
        in status.detail
    )
    assert not is_outdated(folder, layout, status), "a person decides"
    assert get(folder, layout, retry=True).facts["replaces_sha256"] == first.sha256


def test_a_file_that_was_altered_unseen_is_read_anew_on_a_retry(
    folder: Path, layout: Layout
) -> None:
    path = folder / f"{ID}.mp4"
    path.write_bytes(MP4)
    times = path.stat()
    assert not get(folder, layout).was_hashed_earlier
    path.write_bytes(MP4[:-1] + b"!")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert get(folder, layout).was_hashed_earlier, "who decodes it hashes it meanwhile"
    assert not is_outdated(folder, layout, failure_status("altered"))
    media = get(folder, layout, retry=True)
    assert (media.sha256, media.was_hashed_earlier) == (
        hashlib.sha256(MP4[:-1] + b"!").hexdigest(),
        False,
    )


@pytest.mark.parametrize(("record", "expected"), OLDER)
def test_records_of_older_releases_say_less(
    folder: Path, layout: Layout, record: dict[str, Any], expected: bool
) -> None:
    path = folder / f"{ID}.mp4"
    path.write_bytes(MP4)
    sha256 = get(folder, layout).sha256
    record_path = layout.media_record(ID, 0)
    filled = {**record, "sha256": sha256} if record.get("sha256") == "same" else record
    record_path.write_text(json.dumps({"asked": "folder", **filled}))
    assert is_outdated(folder, layout, failure_status("unreadable")) == expected
    assert get(folder, layout, retry=True).sha256 == sha256
    assert not is_outdated(folder, layout, failure_status("unreadable")), (
        "the record says it from now on"
    )


def test_what_was_downloaded_stays_when_a_folder_is_named(folder: Path, layout: Layout) -> None:
    (folder / f"{ID}.mp4").write_bytes(MP4)
    get(folder, layout)
    kept = layout.media_file(ID, 0, ".mkv")
    kept.write_bytes(MKV)
    sha256 = hashlib.sha256(MKV).hexdigest()
    record = {
        "asked": "https://host/{id}",
        "state": "done",
        "size_bytes": len(MKV),
        "suffix": ".mkv",
        "facts": {},
    }
    layout.media_record(ID, 0).write_text(json.dumps({**record, "sha256": sha256}))
    assert get(folder, layout).path == kept
    assert is_outdated(folder, layout, failure_status("unreadable"))
    assert get(folder, layout, retry=True).path == folder / f"{ID}.mp4"
    assert not is_outdated(folder, layout, failure_status("unreadable"))
    (folder / f"{ID}.mp4").unlink()
    layout.media_record(ID, 0).write_text(json.dumps({**record, "sha256": sha256}))
    assert get(folder, layout, retry=True).path == kept, "the folder has none, and ours is here"


def test_a_file_that_is_still_being_copied_waits(
    folder: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / f"{ID}.mp4"
    path.write_bytes(MP4)

    def grows(path: Path) -> str:
        with path.open("ab") as file:
            file.write(b"more")
        return "0" * 64

    monkeypatch.setattr("pipeline.download.folder.from_folder.digest", grows)
    status = refused(folder, layout)
    assert (status.state, status.reason) == (State.PENDING, "network")
    assert "is it still being copied?" in status.detail
    assert is_outdated(folder, layout, status), "the next run looks at it by itself"


def test_every_advice_that_asks_for_an_action_names_the_command() -> None:
    for name, reason in REASONS.items():
        asks = not reason.advice.startswith("nothing to do")
        assert not asks or f"--retry {name}" in reason.advice or "run again" in reason.advice, name
