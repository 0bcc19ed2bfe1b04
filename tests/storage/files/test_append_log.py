"""A journal gives back what was added, whatever was cut or damaged between, and waits for the disk
once a second.
"""

from __future__ import annotations

import errno
import os
import time
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.base.errors import DiskFull, IntegrityError, SystemicFault
from storage.files import append_log, atomic_write
from storage.files.atomic_write import Step
from tests.support.feature_samples import killed_at

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)

Content = tuple[bytes, bytes]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "of" / "journal"


def content(path: Path) -> list[Content]:
    return [
        (one.head, append_log.read_body(path, one).tobytes())
        for one in append_log.read_records(path)
    ]


def test_records_come_back_in_order(path: Path) -> None:
    assert content(path) == []
    append_log.append(path, b"first", [b"body ", b"in pieces"])
    append_log.append(path, b"", [])
    append_log.append(path, b"third", [b"x" * 3_000_000])
    assert content(path) == [
        (b"first", b"body in pieces"),
        (b"", b""),
        (b"third", b"x" * 3_000_000),
    ]


def test_many_pieces_are_one_body(path: Path) -> None:
    append_log.append(path, b"head", [bytes([number]) for number in range(200)])
    assert content(path) == [(b"head", bytes(range(200)))]


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=60)), min_size=1, max_size=4),
    st.data(),
)
def test_what_is_damaged_is_passed_over_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, added: list[Content], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal"
    ends = []
    for head, body in added:
        append_log.append(path, head, [body])
        ends.append(path.stat().st_size)
    raw = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(raw)
    hit = next(number for number, end in enumerate(ends) if place < end)
    assert content(path) == added[:hit] + added[hit + 1 :]


@pytest.mark.parametrize("kept_bytes", [1, 15, 16, 40, 70, 90, 99])
def test_what_a_kill_cut_short_is_passed_over_and_more_may_be_added(
    path: Path, kept_bytes: int
) -> None:
    append_log.append(path, b"first", [b"1" * 10])
    whole = path.stat().st_size
    append_log.append(path, b"second", [b"2" * 1000])
    os.truncate(path, whole + kept_bytes)
    assert content(path) == [(b"first", b"1" * 10)]
    append_log.append(path, b"third", [b"3" * 10])
    append_log.append(path, b"fourth", [b"4" * 2000])
    assert content(path) == [(b"first", b"1" * 10), (b"third", b"3" * 10), (b"fourth", b"4" * 2000)]


def test_a_kill_at_any_step_costs_at_most_the_record_in_hand(tmp_path: Path) -> None:
    killed = True
    for place in range(8):
        path = tmp_path / str(place) / "journal"
        killed = killed_at(place, partial(append_log.append, path, b"first", [b"body"]))
        assert content(path) in ([], [(b"first", b"body")]) if killed else [(b"first", b"body")]
        append_log.append(path, b"second", [])
        assert content(path)[-1] == (b"second", b"")
    assert not killed


def test_a_body_that_changes_after_it_was_found_is_told(path: Path) -> None:
    append_log.append(path, b"head", [b"body"])
    (found,) = append_log.read_records(path)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(IntegrityError, match="is not what was written"):
        append_log.read_body(path, found)
    path.write_bytes(b"")
    with pytest.raises(IntegrityError, match="is not what was written"):
        append_log.read_body(path, found)


def test_a_full_disk_leaves_what_was_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append_log.append(path, b"first", [b"body"])
    before = path.read_bytes()
    once = [os.writev]

    def partly(descriptor: int, pieces: list[memoryview]) -> int:
        if once:
            once.pop()
            return os.write(descriptor, pieces[0][:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "writev", partly)
    with pytest.raises(DiskFull, match="journal"):
        append_log.append(path, b"second", [b"body"])
    assert path.read_bytes() == before


def test_what_comes_within_a_second_shares_a_wait_for_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[Step] = []
    clock = [100.0]
    monkeypatch.setattr(atomic_write, "before_step", lambda step, _: steps.append(step))
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    for seconds in (0.0, 0.5, 0.4, 0.2, 3.0, 0.1):
        clock[0] += seconds
        append_log.append(path, b"head", [])
    # The first, the first that is more than a second later, and the one after a pause.
    assert steps.count(Step.FSYNC) == 3
    assert steps.count(Step.FSYNC_FOLDER) == 1 + 2, (
        "of the file, and of the two folders that were made"
    )


def test_a_refused_file_is_a_fault_of_the_machine(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(SystemicFault):
        append_log.append(path, b"head", [])
