"""Datasets published as a folder of small files, kept as the bytes of one ZIP.

The ZIP is made here from a folder, or comes from a site. The same files give the same bytes, so a
changed folder is noticed. Files are read from the ZIP one by one, under size limits, and are never
unpacked to disk.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.datasets.parsing.parsed_dataset import quote_value
from storage.base.errors import SettingsError

MAX_BYTES = 256 * 1024 * 1024
"""Of all files together: the largest such dataset, YouTube Highlights, has 10 MB."""
_FIRST_DAY = (1980, 1, 1, 0, 0, 0)
"""The modification time of every file in a ZIP; the first that a ZIP can state."""


def zip_folder(folder: Path, pattern: str) -> bytes:
    """An uncompressed ZIP of the files below `folder` that match `pattern`.

    The regular expression must match the whole path relative to `folder`. Files are sorted by
    path. Raises `SettingsError` if a file cannot be read, or none matches.
    """
    try:
        names = sorted(list_matching_files(folder, pattern))
        # The limit is checked before any file is read into memory.
        total = sum((folder / name).stat().st_size for name in names)
        if total > MAX_BYTES:
            raise SettingsError(
                (f"{folder} has {total:,} bytes of annotations, above the limit of {MAX_BYTES:,}",)
            )
        return zip_files((name, (folder / name).read_bytes()) for name in names)
    except OSError as error:
        raise SettingsError(
            (f"annotations in {folder} cannot be read: {error}. Correct the path.",)
        ) from error


def list_file_names(folder: Path, pattern: str) -> bytes:
    """The sorted paths of the matching files, one per line. Raises as `list_matching_files`."""
    names = sorted(list_matching_files(folder, pattern))
    return "".join(f"{name}\n" for name in names).encode()


def list_matching_files(folder: Path, pattern: str) -> list[str]:
    """Paths relative to `folder` of the files whose whole path matches.

    Raises `SettingsError` if there is none.
    """
    if not folder.is_dir():
        raise SettingsError((f"annotation folder {folder} does not exist. Correct the path.",))
    wanted = re.compile(pattern)
    matching: list[str] = []
    others: list[str] = []
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if not wanted.fullmatch(name):
            others.append(name)
        elif path.is_file():
            matching.append(name)
    if not matching:
        # Only now, because is_file() is slow for the hundreds of thousands of files of DHF1K.
        files = filter(lambda name: (folder / name).is_file(), others)
        content = _describe_content(files)
        raise SettingsError((f"{folder} holds {_none_of_the_files(pattern)}; {content}",))
    return matching


def zip_files(files: Iterable[tuple[str, bytes]]) -> bytes:
    """These files as a ZIP; the same files in the same order give the same bytes."""
    packed = io.BytesIO()
    # Not compressed, because another version of zlib may give other bytes.
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files:
            archive.writestr(zipfile.ZipInfo(name, _FIRST_DAY), content)
    return packed.getvalue()


def read_zip(source: bytes, pattern: str, dataset: str) -> Mapping[str, bytes]:
    """Path → content of every file in the ZIP whose whole path matches, sorted by path.

    If a site's archive puts everything in one folder, that folder is left out of the paths.
    Raises `SettingsError` if the ZIP is damaged or invalid, or no file matches.
    """
    wanted = re.compile(pattern)
    try:
        with zipfile.ZipFile(io.BytesIO(source)) as archive:
            paths = _relative_paths(archive, wanted)
            matching = [path for path in sorted(paths) if wanted.fullmatch(path)]
            members = {path: archive.getinfo(paths[path]) for path in matching}
            if sum(info.file_size for info in members.values()) > MAX_BYTES:
                raise SettingsError(
                    (f"the archive of {dataset} holds more than {MAX_BYTES:,} bytes",)
                )
            # read() checks length and CRC against the directory, whose lengths were just limited.
            contents = {path: archive.read(info) for path, info in members.items()}
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise SettingsError(
            (f"the annotations of {dataset} are not a readable ZIP: {error}",)
        ) from error
    if not contents:
        raise SettingsError(
            (
                f"the archive of {dataset} holds {_none_of_the_files(pattern)}; "
                f"{_describe_content(paths)}",
            )
        )
    return contents


def _relative_paths(archive: zipfile.ZipFile, wanted: re.Pattern[str]) -> dict[str, str]:
    """Path → name of the member: without the folder that a site may have put everything in."""
    names = []
    for info in archive.infolist():
        if not info.is_dir():
            names.append(info.filename)
    has_folder = not any(map(wanted.fullmatch, names))
    folder = _common_folder(names) if has_folder else ""
    # GitHub, for one, puts everything into `<repository>-<branch>/`.
    return {name.removeprefix(folder): name for name in names}


def _common_folder(names: list[str]) -> str:
    """`folder/` if all names begin with it, else the empty string."""
    folders = {name.partition("/")[0] for name in names}
    return f"{folders.pop()}/" if len(folders) == 1 else ""


def _none_of_the_files(pattern: str) -> str:
    return f"none of the published files, whose paths look like {pattern}"


def _describe_content(names: Iterable[str]) -> str:
    """The end of a message: what a folder or a ZIP holds instead."""
    present = sorted(names)
    if not present:
        return "it holds no file"
    return f"it holds {len(present):,} files, such as {quote_value(present[0])}"
