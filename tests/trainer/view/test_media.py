from __future__ import annotations

import os
from pathlib import Path

import pytest

from storage.base.paths import Layout
from storage.features.media_records import encode_media_record
from trainer.view.media import MediaFile, NoMedia, content_type_of, find_media

ID, SHARDS = "-abc_000001", 1
MP4 = b"\x00\x00\x00\x20ftypisom" + bytes(500)


def found(layout: Layout) -> MediaFile:
    media = find_media(layout, ID, SHARDS)
    assert isinstance(media, MediaFile), media
    return media


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "c" / "sources" / "links").mkdir(parents=True)
    return Layout(tmp_path, "c")


def test_files_are_found_in_every_place(layout: Layout, tmp_path: Path) -> None:
    elsewhere = tmp_path / "holiday film.MP4"
    elsewhere.write_bytes(MP4)
    source = layout.sources / f"{ID}.mp4"
    source.write_bytes(MP4)
    assert found(layout).path == source
    link = layout.sources / "links" / f"{ID}.mkv"
    link.symlink_to(elsewhere)
    assert found(layout).path == link
    downloaded = layout.media_file(ID, 0, ".webm")
    downloaded.parent.mkdir(parents=True)
    downloaded.write_bytes(b"\x1aE\xdf\xa3 webm")
    assert found(layout).path == downloaded
    assert found(layout).content_type == "video/webm"


def test_only_videos_are_sent(layout: Layout) -> None:
    page = layout.sources / f"{ID}.mp4"
    page.write_bytes(b"<!doctype html><script>alert(1)</script>")
    media = find_media(layout, ID, SHARDS)
    assert isinstance(media, NoMedia)
    assert "does not begin like a video" in media.reason
    page.unlink()
    page.symlink_to("/etc/passwd")
    assert isinstance(find_media(layout, ID, SHARDS), NoMedia)
    page.unlink()
    os.mkfifo(page)  # reading it would wait for ever
    assert isinstance(find_media(layout, ID, SHARDS), NoMedia)
    page.unlink()
    page.symlink_to("gone.mp4")
    assert isinstance(find_media(layout, ID, SHARDS), NoMedia)


def test_a_text_that_is_no_id_makes_no_path(layout: Layout) -> None:
    for text in ("../catalog", "a/b", "", "a.mp4", "x" * 65):
        with pytest.raises(ValueError, match="video id"):
            find_media(layout, text, SHARDS)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"asked": "folder", "state": "done"}, "sources/links/<id>.<suffix>"),
        ({"asked": "x", "state": "done"}, "not in the store any more"),
        (
            {"asked": "x", "state": "unavailable", "reason": "private", "detail": "gone"},
            "unavailable:private (gone)",
        ),
    ],
)
def test_the_reason_comes_from_the_record(
    layout: Layout, record: dict[str, object], reason: str
) -> None:
    file = layout.media_record(ID, 0)
    file.parent.mkdir(parents=True)
    file.write_bytes(encode_media_record(record))  # type: ignore[arg-type]
    media = find_media(layout, ID, SHARDS)
    assert isinstance(media, NoMedia)
    assert reason in media.reason


def test_another_file_than_the_recorded_one_is_noted(layout: Layout) -> None:
    file = layout.media_record(ID, 0)
    file.parent.mkdir(parents=True)
    file.write_bytes(encode_media_record({"asked": "folder", "state": "done", "size_bytes": 5}))
    (layout.sources / f"{ID}.mp4").write_bytes(MP4)
    assert "had 5" in found(layout).notes[0]
    file.write_bytes(b"damaged")
    assert "cannot be read" in found(layout).notes[0]


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (MP4, "video/mp4"),
        (b"\x00\x00\x00\x08moov", "video/mp4"),
        (b"\x1aE\xdf\xa3\x01matroska", "video/x-matroska"),
        (b"OggS", "video/ogg"),
        (b"RIFF1234AVI ", "video/x-msvideo"),
        (b"RIFF1234WAVE", None),
        (b"G" + bytes(187) + b"G", "video/mp2t"),
        (b"FLV\x01", "video/x-flv"),
        (b"GIF89a", None),
        (b"", None),
        (b"%PDF-1.7", None),
        (b"<svg xmlns=", None),
    ],
)
def test_types_come_from_the_first_bytes(head: bytes, kind: str | None) -> None:
    assert content_type_of(head) == kind
