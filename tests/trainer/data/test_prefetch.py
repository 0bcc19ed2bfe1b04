"""One item ahead: the same items in the same order, made by another thread, and no thread left
behind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from trainer.data.prefetch import prefetch


def running() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "prefetch"]


def test_order_and_everything_stays() -> None:
    assert list(prefetch(range(100), lambda number: number * number)) == [
        number * number for number in range(100)
    ]
    assert list(prefetch([], str)) == []
    assert running() == []


def test_the_next_is_made_while_one_is_in_use() -> None:
    made: list[int] = []
    ready = threading.Event()

    def prepare(number: int) -> int:
        made.append(number)
        if number == 1:
            ready.set()
        return number

    with closing(prefetch(range(10), prepare)) as numbers:
        assert next(numbers) == 0
        assert ready.wait(5)
        time.sleep(0.05)
        assert len(made) <= 3  # the one in use, one that waits, one in the thread's hand
    assert running() == []


def test_an_error_comes_where_its_item_would_have_come() -> None:
    def numbers() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("the disk")

    found = prefetch(numbers(), lambda number: number)
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(OSError, match="the disk"):
        next(found)
    with pytest.raises(ZeroDivisionError):
        list(prefetch([1, 0], lambda number: 1 / number))
    assert running() == []


def test_whoever_breaks_off_leaves_no_thread() -> None:
    endless = iter(int, 1)
    for number in (found := prefetch(endless, lambda number: number)):
        assert number == 0
        break
    found.close()
    assert running() == []
