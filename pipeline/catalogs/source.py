"""Bytes of an annotation file, from a path or an http(s) address.

Knows how to get a small file once. Refuses to know what is in it, and never opens any other kind of address.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.parse
from pathlib import Path

from pipeline.download.http import web_opener
from storage.errors import SettingsError, SystemicFault

MAX_BYTES = 256 * 1024 * 1024
"""PHD2's larger file has about 200,000 rows of 60 bytes; anything near this limit is another file."""
TIMEOUT_SECONDS = 60.0
"""How long the other side may stay silent."""


def read_source(path_or_url: str, *, max_bytes: int = MAX_BYTES, timeout_seconds: float = TIMEOUT_SECONDS) -> bytes:
    """All bytes of the file.

    Raises:
        SettingsError: no such file or address, another scheme than http and https, or more than `max_bytes`.
        SystemicFault: the network or the other side fails for now.
    """
    scheme = urllib.parse.urlsplit(path_or_url).scheme if "://" in path_or_url else ""
    if scheme in ("http", "https"):
        content = _download(path_or_url, max_bytes + 1, timeout_seconds)
    elif scheme:
        raise SettingsError((f"annotations come from a path or an http(s) address, got {path_or_url!r}",))
    else:
        content = _read_file(Path(path_or_url), max_bytes + 1)
    if len(content) > max_bytes:
        raise SettingsError((f"{path_or_url} is larger than {max_bytes:,} bytes; is it an annotation file?",))
    return content


def _read_file(path: Path, limit_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit_bytes)
    except OSError as error:
        raise SettingsError((f"annotation file {path} cannot be read: {error.strerror}. Mend the path.",)) from error


def _download(url: str, limit_bytes: int, timeout_seconds: float) -> bytes:
    try:
        with web_opener().open(url, timeout=timeout_seconds) as answer:
            content: bytes = answer.read(limit_bytes)
            return _whole(url, content, answer.headers.get("Content-Length"), limit_bytes)
    except urllib.error.HTTPError as error:
        error.close()
        told = f"{url} answers {error.code} {error.reason}"
        if error.code == 429 or error.code >= 500:
            raise SystemicFault(f"{told}. Run the same command again later.") from error
        raise SettingsError((f"{told}. Mend the address of the annotations.",)) from error
    except (OSError, http.client.HTTPException) as error:
        raise SystemicFault(f"{url} cannot be fetched now: {error}. Run the same command again later.") from error


def _whole(url: str, content: bytes, stated: str | None, limit_bytes: int) -> bytes:
    if stated is not None and stated.isdecimal() and len(content) < min(int(stated), limit_bytes):
        raise SystemicFault(f"{url} sent {len(content):,} of {int(stated):,} bytes. Run the same command again.")
    return content
