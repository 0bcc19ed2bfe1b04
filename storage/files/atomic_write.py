"""Atomic writes: a file gets its final name with its whole content, or not at all, after any kill.

    temporary sibling -> write -> verify -> fsync -> link or replace -> remove the temporary ->
    fsync the folder

A process that holds leases first checks that they are still its own; if not, it writes nothing and
raises LeaseLost. Files that grow are written in `append_log.py`. Tests set `before_step` to make a
step fail; nothing else may set it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import Path

from storage.base.errors import IntegrityError
from storage.files.file_lock import NO_HARD_LINKS, check_held, claim, print_to_stderr
from storage.files.os_errors import disk_fault
from storage.files.process_identity import owner_of_temporary, temporary_beside

__all__ = [
    "Buffer",
    "Step",
    "make_folder",
    "publish",
    "publish_file",
    "remove",
    "remove_stale_temporaries",
    "size_and_sha256",
    "sync_folder",
    "temporary_beside",
]

Buffer = bytes | bytearray | memoryview
_FOLDER_SYNC_UNKNOWN = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP})
_BLOCK_BYTES = 1 << 20


class Step(StrEnum):
    """The steps before which a disk can fail or a process can die."""

    FOLDER = "make the folder"
    OPEN = "open the temporary"
    WRITE = "write"
    VERIFY = "verify"
    FSYNC = "fsync the file"
    LINK = "link to the final name"
    REPLACE = "replace the final name"
    UNLINK = "remove the temporary"
    FSYNC_FOLDER = "fsync the folder"


def _nothing(step: Step, path: Path) -> None:
    """The default of `before_step`."""


before_step: Callable[[Step, Path], None] = _nothing


def publish(path: Path, content: bytes | Iterable[Buffer], *, replace: bool) -> None:
    """Write `content` under the name `path`; missing folders are made.

    With `replace=True` the old file stays until the new one is complete. With `replace=False` an
    existing file is never overwritten; one with the same bytes is accepted.

    Raises:
        IntegrityError: `replace` is False and a file with other content exists.
        DiskFull: the disk is full. `path` is unchanged.
        SystemicFault: any other error of the disk. `path` is unchanged, or complete if only the
            last step failed.
    """
    draft = _Draft(path, temporary_beside(path))
    with draft.translated_faults():
        draft.write([content] if isinstance(content, bytes) else content)
        draft.finish(replace=replace)


def publish_if_changed(path: Path, content: bytes) -> None:
    """`publish` and replace, unless the file has this content already; it keeps its times then."""
    if not (path.is_file() and path.read_bytes() == content):
        publish(path, content, replace=True)


def publish_file(temporary: Path, path: Path) -> None:
    """Give a file that another program wrote its final name `path`, without overwriting.

    `temporary` is removed afterwards, also when this fails.

    Raises:
        ValueError: the two are not in one folder.
        IntegrityError: `path` exists with other content; with the same content it is accepted.
    """
    # Another folder may be on another file system, where neither link nor rename works.
    if temporary.parent != path.parent:
        raise ValueError(
            f"{temporary} and {path} must lie in one folder, or the step between them is not atomic"
        )
    draft = _Draft(path, temporary)
    with draft.translated_faults():
        draft.measure()
        draft.finish(replace=False)


def remove_stale_temporaries(folder: Path, *, other_boots: bool = False) -> list[Path]:
    """Remove the temporaries in `folder` (not below it) of dead processes; returns them, sorted.

    With `other_boots` also those of other boots of a machine with our name: only for callers who
    know that no other process writes there.
    """
    if not folder.is_dir():
        return []
    removed: list[Path] = []
    for path in sorted(folder.iterdir()):
        owner = owner_of_temporary(path)
        if owner is None or path.is_dir():
            continue
        is_stale = owner.is_dead() or (other_boots and owner.is_of_other_boot())
        if is_stale:
            remove(path)
            removed.append(path)
    return removed


def remove(path: Path) -> None:
    """Delete a file that is superseded, if it still exists. Raises SystemicFault."""
    try:
        before_step(Step.UNLINK, path)
        check_held()
        path.unlink(missing_ok=True)
    except OSError as error:
        raise disk_fault(error, path) from error


class _Draft:
    """A temporary file that is to get its final name."""

    def __init__(self, path: Path, temporary: Path) -> None:
        self.path = path
        self.temporary = temporary
        self.size_bytes = 0
        self.sha256 = ""

    @contextlib.contextmanager
    def translated_faults(self) -> Iterator[None]:
        """Translate errors of the system, and remove the temporary in any case."""
        try:
            yield
        except OSError as error:
            raise disk_fault(error, self.path, self.size_bytes) from error
        finally:
            self._discard()

    def write(self, content: Iterable[Buffer]) -> None:
        check_held()  # first, so that a renamed data root is not made anew
        make_folder(self.path.parent)
        before_step(Step.OPEN, self.path)
        # O_EXCL and O_NOFOLLOW: never write through a link or into a file of another process.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        sha = hashlib.sha256()
        with os.fdopen(os.open(self.temporary, flags, 0o666), "wb", buffering=0) as file:
            for buffer in content:
                self.size_bytes += memoryview(buffer).nbytes
                self._write_all(file.fileno(), memoryview(buffer).cast("B"))
                sha.update(buffer)
        self.sha256 = sha.hexdigest()

    def _write_all(self, descriptor: int, rest: memoryview) -> None:
        while rest:
            before_step(Step.WRITE, self.path)
            rest = rest[os.write(descriptor, rest[:_BLOCK_BYTES]) :]

    def measure(self) -> None:
        """Take the size and digest of a temporary that another program wrote."""
        self.size_bytes, self.sha256 = size_and_sha256(self.temporary)

    def finish(self, *, replace: bool) -> None:
        self._verify_and_sync()
        # `rename` replaces atomically; `link` refuses to overwrite, and is as atomic.
        if replace:
            before_step(Step.REPLACE, self.path)
            check_held()
            self.temporary.replace(self.path)
        else:
            self._link()
            before_step(Step.UNLINK, self.path)
            self._discard()
        sync_folder(self.path.parent)

    def _verify_and_sync(self) -> None:
        before_step(Step.VERIFY, self.path)
        # Read back before it gets its name, so that no fault of memory or file system is published.
        if size_and_sha256(self.temporary) != (self.size_bytes, self.sha256):
            raise IntegrityError(
                self.path, "what was read back is not what was written; nothing was published"
            )
        before_step(Step.FSYNC, self.path)
        # After a failed fsync the kernel forgets the lost pages, and a second fsync would succeed
        # without them: so the draft is removed and never tried again.
        descriptor = os.open(self.temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _link(self) -> None:
        try:
            before_step(Step.LINK, self.path)
            check_held()
            os.link(self.temporary, self.path)
        except FileExistsError:
            self._expect_same()
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            self._rename_under_lease()

    def _rename_under_lease(self) -> None:
        # Without hard links no call gives a name without overwriting: so look first, and keep
        # other processes out meanwhile.
        with claim(self.path.with_name(f".{self.path.name}.claim"), print_to_stderr):
            if self.path.exists() or self.path.is_symlink():
                self._expect_same()
            else:
                check_held()
                self.temporary.rename(self.path)

    def _expect_same(self) -> None:
        # A network file system may repeat a link request, and answer "exists" although the first
        # one was ours and succeeded: the files are equal then.
        size_bytes, sha256 = size_and_sha256(self.path)
        if (size_bytes, sha256) != (self.size_bytes, self.sha256):
            raise IntegrityError(
                self.path,
                f"exists with other content ({size_bytes:,} bytes, sha256 {sha256[:12]}) than the "
                f"{self.size_bytes:,} bytes, sha256 {self.sha256[:12]}, to be written; it was left "
                "as it is. Run `python -m storage audit --deep` to see which is right.",
            )

    def _discard(self) -> None:
        # A temporary that stays does no harm, and is removed by the next repair. An error here must
        # not hide the one that is being raised.
        with contextlib.suppress(OSError):
            self.temporary.unlink()


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, safe from a power cut. Raises OSError as it comes."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    before_step(Step.FOLDER, folder)
    check_held()
    # Another process may have made it since.
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the folder's entries are on disk. Raises OSError as it comes."""
    before_step(Step.FSYNC_FOLDER, folder)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _FOLDER_SYNC_UNKNOWN:
            raise  # some file systems have no fsync of folders; any other error is a failure
    finally:
        os.close(descriptor)


def size_and_sha256(path: Path) -> tuple[int, str]:
    """Size in bytes and sha256 in hex of a regular file, read whole.

    Raises IntegrityError for anything else than a regular file, and OSError as it comes.
    """
    # O_NONBLOCK: opening a named pipe would wait for a writer. It does not matter for files.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    # The size comes from the open file: the name may lead to another one by now.
    with os.fdopen(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise IntegrityError(
                path, "is not a regular file; move it out of the way and run again"
            )
        return status.st_size, hashlib.file_digest(file, "sha256").hexdigest()
