from __future__ import annotations

import errno
import pickle
from pathlib import Path

import pytest

from storage.base.errors import (
    DatasetError,
    DiskFull,
    ExtractorFailed,
    HighlightsError,
    IntegrityError,
    LeaseHeld,
    LeaseLost,
    LookupFailed,
    SettingsError,
    SystemicFault,
    UntrustedFile,
    VideoError,
)
from storage.base.video_status import failure_status
from storage.files.os_errors import disk_fault

PATH = Path("store/shard_000.json")
EXAMPLES = [
    (
        SettingsError(("a is 3, at most 2", "b is missing")),
        "must be corrected.*\n  - a is 3, at most 2\n  - b is miss",
    ),
    (
        VideoError("v1", failure_status("too_short", "3 frames")),
        r"v1: rejected:too_short \(3 frames\)",
    ),
    (DatasetError(("marks.csv, line 3: no user",)), r"\n  - marks\.csv, line 3: no user"),
    (SystemicFault("the network is down"), "the network is down"),
    (
        DiskFull(PATH, 1_500_000, 2048),
        "no room to write .*: it needs 1,500,000 bytes and the disk has 2,048 free",
    ),
    (LeaseHeld(PATH, "process 7 on host"), "is held by process 7 on host"),
    (
        LeaseHeld(PATH, "process 7 on host", raises_counter=False),
        "is held by process 7 on host.* delete the file and",
    ),
    (LeaseLost(PATH, "process 7 on host"), "belongs to process 7 on host now"),
    (LeaseLost(PATH, ""), "is gone: another process .* or its folder was renamed or removed"),
    (IntegrityError(PATH, "was altered"), r"shard_000\.json: was altered"),
    (UntrustedFile(PATH, "asks for another file"), "asks for another file"),
    (ExtractorFailed("c3d failed in extract"), "^c3d failed in extract$"),
    (LookupFailed("no variant 'c3d'"), "^no variant 'c3d'$"),
]


@pytest.mark.parametrize(("error", "message"), EXAMPLES, ids=repr)
def test_every_error_survives_the_trip_between_processes(
    error: HighlightsError, message: str
) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - made on this line
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
    with pytest.raises(HighlightsError, match=message):
        raise copy


def test_every_error_of_the_tree_is_among_the_examples() -> None:
    tree, todo = set(), [HighlightsError]
    while todo:
        children = todo.pop().__subclasses__()
        tree |= {child for child in children if child.__module__ == "storage.base.errors"}
        todo += children
    assert tree == {type(error) for error, _ in EXAMPLES}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_is_told_with_what_is_needed_and_what_is_free(tmp_path: Path, number: int) -> None:
    fault = disk_fault(OSError(number, "no room"), tmp_path / "file", 4096)
    assert isinstance(fault, DiskFull)
    assert fault.needed_bytes == 4096
    assert fault.free_bytes > 0
    assert isinstance(
        disk_fault(OSError(number, "no room"), tmp_path / "nowhere" / "file"), DiskFull
    )


def test_other_errors_of_the_disk_name_the_file() -> None:
    fault = disk_fault(PermissionError(errno.EACCES, "Permission denied"), PATH)
    assert type(fault) is SystemicFault
    assert str(fault).startswith(f"cannot use {PATH}: Permission denied.")
