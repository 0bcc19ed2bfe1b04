"""Reads a person's cookie file into memory. The file itself is never written, moved or named.

Every line is checked here first, since yt-dlp prints the lines it cannot read.
"""

from __future__ import annotations

import functools
import io
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from storage.base.errors import SystemicFault

_FIRST_LINE = re.compile(r"#( Netscape)? HTTP Cookie File")
_HTTP_ONLY = "#HttpOnly_"
_FIELDS = 7
_EXPIRES = re.compile(r"([0-9]+(\.[0-9]+)?)?")
_SHORTEST_SECRET = 6
"""Shorter values (`1`, `en`) are not secrets, and cutting them out would spoil every message."""


class Jar(io.StringIO):
    """Cookies in memory, where yt-dlp expects a file.

    What a site sets is kept until the process ends.
    """

    def truncate(self, size: int | None = None, /) -> int:
        """Cut, and write on at the cut: yt-dlp does not move the position itself."""
        self.seek(size or 0)
        return super().truncate(size)


@functools.lru_cache(maxsize=4)
def cookie_jar(cookies_file: str) -> Jar:
    """This process's copy of the file.

    Raises SystemicFault, which quotes no line, if the file cannot be used.
    """
    if faults := cookie_faults(cookies_file):
        raise SystemicFault(" ".join(faults))
    return Jar(Path(cookies_file).read_text(encoding="utf-8"))


def cookie_faults(cookies_file: str) -> tuple[str, ...]:
    """Why the file cannot be used, one sentence for each fault, without quoting its content."""
    path = Path(cookies_file)
    try:
        mode = path.stat().st_mode
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        return (f"source cookies_file {cookies_file!r} cannot be read: {error.strerror}.",)
    except UnicodeDecodeError:
        return (f"source cookies_file {cookies_file!r} cannot be read: it is not UTF-8 text.",)
    faults = (*_mode_faults(mode), *_content_faults(lines))
    return tuple(f"source cookies_file {cookies_file!r} {fault}" for fault in faults)


def _mode_faults(mode: int) -> Iterator[str]:
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield "can be read by others; run chmod 600 on it."


def _content_faults(lines: list[str]) -> Iterator[str]:
    first_line = lines[0] if lines else ""
    if not _FIRST_LINE.match(first_line):
        yield "does not begin with '# Netscape HTTP Cookie File'; export it in that format."
    for number, line in enumerate(lines, 1):
        fields = _fields(line)
        if fields and not _is_cookie(fields):
            yield (
                f"has no cookie of {_FIELDS} fields in line {number}; "
                "export it again in Netscape format."
            )


def _is_cookie(fields: list[str]) -> bool:
    return len(fields) == _FIELDS and _EXPIRES.fullmatch(fields[4]) is not None


def _fields(line: str) -> list[str]:
    """The fields of a line; none for a comment or an empty line."""
    # The prefix marks a cookie that scripts of a page cannot read. It looks like a comment.
    line = line.removeprefix(_HTTP_ONLY)
    if line.startswith("#") or not line.strip():
        return []
    return line.split("\t")


def cookie_values(cookies_file: str) -> tuple[str, ...]:
    """The values in this process's copy, to cut them out of messages; none without a file."""
    if not cookies_file:
        return ()
    values = []
    for line in cookie_jar(cookies_file).getvalue().splitlines():
        fields = _fields(line)
        if len(fields) == _FIELDS and len(fields[6]) >= _SHORTEST_SECRET:
            values.append(fields[6])
    return tuple(values)
