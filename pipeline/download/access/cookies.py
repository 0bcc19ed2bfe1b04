"""A person's cookie file → this process's own copy in memory. The file itself is never written,
moved or named.

Every line is checked here first, since yt-dlp prints the lines it cannot read. Knows nothing of
sites and requests.
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
"""Shorter values (`1`, `en`) are no secrets, and cutting them out would spoil every message."""


class Jar(io.StringIO):
    """Cookies in memory, in the place where yt-dlp expects a file. What a site sets is kept until
    the process ends.
    """

    def truncate(self, size: int | None = None, /) -> int:
        """Cut, and go on writing at the cut: yt-dlp forgets to."""
        self.seek(size or 0)
        return super().truncate(size)


@functools.lru_cache(maxsize=4)
def cookie_jar(cookies_file: str) -> Jar:
    """This process's copy of the file. Raises SystemicFault, which quotes no line, if it cannot be
    used.
    """
    if faults := cookie_faults(cookies_file):
        raise SystemicFault(" ".join(faults))
    return Jar(Path(cookies_file).read_text(encoding="utf-8"))


def cookie_faults(cookies_file: str) -> tuple[str, ...]:
    """What keeps the file from being used, one sentence each, without a word of its content."""
    path = Path(cookies_file)
    try:
        mode = path.stat().st_mode
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        return (f"source cookies_file {cookies_file!r} cannot be read: {why}.",)
    return tuple(
        f"source cookies_file {cookies_file!r} {fault}" for fault in _content_faults(mode, lines)
    )


def _content_faults(mode: int, lines: list[str]) -> Iterator[str]:
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield "can be read by others; run chmod 600 on it."
    if not lines or not _FIRST_LINE.match(lines[0]):
        yield "does not begin with '# Netscape HTTP Cookie File'; export it in that format."
    for number, line in enumerate(lines, 1):
        fields = _fields(line)
        if fields and (len(fields) != _FIELDS or not _EXPIRES.fullmatch(fields[4])):
            yield f"has no cookie of {_FIELDS} fields in line {number}; export it again in Netscape format."


def _fields(line: str) -> list[str]:
    line = line.removeprefix(_HTTP_ONLY)
    return [] if line.startswith("#") or not line.strip() else line.split("\t")


def cookie_values(cookies_file: str) -> tuple[str, ...]:
    """The values in this process's copy, for cutting them out of messages; none without a file."""
    if not cookies_file:
        return ()
    rows = [_fields(line) for line in cookie_jar(cookies_file).getvalue().splitlines()]
    return tuple(row[6] for row in rows if len(row) == _FIELDS and len(row[6]) >= _SHORTEST_SECRET)
