"""Translates errors of the operating system into faults of the machine, with advice."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from storage.base.errors import DiskFull, SystemicFault

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def disk_fault(error: OSError, path: Path, size_bytes: int = 0) -> SystemicFault:
    """The fault to raise `from error` after writing `size_bytes` to `path` failed.

    It is DiskFull if the disk, the quota or the file size limit is the reason.
    """
    if error.errno in _NO_ROOM:
        return DiskFull(path, size_bytes, _free_bytes(path.parent))
    return SystemicFault(
        f"cannot use {path}: {error.strerror or error}. Nothing was lost; check the disk and its "
        "permissions, and run the same command again."
    )


def _free_bytes(folder: Path) -> int:
    try:
        # f_bavail, not f_bfree: without the blocks that are reserved for root.
        system = os.statvfs(folder)
    except OSError:
        return 0
    return system.f_bavail * system.f_frsize
