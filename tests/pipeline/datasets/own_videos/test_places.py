"""What an entry of a list may be: a file, a public address, an id; everything else is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.datasets.own_videos.places import (
    Place,
    UnusableEntry,
    file_place,
    is_private_host,
    parse_entry,
)
from pipeline.datasets.own_videos.times import parse_seconds


@pytest.mark.parametrize(
    "text",
    [
        "https://www.youtube.com/watch?v=16WT8mzB-bM",
        "http://youtube.com/watch?feature=share&v=16WT8mzB-bM&t=30s",
        "https://youtu.be/16WT8mzB-bM?t=3",
        "https://m.youtube.com/shorts/16WT8mzB-bM",
        "https://www.youtube.com/embed/16WT8mzB-bM#x",
        "https://music.youtube.com/watch?v=16WT8mzB-bM&list=RD1",
        "youtube.com/watch?v=16WT8mzB-bM",
        "youtu.be/16WT8mzB-bM",
    ],
)
def test_every_spelling_of_a_youtube_video_is_one(tmp_path: Path, text: str) -> None:
    place = parse_entry(text, tmp_path)
    assert place == Place("address", "https://www.youtube.com/watch?v=16WT8mzB-bM", "16WT8mzB-bM")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("file:///etc/passwd", "file: addresses are not asked"),
        ("FILE:/etc/passwd", "file: addresses are not asked"),
        ("ftp://host.org/a.mp4", "ftp: addresses are not asked"),
        ("javascript:alert(1)", "javascript: addresses are not asked"),
        ("data:video/mp4;base64,AA", "data: addresses are not asked"),
        ("https://me:secret@host.org/a.mp4", "user name or password"),
        ("https:///a.mp4", "names no host"),
        ("http://host.org:99999/a.mp4", "not an address"),
        ("http://host.org/a b.mp4", "no blanks"),
        ("http://localhost/a.mp4", "private network"),
        ("http://127.0.0.1:80/a.mp4", "private network"),
        ("http://127.1/a.mp4", "private network"),
        ("http://2130706433/a.mp4", "private network"),
        ("http://0x7f.1/a.mp4", "private network"),
        ("http://[::1]/a.mp4", "private network"),
        ("http://[::ffff:10.0.0.1]/a.mp4", "private network"),
        ("http://10.1.2.3/a.mp4", "private network"),
        ("http://169.254.169.254/latest", "private network"),
        ("http://printer/a.mp4", "private network"),
        ("http://nas.local/a.mp4", "private network"),
        ("three words here, not an id!", "neither an http"),
        ("../../etc/passwd", "neither an http"),
        ("https://host.org/" + "a" * 3000, "at most 2000 characters"),
    ],
)
def test_what_is_no_video_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UnusableEntry, match=told):
        parse_entry(text, tmp_path)


def test_private_addresses_are_asked_where_a_setting_allows_it(tmp_path: Path) -> None:
    place = parse_entry("http://127.0.0.1:8000/a.mp4", tmp_path, allow_private=True)
    assert place.text == "http://127.0.0.1:8000/a.mp4"


@pytest.mark.parametrize("host", ["example.org", "1.1.1.1", "vimeo.com.", "2606:4700::1111"])
def test_public_hosts_are_public(host: str) -> None:
    assert not is_private_host(host)


def test_paths_start_at_the_list_and_ids_may_name_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "clip7.webm").touch()
    assert parse_entry("sub/a.MP4", tmp_path).text == str(tmp_path / "sub" / "a.MP4")
    assert parse_entry("/videos/b.mkv", tmp_path).text == "/videos/b.mkv"
    assert parse_entry("clip7", tmp_path).text == str(tmp_path / "clip7.webm")
    assert parse_entry("clip8", tmp_path) == Place("id", "clip8", "clip8")


def test_a_name_as_yt_dlp_writes_it_has_a_title_and_an_id() -> None:
    place = file_place(Path("/v/A [great] day [16WT8mzB-bM].mp4"))
    assert (place.wanted_id, place.title) == ("16WT8mzB-bM", "A [great] day")
    assert file_place(Path("/v/plain.mp4")).title == ""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("12.5", 12.5),
        ("12,5", 12.5),
        ("12.5s", 12.5),
        ("1e2", 100.0),
        ("1:02.5", 62.5),
        ("90:00", 5400.0),
        ("1:02:03", 3723.0),
        ("00:00:07.25", 7.25),
    ],
)
def test_times_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "-1", "nan", "inf", "1:60", "1:75:00", "a:b", "1e999", "1:2:3:4"]
)
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="seconds, mm:ss or h:mm:ss"):
        parse_seconds(text)
