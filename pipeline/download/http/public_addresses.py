"""Connections to public addresses only, for addresses of a list that may come from anywhere.

A name is resolved here, and the connection goes to the very address that was checked. Redirects
open connections of their own, so they pass here too.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any


class PrivateAddress(OSError):
    """A name leads to this machine or to a private network."""


def connect_to_public(address: tuple[str, int], *arguments: Any, **options: Any) -> socket.socket:
    """As `socket.create_connection`. Raises PrivateAddress if the host is not public."""
    host, port = address
    resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    numbers = list(dict.fromkeys(str(answer[4][0]) for answer in resolved))
    for number in numbers:
        if not is_public(number):
            raise PrivateAddress(
                f"{host} leads to {number}, this machine or a private network; "
                "[list] allow_private = true asks it"
            )
    return socket.create_connection((numbers[0], port), *arguments, **options)


def is_public(number: str) -> bool:
    """Whether an IP address is one of the internet."""
    parsed = ipaddress.ip_address(number.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_global
