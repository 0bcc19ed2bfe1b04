"""Errors of the operating system, told as faults of the machine. The one place that reads error
numbers for people.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from storage.base.errors import DiskFull, SystemicFault

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def disk_fault(error: OSError, path: Path, size_bytes: int = 0) -> SystemicFault:
    """The fault to raise `from error` after writing `size_bytes` to `path` failed; DiskFull if
    there was no room.
    """
    if error.errno in _NO_ROOM:
        return DiskFull(path, size_bytes, _free_bytes(path.parent))
    return SystemicFault(
        f"cannot use {path}: {error.strerror or error}. Nothing was lost; mend the disk or its permissions and "
        "run the same command again."
    )


def _free_bytes(folder: Path) -> int:
    try:
        system = os.statvfs(folder)
    except OSError:
        return 0
    return system.f_bavail * system.f_frsize
