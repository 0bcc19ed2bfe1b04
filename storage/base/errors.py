"""Every error this project raises on purpose.

    HighlightsError
    ├── SettingsError       settings are wrong; carries all faults, not only the first
    │   └── DatasetError    the files of a dataset are wrong, or the code that reads them
    ├── VideoError          one video cannot be used; becomes its status, never a crash
    ├── SystemicFault       the machine or the network is at fault: stop, report, resume later
    │   ├── DiskFull        a write met a full disk
    │   └── LeaseLost       another process took over the shard, or its folder is gone
    ├── ExtractorFailed     an extractor raised an error or broke its contract; its code is at fault
    ├── LeaseHeld           another live process is building this shard
    ├── IntegrityError      bytes on disk are not what their record says
    │   └── UntrustedFile   a file asks for something our format never asks for
    └── LookupFailed        a name is not in this store; lists the names that are

Exit codes belong to `tasks`. Every class keeps its fields in `args`, so that errors survive being
pickled between processes.
"""

from __future__ import annotations

from pathlib import Path

from storage.base.video_status import VideoStatus


class HighlightsError(Exception):
    """Base of all errors raised on purpose; anything else that escapes is a bug."""


class SettingsError(HighlightsError):
    """Settings are wrong. `faults` lists all of them, one sentence each."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        # Unpickling calls the class with `args`, so these must be its parameters.
        super().__init__(faults)
        self.faults = faults

    heading = "these settings must be corrected before anything starts:"

    def __str__(self) -> str:
        return "\n".join([self.heading, *(f"  - {fault}" for fault in self.faults)])


class DatasetError(SettingsError):
    """The files of a dataset cannot be read, or the code that reads them fails."""

    heading = "this dataset cannot be read; correct its files, or the code that reads them:"


class VideoError(HighlightsError):
    """One video cannot be used, for the reason in its status."""

    def __init__(self, video_id: str, status: VideoStatus) -> None:
        super().__init__(video_id, status)
        self.video_id = video_id
        self.status = status

    def __str__(self) -> str:
        return f"{self.video_id}: {self.status}"


class SystemicFault(HighlightsError):
    """The machine or the network fails for every video alike.

    No video is to blame, so no attempt is counted.
    """


class ExtractorFailed(HighlightsError):
    """An extractor raised an error, or its rows are not what its spec says.

    Its code is at fault, and no video: none is marked, and finished videos are kept.
    """


class DiskFull(SystemicFault):
    """A write met a full disk (or a quota, or a file size limit)."""

    def __init__(self, path: Path, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(path, needed_bytes, free_bytes)
        self.path = path
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes

    def __str__(self) -> str:
        return (
            f"no room to write {self.path}: it needs {self.needed_bytes:,} bytes and the disk has "
            f"{self.free_bytes:,} free. Nothing was lost; free some space and run the same command "
            "again."
        )


class LeaseLost(SystemicFault):
    """Another process builds the shard now, or its folder was moved away.

    Nothing was published since.
    """

    def __init__(self, path: Path, taker: str) -> None:
        super().__init__(path, taker)
        self.path = path
        self.taker = taker
        """The process that took over; empty if the lease is gone."""

    def __str__(self) -> str:
        if self.taker:
            what = (
                f"belongs to {self.taker} now, because this process or its machine stood still for "
                "minutes, or because its folder was replaced by another"
            )
        else:
            what = (
                "is gone: another process took it over and has finished, or its folder was renamed "
                "or removed, or the file was deleted"
            )
        return (
            f"the lease {self.path} {what}. Nothing was published since. Run the same command "
            "again to continue."
        )


class LeaseHeld(HighlightsError):
    """Another live process is building this shard."""

    def __init__(self, path: Path, owner: str, raises_counter: bool = True) -> None:
        super().__init__(path, owner, raises_counter)
        self.path = path
        self.owner = owner
        self.raises_counter = raises_counter
        """False for the lease of an older release, which gives no sign of life.

        Waiting cannot show that its holder is dead.
        """

    def __str__(self) -> str:
        advice = "Let it finish, and run the same command again."
        # Only a holder with a heartbeat can be outwaited; see `storage/files/file_lock.py`.
        if self.raises_counter:
            advice += (
                " If it died, wherever it ran, a run that waits for its lease takes it over after "
                "two minutes; there is no need to delete a file."
            )
        else:
            advice += (
                " It runs an older release, which gives no sign of life: if that process does not "
                "exist any more, delete the file and run again."
            )
        return f"{self.path} is held by {self.owner}. {advice}"


class IntegrityError(HighlightsError):
    """Bytes on disk are not what their record says."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


class UntrustedFile(IntegrityError):
    """A file asks for something our format never asks for: another file, a bomb, code."""


class LookupFailed(HighlightsError, KeyError):
    """A name is not in this store; the message lists the names that are."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message
