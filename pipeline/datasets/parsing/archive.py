"""A dataset published as a folder of small files, held as the bytes of one ZIP: packed here, or as
a site packs it.

The same files give the same bytes, so that a changed folder is seen. Members are read one by one,
under limits, and nothing is ever unpacked to disk. Refuses to know what the files mean.
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
"""Of all members together: the largest such dataset, YouTube Highlights, has 10 MB."""
_FIRST_DAY = (1980, 1, 1, 0, 0, 0)


def zip_folder(folder: Path, pattern: str) -> bytes:
    """An uncompressed ZIP of the files below `folder` whose path in it matches `pattern` in full,
    sorted by path.

    Raises `SettingsError` if it cannot be read, or holds no such file.
    """
    try:
        found = sorted(list_matching_files(folder, pattern))
        total = sum((folder / name).stat().st_size for name in found)
        if total > MAX_BYTES:
            raise SettingsError(
                (f"{folder} has {total:,} bytes of annotations, above the limit of {MAX_BYTES:,}",)
            )
        return zip_files((name, (folder / name).read_bytes()) for name in found)
    except OSError as error:
        raise SettingsError(
            (f"annotations in {folder} cannot be read: {error}. Mend the path.",)
        ) from error


def list_file_names(folder: Path, pattern: str) -> bytes:
    """The sorted paths of such files, one a line; `SettingsError` if there are none."""
    return "".join(f"{name}\n" for name in sorted(list_matching_files(folder, pattern))).encode()


def list_matching_files(folder: Path, pattern: str) -> list[str]:
    """Paths of files below `folder`, in it, that match in full; `SettingsError` if there are
    none.
    """
    if not folder.is_dir():
        raise SettingsError((f"annotation folder {folder} does not exist. Mend the path.",))
    wanted = re.compile(pattern)
    paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    found = [name for name in paths if wanted.fullmatch(name) and (folder / name).is_file()]
    if not found:
        held = _held(name for name in paths if (folder / name).is_file())
        raise SettingsError(
            (
                f"{folder} holds none of the published files, whose paths look like {pattern}; {held}",
            )
        )
    return found


def zip_files(files: Iterable[tuple[str, bytes]]) -> bytes:
    """These files as a ZIP; the same in the same order are the same bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files:
            archive.writestr(zipfile.ZipInfo(name, _FIRST_DAY), content)
    return packed.getvalue()


def read_zip(source: bytes, pattern: str, dataset: str) -> Mapping[str, bytes]:
    """Path → content of every member whose path matches in full, sorted.

    A site's archive puts all below one folder, which is left out of the paths. Raises
    `SettingsError` for what is no ZIP, is damaged, or has no such member.
    """
    wanted = re.compile(pattern)
    try:
        with zipfile.ZipFile(io.BytesIO(source)) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
            top = _common_folder(names)
            if not any(wanted.fullmatch(name) for name in names):
                paths = {name.removeprefix(top): name for name in names}
            else:
                paths = {name: name for name in names}
            members = {
                path: archive.getinfo(paths[path])
                for path in sorted(paths)
                if wanted.fullmatch(path)
            }
            if sum(info.file_size for info in members.values()) > MAX_BYTES:
                raise SettingsError(
                    (f"the archive of {dataset} holds more than {MAX_BYTES:,} bytes",)
                )
            # read() checks length and CRC against what the directory says, which was just limited.
            contents = {path: archive.read(info) for path, info in members.items()}
            held = _held(paths)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise SettingsError(
            (f"the annotations of {dataset} are no ZIP that can be read: {error}",)
        ) from error
    if not contents:
        fault = f"the archive of {dataset} holds none of its files, whose paths look like {pattern}; {held}"
        raise SettingsError((fault,))
    return contents


def _held(names: Iterable[str]) -> str:
    """What is there instead."""
    there = sorted(names)
    return (
        f"it holds {len(there):,} files, such as {quote_value(there[0])}"
        if there
        else "it holds no file"
    )


def _common_folder(names: list[str]) -> str:
    tops = {name.partition("/")[0] for name in names}
    return f"{tops.pop()}/" if len(tops) == 1 else ""
