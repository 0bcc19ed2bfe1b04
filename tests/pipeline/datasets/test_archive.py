"""Folders and ZIPs of annotations: same files, same bytes; a site's archive reads like a folder;
limits hold.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from pipeline.datasets.parsing import archive
from pipeline.datasets.parsing.archive import list_file_names, read_zip, zip_files, zip_folder
from storage.base.errors import SettingsError

PATTERN = r"[a-z]+/[^/]+\.json"
FILES = {"a/1.json": b"[1]", "b/-2.json": b"[2]", "b/clip.mp4": b"\0" * 1000, "readme.md": b"text"}
WANTED = {"a/1.json": b"[1]", "b/-2.json": b"[2]"}


def folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def test_a_folder_is_packed_the_same_whatever_else_lies_there(tmp_path: Path) -> None:
    packed = zip_folder(folder(tmp_path / "one", FILES), PATTERN)
    again = zip_folder(folder(tmp_path / "two", dict(reversed(WANTED.items()))), PATTERN)
    assert packed == again
    assert dict(read_zip(packed, PATTERN, "it")) == WANTED


def test_only_names_are_listed_where_only_names_count(tmp_path: Path) -> None:
    assert list_file_names(folder(tmp_path, FILES), PATTERN) == b"a/1.json\nb/-2.json\n"


def test_an_archive_with_all_below_one_folder_reads_like_the_folder() -> None:
    site = zip_files((f"dataset-master/{name}", content) for name, content in FILES.items())
    assert dict(read_zip(site, PATTERN, "it")) == WANTED
    compressed = io.BytesIO()
    with zipfile.ZipFile(compressed, "w", zipfile.ZIP_DEFLATED) as written:
        written.mkdir("dataset-master")
        for name, content in FILES.items():
            written.writestr(f"dataset-master/{name}", content)
    assert dict(read_zip(compressed.getvalue(), PATTERN, "it")) == WANTED


def test_a_bomb_is_refused_unopened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", 1000)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as written:
        written.writestr("a/1.json", b"0" * 1001)
    with pytest.raises(SettingsError, match="holds more than 1,000 bytes"):
        read_zip(bomb.getvalue(), PATTERN, "it")


def test_damage_is_told() -> None:
    whole = bytearray(zip_files(FILES.items()))
    whole[whole.index(b"[1]")] ^= 1
    with pytest.raises(
        SettingsError, match="the annotations of it are not a readable ZIP: Bad CRC-32"
    ):
        read_zip(bytes(whole), PATTERN, "it")


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"does not exist\. Correct the path"):
        zip_folder(tmp_path / "no", PATTERN)
    with pytest.raises(
        SettingsError, match=r"holds none of the published files, .*; it holds no file"
    ):
        zip_folder(tmp_path, PATTERN)
    (tmp_path / "other.txt").touch()
    with pytest.raises(
        SettingsError, match=r"the published files, .*; it holds 1 files, such as 'other\.txt'"
    ):
        zip_folder(tmp_path, PATTERN)
    with pytest.raises(
        SettingsError, match=r"holds none of the published files, .*; it holds 1 files, such as 'x'"
    ):
        read_zip(zip_files([("x", b"")]), PATTERN, "it")
