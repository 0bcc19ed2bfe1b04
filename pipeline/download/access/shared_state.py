"""A small record that many processes, on many hosts, read and change one after the other.

Every change is a new file with the next number. Its name is given by a link, which never
overwrites: of two writers one wins, and the other reads again and retries. So there is no lock that
a killed process could leave behind.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from storage.base.errors import IntegrityError
from storage.base.records import JSON
from storage.files.atomic_write import publish, remove, remove_stale_temporaries
from storage.files.checksummed_json import read_sealed, seal

KEPT = 50
"""Older changes that stay: a reader may be slow, and a name that went could be taken twice."""
_NAME = re.compile(r"([0-9]{9})\.json")
Result = TypeVar("Result")
Record = Mapping[str, JSON]


class SharedState:
    """The record kept in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        remove_stale_temporaries(folder)

    def read(self) -> dict[str, JSON]:
        """The newest record; empty before the first change.

        Raises IntegrityError if a file was altered by another program.
        """
        return self._newest()[1]

    def change(self, decide: Callable[[Record], tuple[Record, Result]]) -> Result:
        """Write the record that `decide` makes of the newest one, and return its second value.

        `decide` is called again if another process wrote meanwhile. An equal record is not written.
        """
        while True:
            number, before = self._newest()
            after, result = decide(before)
            if after == before:
                return result
            if self._try_write(number + 1, after):
                return result

    def _try_write(self, number: int, record: Record) -> bool:
        """Whether this process was the first to write that number."""
        path = self._path(number)
        # Writing equal bytes counts as success. The nonce makes them differ, so that two writers of
        # equal records cannot both believe that they won.
        content = seal({"nonce": secrets.token_hex(8), "record": dict(record)})
        try:
            publish(path, content, replace=False)
        except IntegrityError:
            if path.exists():
                return False
            raise
        for old in self._numbers():
            if old <= number - KEPT:
                remove(self._path(old))
        return True

    def _newest(self) -> tuple[int, dict[str, JSON]]:
        for number in sorted(self._numbers(), reverse=True):
            # Another process may remove an old file between the listing and the reading.
            with contextlib.suppress(FileNotFoundError):
                record = read_sealed(self._path(number))["record"]
                return number, record if isinstance(record, dict) else {}
        return 0, {}

    def _numbers(self) -> list[int]:
        if not self._folder.is_dir():
            return []
        numbers = []
        for entry in self._folder.iterdir():
            match = _NAME.fullmatch(entry.name)
            if match:
                numbers.append(int(match[1]))
        return numbers

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:09d}.json"
