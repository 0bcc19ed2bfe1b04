"""Opens a TCP connection to a site or proxy, to distinguish a failure of the site from a local one.

Nothing is sent.
"""

from __future__ import annotations

import socket
import urllib.parse

from pipeline.download.access.source import SourceSettings

_PORTS = {"http": 80, "https": 443}


def check_host(source: SourceSettings) -> str:
    """Why the host of a source, or its proxy, cannot be reached; empty if it can."""
    what, address = "the source", source.template
    if source.proxy:
        what, address = "the proxy", source.proxy
    parts = urllib.parse.urlsplit(address)
    host = parts.hostname or ""
    port = parts.port or _PORTS.get(parts.scheme, 443)
    place = f"{what} {host}:{port}"
    try:
        connection = socket.create_connection((host, port), timeout=source.socket_timeout_seconds)
    except OSError as error:
        reason = error.strerror or error
        return f"{place} cannot be reached: {reason}"
    connection.close()
    return ""
