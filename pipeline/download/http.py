"""Opening http(s) addresses, and no other kind, and fetching a large file from one so that a break costs little.

Knows ranges and versions of files. Refuses to know what a file is for and whether it is the right one.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from storage.errors import SystemicFault
from storage.faults import disk_fault

TIMEOUT_SECONDS = 60.0
"""How long the other side may stay silent."""
_BLOCK_BYTES = 1 << 20


def web_opener() -> urllib.request.OpenerDirector:
    """Opens http and https. The usual opener also follows redirects to ftp, and opens files."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def fetch_file(url: str, part: Path, *, max_bytes: int, told: Callable[[int, int | None], None]) -> None:
    """Make `part` the whole file at `url`, continuing what an earlier call left if the server names the same version.

    `told` hears of bytes so far, and of all if known. Raises SystemicFault for anything that may be better later, with
    what has arrived kept; for an answer that will stay so, the part is removed first.
    """
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        version = _version_file(part).read_text() if part.exists() and _version_file(part).exists() else ""
        start = part.stat().st_size if version else 0
        headers = {"Range": f"bytes={start}-", "If-Range": version} if start else {}
        request = urllib.request.Request(url, headers={**headers, "Accept-Encoding": "identity"})  # noqa: S310  # the opener knows http(s) only
    except OSError as error:
        raise disk_fault(error, part) from error
    except ValueError as error:
        raise SystemicFault(f"{url!r} is no address: {error}") from error
    try:
        with web_opener().open(request, timeout=TIMEOUT_SECONDS) as answer:
            _receive(answer, part, start, max_bytes, told)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            _forget(part)
        raise SystemicFault(f"{url} answers {error.code} {error.reason}. Run the same command again later.") from error
    except (OSError, http.client.HTTPException) as error:
        raise SystemicFault(f"{_host(url)} cannot be reached or broke off: {error}") from error


def _receive(answer: Any, part: Path, start: int, max_bytes: int, told: Callable[[int, int | None], None]) -> None:
    continued = answer.status == http.client.PARTIAL_CONTENT
    if continued and not (answer.headers.get("Content-Range") or "").startswith(f"bytes {start}-"):
        _forget(part)
        raise SystemicFault("the server continued somewhere else than asked. Run the same command again.")
    at = start if continued else 0
    declared = answer.headers.get("Content-Length") or ""
    total = at + int(declared) if declared.isdecimal() else None
    _note_version(answer, part)
    with part.open("ab" if continued else "wb") as file:
        while block := answer.read(_BLOCK_BYTES):
            at += len(block)
            if at > max_bytes:
                break
            file.write(block)
            told(at, total)
    if at > max_bytes:
        _forget(part)
        raise SystemicFault(f"the server sends more than {max_bytes:,} bytes; this is another file")
    if total is not None and at != total:
        raise SystemicFault(f"{at:,} of {total:,} bytes came. Run the same command again; it continues from there.")
    _version_file(part).unlink(missing_ok=True)


def _note_version(answer: Any, part: Path) -> None:
    """A weak tag names things that look alike, not equal bytes."""
    tag = answer.headers.get("ETag") or ""
    version = answer.headers.get("Last-Modified") or "" if not tag or tag.startswith("W/") else tag
    if version:
        _version_file(part).write_text(version)
    else:
        _version_file(part).unlink(missing_ok=True)


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _version_file(part).unlink(missing_ok=True)


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).hostname or url
