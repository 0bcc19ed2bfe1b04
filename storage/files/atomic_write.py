"""The one way a file gets its final name: whole, or not at all, at every instant and after any
kill.

    temporary sibling -> write -> verify -> fsync -> link or replace -> remove the temporary ->
    fsync the folder

A process that holds leases looks first whether they are still its own: if not, it writes nothing
and raises LeaseLost. `journal.py` has the one way a file grows. Refuses to know what the bytes
mean. `before_step` is where tests make a step fail; nothing else may set it.
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
    """The instants at which a disk can fail or a process can die."""

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
    """What happens before a step, outside tests."""


before_step: Callable[[Step, Path], None] = _nothing


def publish(path: Path, content: bytes | Iterable[Buffer], *, replace: bool) -> None:
    """Write `content` under the name `path`.

    With `replace=False` an existing file is never overwritten: with the same bytes all is well,
    else IntegrityError. With `replace=True` the old file stays until the new one is whole. Missing
    folders are made. Raises DiskFull, or SystemicFault for any other error of the disk; the final
    name is then as it was, or, if only the last step failed, whole.
    """
    draft = _Draft(path, temporary_beside(path))
    with draft.faults_told():
        draft.write([content] if isinstance(content, bytes) else content)
        draft.finish(replace=replace)


def publish_file(temporary: Path, path: Path) -> None:
    """Give a file that another program wrote its final name `path`, in the same folder, without
    overwriting.

    `temporary` is gone afterwards, also when this fails. If `path` exists with the same bytes all
    is well; with other bytes, IntegrityError.
    """
    if temporary.parent != path.parent:
        raise ValueError(
            f"{temporary} and {path} must lie in one folder, or the step between them is not atomic"
        )
    draft = _Draft(path, temporary)
    with draft.faults_told():
        draft.survey()
        draft.finish(replace=False)


def remove_stale_temporaries(folder: Path, *, other_boots: bool = False) -> list[Path]:
    """Remove the temporaries in `folder` (not below it) whose owners are surely dead; returns them,
    sorted.

    `other_boots`: also those of other boots of a machine of our name, for whoever knows that nobody
    writes there.
    """
    removed = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        owner = owner_of_temporary(path)
        if owner is None or path.is_dir():
            continue
        if owner.is_dead() or (other_boots and owner.is_of_other_boot()):
            remove(path)
            removed.append(path)
    return removed


def remove(path: Path) -> None:
    """Delete a file that is superseded; fine if it is gone already. Raises SystemicFault."""
    try:
        before_step(Step.UNLINK, path)
        check_held()
        path.unlink(missing_ok=True)
    except OSError as error:
        raise disk_fault(error, path) from error


class _Draft:
    """A temporary on its way to a final name."""

    def __init__(self, path: Path, temporary: Path) -> None:
        self.path = path
        self.temporary = temporary
        self.size_bytes = 0
        self.sha256 = ""

    @contextlib.contextmanager
    def faults_told(self) -> Iterator[None]:
        """Translate errors of the system, and leave no temporary behind whatever happens."""
        try:
            yield
        except OSError as error:
            raise disk_fault(error, self.path, self.size_bytes) from error
        finally:
            self._discard()

    def write(self, content: Iterable[Buffer]) -> None:
        check_held()  # where the data root was renamed, not even its folders are made anew
        make_folder(self.path.parent)
        before_step(Step.OPEN, self.path)
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

    def survey(self) -> None:
        """Take the size and digest of a file that is already there."""
        self.size_bytes, self.sha256 = size_and_sha256(self.temporary)

    def finish(self, *, replace: bool) -> None:
        self._verify_and_sync()
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
        if size_and_sha256(self.temporary) != (self.size_bytes, self.sha256):
            raise IntegrityError(
                self.path, "what was read back is not what was written; nothing was published"
            )
        before_step(Step.FSYNC, self.path)
        # After a failed fsync the kernel forgets the lost pages and a second one would lie: the
        # draft is thrown away.
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
        # Without hard links no call names a file and refuses to overwrite, so look first, and let
        # nobody in between.
        with claim(self.path.with_name(f".{self.path.name}.claim"), print_to_stderr):
            if self.path.exists() or self.path.is_symlink():
                self._expect_same()
            else:
                check_held()
                self.temporary.rename(self.path)

    def _expect_same(self) -> None:
        # A network file system may repeat a link request and say "exists" about our own success:
        # they are equal then.
        size_bytes, sha256 = size_and_sha256(self.path)
        if (size_bytes, sha256) != (self.size_bytes, self.sha256):
            raise IntegrityError(
                self.path,
                f"is there already with other content ({size_bytes:,} bytes, sha256 {sha256[:12]}) than the "
                f"{self.size_bytes:,} bytes, sha256 {self.sha256[:12]}, to be written; it was left as it is. "
                "Run `python -m storage audit --deep` to see which is right.",
            )

    def _discard(self) -> None:
        # A temporary that stays is only untidy, and `sweep` finds it; an error here must not hide
        # the one being told.
        with contextlib.suppress(OSError):
            self.temporary.unlink()


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that they outlive a power cut. Raises OSError as it
    comes.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    before_step(Step.FOLDER, folder)
    check_held()
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the folder's names. Raises OSError as it comes."""
    before_step(Step.FSYNC_FOLDER, folder)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _FOLDER_SYNC_UNKNOWN:
            raise  # some file systems know no fsync of a folder; every other refusal is news
    finally:
        os.close(descriptor)


def size_and_sha256(path: Path) -> tuple[int, str]:
    """Size in bytes and sha256 in hex of a regular file, read whole. Raises OSError as it comes."""
    with os.fdopen(
        os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb"
    ) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise IntegrityError(path, "is no regular file; move it out of the way and run again")
        return status.st_size, hashlib.file_digest(file, "sha256").hexdigest()
