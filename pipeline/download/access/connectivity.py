"""Is the site to blame, or can this machine not reach it at all? One connection to its host, or to
the proxy.

Sends nothing. Knows no videos.
"""

from __future__ import annotations

import socket
import urllib.parse

from pipeline.download.access.source import SourceSettings

_PORTS = {"http": 80, "https": 443}


def check_host(source: SourceSettings) -> str:
    """Why nobody answers at the host that every video of this source is asked at; empty if somebody
    does.
    """
    what = "the proxy" if source.proxy else "the source"
    parts = urllib.parse.urlsplit(source.proxy or source.template)
    host = parts.hostname or ""
    port = parts.port or _PORTS.get(parts.scheme, 443)
    try:
        socket.create_connection((host, port), timeout=source.socket_timeout_seconds).close()
    except OSError as error:
        return f"{what} {host}:{port} cannot be reached: {error.strerror or error}"
    return ""
