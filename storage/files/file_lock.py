"""Leases: lock files with a heartbeat, so that a shard has one writer on all machines.

The holder increments a counter in the file. Another process takes the lease over if the holder is
known to be dead on this very boot, or if the file did not change for two minutes while it watched,
by the watcher's own clock. No other clock and no file time is used. A holder that was suspended
meanwhile notices before it publishes, because every publishing function calls `check_held`.

`flock` is not used, since it is unreliable on network file systems; `link` and `rename` are atomic
there as well.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from storage.base.errors import HighlightsError, LeaseHeld, LeaseLost
from storage.files import lease_record
from storage.files.lease_record import (
    Heartbeat,
    LeaseHolder,
    LeaseSnapshot,
    LeaseWatcher,
    read_lease,
)
from storage.files.os_errors import disk_fault
from storage.files.process_identity import current_process, temporary_beside

NO_HARD_LINKS = frozenset(
    {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
)
"""Error numbers of `link` on file systems without hard links."""
NOTIFY_EVERY_SECONDS = 15.0
Notify = Callable[[str], None]
"""Takes a line of text for the user who waits."""


def print_to_stderr(line: str) -> None:
    """Print a line to stderr."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@contextlib.contextmanager
def lease(
    path: Path, *, notify: Notify | None = None, on_lost: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Hold the lease `path` while the block runs.

    If another process holds it and is not known to be dead, LeaseHeld is raised at once. With
    `notify` the lease is watched first, and the user learns why: until it is free, or was silent
    for two minutes and is taken over, or its counter rises, which raises LeaseHeld.

    `on_lost` is called in another thread when another process turns out to have taken the lease.
    The block then raises LeaseLost, at its end if not before. On the way out the file is removed
    only if it is still ours.

    Raises:
        LeaseHeld: a live process holds the lease; names it.
        LeaseLost: another process took it over while the block ran.
        SystemicFault: the disk fails.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = _acquire(path, notify, on_lost)
    except OSError as error:
        raise disk_fault(error, path) from error
    try:
        held.start()
        yield
    except BaseException as error:
        # An error of the release must not hide the first one; others will find us dead.
        with contextlib.suppress(OSError, LeaseLost):
            held.release()
        is_consequence = isinstance(error, HighlightsError) and not isinstance(error, LeaseLost)
        if held.lost is not None and is_consequence:
            # `on_lost` stopped the block: the loss is the cause, not the error it led to.
            raise held.lost from error
        raise
    try:
        held.release()
    except OSError as error:
        raise disk_fault(error, path) from error


def check_held(*, once_in_seconds: float = 0.0) -> None:
    """Raise LeaseLost unless every lease that this process holds is still its own.

    Call it before a file gets a name that others read. With `once_in_seconds` a lease that was read
    that recently is not read again: for files that are written block by block.

    Raises:
        LeaseLost: a lease is gone, or another process has it.
        SystemicFault: the disk does not let us read a lease.
    """
    for held in tuple(_HELD_LEASES):
        try:
            held.check(once_in_seconds)
        except OSError as error:
            raise disk_fault(error, held.path) from error


@contextlib.contextmanager
def claim(path: Path, notify: Notify | None = None) -> Iterator[Callable[[], bool]]:
    """Hold `path` for some milliseconds, without a heartbeat; otherwise as `lease`.

    Yields a function that returns whether it is still ours. Raises LeaseHeld, and OSError as it
    comes.
    """
    held = _acquire(path, notify, lambda: None)
    try:
        yield held.is_ours
    finally:
        held.heartbeat.close()
        with contextlib.suppress(OSError):
            if held.is_ours():
                path.unlink()


def remove_dead_leases(folder: Path) -> list[Path]:
    """Remove the leases in `folder` whose owners are known to be dead; returns them."""
    removed: list[Path] = []
    for path in sorted(folder.glob("[!.]*.lease*")):
        with contextlib.suppress(LeaseHeld):
            seen = read_lease(path)
            if seen is not None and seen.is_surely_dead():
                # Taken over and released: deleting it could delete another taker's lease.
                with lease(path):
                    removed.append(path)
    return removed


class _HeldLease:
    """A lease of this process, with the thread that raises its counter."""

    def __init__(
        self, path: Path, holder: LeaseHolder, heartbeat: Heartbeat, on_lost: Callable[[], None]
    ) -> None:
        self.path = path
        self.heartbeat = heartbeat
        self.lost: LeaseLost | None = None
        self._holder = holder
        self._on_lost = on_lost
        self._raised_at = self._looked_at = time.monotonic()
        self._lock = threading.Lock()
        self._is_open = True
        self._is_over = threading.Event()
        self._thread = threading.Thread(
            target=self._beat_until_over, name=f"lease {path.name}", daemon=True
        )

    def start(self) -> None:
        """Raise the counter from now on, and let `check_held` check this lease."""
        _HELD_LEASES.append(self)
        self._thread.start()

    def check(self, once_in_seconds: float) -> None:
        """Raise LeaseLost unless the lease is ours; OSError if it cannot be read."""
        now = time.monotonic()
        is_overdue = now - self._raised_at > lease_record.WATCH_SECONDS / 4
        if self.lost is None and is_overdue:
            # We were suspended, and a watcher may be about to take over: show life, then look.
            self._raise_counter()
        is_recent = time.monotonic() - self._looked_at < once_in_seconds
        if self.lost is None and not is_recent:
            self._look()
        if self.lost is not None:
            raise self.lost

    def is_ours(self) -> bool:
        """Whether the file under our name is the one that we made."""
        seen = read_lease(self.path)
        return seen is not None and self._is_mine(seen)

    def release(self) -> None:
        """Remove the lease file. Raises LeaseLost if it is not ours any more."""
        if self._holder.owner != current_process():
            return  # a forked child leaves the block its parent entered; the lease is the parent's
        with contextlib.suppress(ValueError):
            _HELD_LEASES.remove(self)
        self._is_over.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._close()
        if self.lost is None:
            self._look()
        if self.lost is not None:
            raise self.lost
        self.path.unlink()

    def _is_mine(self, seen: LeaseSnapshot) -> bool:
        return seen.record == self._holder and self.heartbeat.wrote(seen)

    def _look(self) -> None:
        with self._lock:
            seen = read_lease(self.path)
            self._looked_at = time.monotonic()
            if seen is None:
                self.lost = LeaseLost(self.path, "")
            elif not self._is_mine(seen):
                self.lost = LeaseLost(self.path, seen.holder)

    def _raise_counter(self) -> None:
        with self._lock:
            if self._is_open:
                self.heartbeat.beat()
                self._raised_at = time.monotonic()

    def _close(self) -> None:
        with self._lock:  # or the thread might write to another file that gets the same number
            if self._is_open:
                self._is_open = False
                self.heartbeat.close()

    def _beat_until_over(self) -> None:
        while not self._is_over.wait(lease_record.HEARTBEAT_SECONDS) and self.lost is None:
            # A failure may pass. If it does not, `check` raises the disk's own error.
            with contextlib.suppress(OSError):
                self._raise_counter()
                self._look()
        self._close()
        if self.lost is not None:
            self._on_lost()


_HELD_LEASES: list[_HeldLease] = []
"""The leases of this process, for `check_held`."""
_WATCHER = LeaseWatcher()
os.register_at_fork(after_in_child=_HELD_LEASES.clear)  # they are the parent's


def _acquire(path: Path, notify: Notify | None, on_lost: Callable[[], None]) -> _HeldLease:
    # The nonce makes two leases of one process different.
    holder = LeaseHolder(socket.gethostname(), current_process(), secrets.token_hex(8))
    descriptor = _Acquisition(path, holder, notify).run()
    return _HeldLease(path, holder, Heartbeat(descriptor, holder), on_lost)


class _Acquisition:
    """The attempts of one caller to get a lease."""

    def __init__(self, path: Path, holder: LeaseHolder, notify: Notify | None) -> None:
        self._path = path
        self._holder = holder
        self._notify = notify
        self._first_seen: LeaseSnapshot | None = None
        self._notified_at = float("-inf")

    def run(self) -> int:
        """Make the lease ours; returns a descriptor of its file. Raises LeaseHeld, OSError."""
        while True:
            descriptor = _create(self._path, self._holder)
            if descriptor is not None:
                return descriptor
            seen = read_lease(self._path)
            unchanged_seconds = _WATCHER.observe(self._path, seen)
            if seen is None:
                continue  # released since we tried to create it
            descriptor = self._take_over_or_wait(seen, unchanged_seconds)
            if descriptor is not None:
                return descriptor

    def _take_over_or_wait(self, seen: LeaseSnapshot, unchanged_seconds: float) -> int | None:
        """A descriptor if the lease is ours now; None to try again."""
        watched_enough = unchanged_seconds >= lease_record.WATCH_SECONDS
        is_silent = seen.can_be_outwaited and watched_enough
        if not is_silent and not seen.is_surely_dead():
            self._wait(seen, unchanged_seconds)
            return None
        try:
            descriptor = _take_over(self._path, self._holder, seen)
        except LeaseHeld as held:
            if self._notify is None:
                raise LeaseHeld(self._path, held.owner) from held
            self._wait(seen, unchanged_seconds)
            return None
        if descriptor is not None and is_silent:
            self._report(
                f"was not touched for {lease_record.WATCH_SECONDS:g} s by {seen.holder}: taken over"
            )
        return descriptor

    def _wait(self, seen: LeaseSnapshot, unchanged_seconds: float) -> None:
        """Wait until the lease is to be read again. Raises LeaseHeld if waiting is of no use."""
        has_changed = self._first_seen not in (None, seen)
        if self._notify is None or has_changed or not seen.can_be_outwaited:
            raise LeaseHeld(self._path, seen.holder, raises_counter=seen.can_be_outwaited)
        self._first_seen = seen
        if time.monotonic() - self._notified_at >= NOTIFY_EVERY_SECONDS:
            self._notified_at = time.monotonic()
            self._report(
                f"is held by {seen.holder}; waiting for a sign of life, or for "
                f"{lease_record.WATCH_SECONDS:g} s without one ({unchanged_seconds:.0f} s so far)"
            )
        time.sleep(lease_record.LOOK_SECONDS)
        # Leases of one dead machine are watched together, so their two minutes pass at once.
        _WATCHER.observe_all()

    def _report(self, what: str) -> None:
        if self._notify is not None:
            self._notify(f"{self._path.name} {what}")


def _take_over(path: Path, holder: LeaseHolder, stale: LeaseSnapshot) -> int | None:
    # Only the holder of a claim named after the stale lease may replace it, and it reads the lease
    # again once it has the claim. So one of many takers wins, and a slow one cannot remove the
    # winner's new lease.
    with claim(path.with_name(f"{path.name}.{stale.tag}")) as is_ours:
        # Its holder may have come back, or another taker was faster.
        if read_lease(path) != stale:
            return None
        descriptor = _replace(path, holder)
        if is_ours():
            return descriptor
    # We were suspended for so long that others took the claim, and perhaps the lease that we
    # replaced. Give up: a holder whose lease we replaced will notice, and the lease is free.
    os.close(descriptor)
    path.unlink(missing_ok=True)
    raise LeaseHeld(path, "another process that took it over at the same time")


def _create(path: Path, holder: LeaseHolder) -> int | None:
    """Make the file with its content in one atomic step; returns it open, or None if it exists."""
    temporary, descriptor = _write_aside(path, holder)
    try:
        is_new = _link(temporary, path)
    except OSError as error:
        os.close(descriptor)
        if error.errno not in NO_HARD_LINKS:
            raise
        return _create_exclusively(path, holder)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    if is_new:
        return descriptor
    os.close(descriptor)
    return None


def _link(temporary: Path, path: Path) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        # A network file system may repeat a request whose answer got lost: then the link is ours
        # after all, and the temporary has two names.
        return temporary.stat().st_nlink == 2
    return True


def _create_exclusively(path: Path, holder: LeaseHolder) -> int | None:
    try:
        return _write_new(path, holder)
    except FileExistsError:
        return None


def _replace(path: Path, holder: LeaseHolder) -> int:
    temporary, descriptor = _write_aside(path, holder)
    try:
        temporary.replace(path)
    except OSError:
        os.close(descriptor)
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return descriptor


def _write_aside(path: Path, holder: LeaseHolder) -> tuple[Path, int]:
    temporary = temporary_beside(path)
    return temporary, _write_new(temporary, holder)


def _write_new(path: Path, holder: LeaseHolder) -> int:
    descriptor = os.open(
        path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666
    )
    try:
        os.write(descriptor, holder.to_bytes())
        os.fsync(descriptor)
    except OSError:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            path.unlink()  # an incomplete lease would block everyone and name no holder
        raise
    return descriptor
