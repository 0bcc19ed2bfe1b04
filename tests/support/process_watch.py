"""Looks at running processes from outside: whose children they are, and where they listen. Linux
only.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path


def _stat(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def children(pid: int) -> list[int]:
    """Live processes whose parent this is."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    stats = {one: _stat(one) for one in pids}
    return sorted(
        one
        for one, stat in stats.items()
        if len(stat) > 1 and stat[1] == str(pid) and stat[0] not in "ZX"
    )


def descendants(pid: int) -> Iterator[int]:
    """The same, and theirs."""
    for child in children(pid):
        yield child
        yield from descendants(child)


def says(pid: int, words: str) -> bool:
    """Whether a process's command line holds these words."""
    with contextlib.suppress(OSError):
        return words in Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return False


def listening(pid: int) -> set[tuple[str, int]]:
    """Addresses and TCP ports on which a process listens."""
    inodes = set()
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                inodes |= set(re.findall(r"socket:\[(\d+)\]", str(link.readlink())))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, _, port = fields[1].partition(":")
                words = [
                    bytes.fromhex(address[place : place + 8])[::-1]
                    for place in range(0, len(address), 8)
                ]
                found.add((str(ipaddress.ip_address(b"".join(words))), int(port, 16)))
    return found
