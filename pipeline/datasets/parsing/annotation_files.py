"""Reads the bytes of an annotation file from a path or an http(s) address.

Other kinds of addresses are refused, so that a setting cannot make this read `file://` or `ftp://`.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.parse
from pathlib import Path

from pipeline.download.http.files import fetch_bytes
from pipeline.download.http.response import TooLarge
from storage.base.errors import SettingsError, SystemicFault

MAX_BYTES = 256 * 1024 * 1024
"""PHD2's larger file has about 200,000 rows of 60 bytes, far below this limit."""
TIMEOUT_SECONDS = 60.0
"""Longest silence of the server. Redirects and headers together may take four times as long."""


def read_source(
    path_or_url: str, *, max_bytes: int = MAX_BYTES, timeout_seconds: float = TIMEOUT_SECONDS
) -> bytes:
    """All bytes of the file.

    Raises:
        SettingsError: the file or address does not exist, has a scheme other than http and https,
            or is larger than `max_bytes`.
        SystemicFault: the network or the server fails for now.
    """
    # Without "://" it is a path, even one with a colon.
    scheme = urllib.parse.urlsplit(path_or_url).scheme if "://" in path_or_url else ""
    if scheme in ("http", "https"):
        content = _download(path_or_url, max_bytes, timeout_seconds)
    elif scheme:
        raise SettingsError(
            (f"annotations come from a path or an http(s) address, got {path_or_url!r}",)
        )
    else:
        # One byte more than allowed is enough to see that a file is too large.
        content = _read_file(Path(path_or_url), max_bytes + 1)
    if len(content) > max_bytes:
        raise SettingsError((_too_large(path_or_url, max_bytes),))
    return content


def _read_file(path: Path, limit_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit_bytes)
    except OSError as error:
        raise SettingsError(
            (f"annotation file {path} cannot be read: {error.strerror}. Correct the path.",)
        ) from error


def _download(url: str, max_bytes: int, timeout_seconds: float) -> bytes:
    try:
        return fetch_bytes(url, max_bytes=max_bytes, timeout_seconds=timeout_seconds)
    except TooLarge as error:
        raise SettingsError((_too_large(url, max_bytes),)) from error
    except urllib.error.HTTPError as error:
        # An HTTPError holds the open connection.
        error.close()
        answer = f"{url} answers {error.code} {error.reason}"
        # Too many requests, or a fault of the server: the same address may work later.
        if error.code == 429 or error.code >= 500:
            raise SystemicFault(f"{answer}. Run the same command again later.") from error
        raise SettingsError((f"{answer}. Correct the address of the annotations.",)) from error
    except ValueError as error:
        raise SettingsError(
            (f"{url!r} is not an address: {error}. Correct the address of the annotations.",)
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise SystemicFault(
            f"{url} cannot be fetched now: {error}. Run the same command again later."
        ) from error


def _too_large(place: str, max_bytes: int) -> str:
    return f"{place} is larger than {max_bytes:,} bytes; is it an annotation file?"
