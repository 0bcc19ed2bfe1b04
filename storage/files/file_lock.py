"""One writer per shard: a small file that names the process which builds it, and says that it still
does.

The holder raises a counter in the file. A lease is taken over where its holder is known to be dead
on this very boot, or after the file was watched for two minutes and did not change, by the
watcher's own clock. No other clock and no file's time is asked. A holder that was suspended
meanwhile finds out before it publishes: `check_held` is called by whatever publishes. Works without
`flock`, by `link` and `rename`. Refuses to know what a lease protects.
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
"""What `link` answers on file systems that have no hard links."""
TOLD_EVERY_SECONDS = 15.0
Notify = Callable[[str], None]
"""Takes a line for the person who waits."""


def print_to_stderr(line: str) -> None:
    """Tell it on stderr."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@contextlib.contextmanager
def lease(
    path: Path, *, notify: Notify | None = None, on_lost: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Hold `path` while the block runs.

    If another process holds it and is not known to be dead, raises LeaseHeld at once, naming the
    holder. With `notify`, the lease is watched first, and told about: until it is free, or its
    counter rises (LeaseHeld: its holder is at work), or it was silent for two minutes and is taken
    over.

    `on_lost` is called, in another thread, when the lease turns out to be another's. The block then
    raises LeaseLost, at its end if not before. On the way out the file is removed only if it is
    still ours.
    """
    mine = LeaseHolder(socket.gethostname(), current_process(), secrets.token_hex(8))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = _Held(path, mine, Heartbeat(_acquire(path, mine, notify), mine), on_lost)
    except OSError as error:
        raise disk_fault(error, path) from error
    try:
        held.start()
        yield
    except BaseException as error:
        with contextlib.suppress(
            OSError, LeaseLost
        ):  # it must not hide what is being told; a taker finds us dead
            held.release()
        if (
            held.lost is not None
            and isinstance(error, HighlightsError)
            and not isinstance(error, LeaseLost)
        ):
            raise held.lost from error  # what stopped us, in the words of what `on_lost` did, is not why
        raise
    try:
        held.release()
    except OSError as error:
        raise disk_fault(error, path) from error


def check_held(*, once_in_seconds: float = 0.0) -> None:
    """Raise LeaseLost unless every lease that this process holds is still its own.

    To be called before anything gets a name that others read. Raises SystemicFault if a disk does
    not let us see. `once_in_seconds`: nothing is looked at again that was looked at so lately, for
    what is written block by block.
    """
    for held in tuple(_HELD):
        try:
            held.check(once_in_seconds)
        except OSError as error:
            raise disk_fault(error, held.path) from error


@contextlib.contextmanager
def claim(path: Path, notify: Notify | None = None) -> Iterator[Callable[[], bool]]:
    """Hold `path` for some milliseconds, without a counter that rises; as `lease` otherwise. Raises
    OSError.

    Gives a function that says whether it is still ours.
    """
    mine = LeaseHolder(socket.gethostname(), current_process(), secrets.token_hex(8))
    held = _Held(path, mine, Heartbeat(_acquire(path, mine, notify), mine), lambda: None)
    try:
        yield held.is_ours
    finally:
        held.counter.close()
        with contextlib.suppress(OSError):
            if held.is_ours():
                path.unlink()


def remove_dead_leases(folder: Path) -> list[Path]:
    """Remove the leases in `folder` whose owners are known to be dead, by taking each over; returns
    them.
    """
    removed = []
    for path in sorted(folder.glob("[!.]*.lease*")):
        with contextlib.suppress(LeaseHeld):
            sight = read_lease(path)
            if sight is not None and sight.is_surely_dead():
                with lease(path):
                    removed.append(path)
    return removed


class _Held:
    """A lease of ours."""

    def __init__(
        self, path: Path, mine: LeaseHolder, counter: Heartbeat, on_lost: Callable[[], None]
    ) -> None:
        self.path = path
        self.counter = counter
        self.lost: LeaseLost | None = None
        self._mine = mine
        self._on_lost = on_lost
        self._raised_at = self._looked_at = time.monotonic()
        self._raising = threading.Lock()
        self._is_open = True
        self._over = threading.Event()
        self._beats = threading.Thread(target=self._beat, name=f"lease {path.name}", daemon=True)

    def start(self) -> None:
        """Raise the counter from now on, and be asked by `check_held`."""
        _HELD.append(self)
        self._beats.start()

    def check(self, once_in_seconds: float) -> None:
        """Raise LeaseLost unless it is ours; OSError if nobody can say."""
        if (
            self.lost is None
            and time.monotonic() - self._raised_at > lease_record.WATCH_SECONDS / 4
        ):
            self._raise_counter()  # a watcher may be about to give us up: first be seen, then look
        if self.lost is None and time.monotonic() - self._looked_at >= once_in_seconds:
            self._look()
        if self.lost is not None:
            raise self.lost

    def is_ours(self) -> bool:
        """Whether the file under our name is the one that we made."""
        sight = read_lease(self.path)
        return sight is not None and self._is_mine(sight)

    def release(self) -> None:
        """Remove it; raises LeaseLost if it is not ours any more."""
        if self._mine.owner != current_process():
            return  # a forked child leaves the block its parent entered; the lease is the parent's
        with contextlib.suppress(ValueError):
            _HELD.remove(self)
        self._over.set()
        if self._beats.ident is not None:
            self._beats.join()
        self._close()
        if self.lost is None:
            self._look()
        if self.lost is not None:
            raise self.lost
        self.path.unlink()

    def _is_mine(self, sight: LeaseSnapshot) -> bool:
        return sight.record == self._mine and self.counter.wrote(sight)

    def _look(self) -> None:
        with self._raising:
            sight = read_lease(self.path)
            self._looked_at = time.monotonic()
            if sight is None:
                self.lost = LeaseLost(self.path, "")
            elif not self._is_mine(sight):
                self.lost = LeaseLost(self.path, sight.holder)

    def _raise_counter(self) -> None:
        with self._raising:
            if self._is_open:
                self.counter.beat()
                self._raised_at = time.monotonic()

    def _close(self) -> None:
        with self._raising:  # a closed descriptor's number may be another file's soon
            if self._is_open:
                self._is_open = False
                self.counter.close()

    def _beat(self) -> None:
        while not self._over.wait(lease_record.HEARTBEAT_SECONDS) and self.lost is None:
            # What fails now may succeed soon. If it does not, `check` raises the disk's own error.
            with contextlib.suppress(OSError):
                self._raise_counter()
                self._look()
        self._close()
        if self.lost is not None:
            self._on_lost()


_HELD: list[_Held] = []
"""Leases of this process that `check_held` asks."""
_WATCHES = LeaseWatcher()
os.register_at_fork(after_in_child=_HELD.clear)  # they are the parent's


def _acquire(path: Path, mine: LeaseHolder, notify: Notify | None) -> int:
    """Make the lease ours; a descriptor of its file."""
    wait = _Wait(path, notify)
    while True:
        if (descriptor := _create(path, mine)) is not None:
            return descriptor
        sight = read_lease(path)
        unchanged_seconds = _WATCHES.observe(path, sight)
        if sight is None:
            continue  # released between our two looks
        is_silent = sight.can_be_outwaited and unchanged_seconds >= lease_record.WATCH_SECONDS
        if sight.is_surely_dead() or is_silent:
            try:
                descriptor = _take_over(path, mine, sight)
            except LeaseHeld as held:
                if notify is None:
                    raise LeaseHeld(path, held.owner) from held
            else:
                if descriptor is None:
                    continue
                if is_silent:
                    wait.say(
                        f"was not touched for {lease_record.WATCH_SECONDS:g} s by {sight.holder}: taken over"
                    )
                return descriptor
        wait.go_on(sight, unchanged_seconds)


class _Wait:
    """One wait for a lease: over when its holder is seen at work, or nobody wants to wait."""

    def __init__(self, path: Path, notify: Notify | None) -> None:
        self._path = path
        self._notify = notify
        self._first: LeaseSnapshot | None = None
        self._told_at = float("-inf")

    def go_on(self, sight: LeaseSnapshot, unchanged_seconds: float) -> None:
        """Wait for the next look. Raises LeaseHeld."""
        if self._notify is None or self._first not in (None, sight) or not sight.can_be_outwaited:
            raise LeaseHeld(self._path, sight.holder, raises_counter=sight.can_be_outwaited)
        self._first = sight
        if time.monotonic() - self._told_at >= TOLD_EVERY_SECONDS:
            self._told_at = time.monotonic()
            self.say(
                f"is held by {sight.holder}; waiting for a sign of life, or for {lease_record.WATCH_SECONDS:g} s "
                f"without one ({unchanged_seconds:.0f} s so far)"
            )
        time.sleep(lease_record.LOOK_SECONDS)
        _WATCHES.observe_all()

    def say(self, what: str) -> None:
        if self._notify is not None:
            self._notify(f"{self._path.name} {what}")


def _take_over(path: Path, mine: LeaseHolder, stale: LeaseSnapshot) -> int | None:
    # Only the holder of the claim named after the stale lease may replace it, and it looks again
    # once it has the claim. So of many takers one wins, and a slow one cannot remove the winner's
    # fresh lease.
    with claim(path.with_name(f"{path.name}.{stale.tag}")) as is_ours:
        if read_lease(path) != stale:
            return None
        descriptor = _replace(path, mine)
        if is_ours():
            return descriptor
    # We were suspended for so long that others took the claim, and perhaps the lease that we
    # replaced: its holder will find out, and nobody has it.
    os.close(descriptor)
    path.unlink(missing_ok=True)
    raise LeaseHeld(path, "another process that took it over at the same time")


def _create(path: Path, mine: LeaseHolder) -> int | None:
    """Make the file with its content in one atomic step, and keep it open; None if it is there
    already.
    """
    temporary, descriptor = _write_aside(path, mine)
    try:
        is_new = _link(temporary, path)
    except OSError as error:
        os.close(descriptor)
        if error.errno not in NO_HARD_LINKS:
            raise
        return _create_exclusively(path, mine)
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
        # after all.
        return temporary.stat().st_nlink == 2
    return True


def _create_exclusively(path: Path, mine: LeaseHolder) -> int | None:
    try:
        return _written(path, mine)
    except FileExistsError:
        return None


def _replace(path: Path, mine: LeaseHolder) -> int:
    temporary, descriptor = _write_aside(path, mine)
    try:
        temporary.replace(path)
    except OSError:
        os.close(descriptor)
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return descriptor


def _write_aside(path: Path, mine: LeaseHolder) -> tuple[Path, int]:
    temporary = temporary_beside(path)
    return temporary, _written(temporary, mine)


def _written(path: Path, mine: LeaseHolder) -> int:
    descriptor = os.open(
        path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666
    )
    try:
        os.write(descriptor, mine.to_bytes())
        os.fsync(descriptor)
    except OSError:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            path.unlink()  # half a lease would be nobody's, and in the way
        raise
    return descriptor
