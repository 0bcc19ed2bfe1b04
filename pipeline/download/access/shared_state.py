"""A small record that many processes, on many hosts, read and change one after the other.

Every change is a new file with the next number, given its name by a link that never overwrites: of
two writers one wins and the other looks again. So there is no lock to hold, to break, or to be left
behind by a kill. Refuses to know what the record says.
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
Answer = TypeVar("Answer")
Record = Mapping[str, JSON]


class SharedState:
    """The record kept in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        remove_stale_temporaries(folder)

    def read(self) -> dict[str, JSON]:
        """The newest record; empty before the first change. Raises IntegrityError if somebody
        meddled with it.
        """
        return self._newest()[1]

    def change(self, decide: Callable[[Record], tuple[Record, Answer]]) -> Answer:
        """Apply `decide`, which may be called several times, to the newest record; keep and return
        what it says.

        A record that stays the same is not written.
        """
        while True:
            number, before = self._newest()
            after, answer = decide(before)
            if after == before or self._wrote(number + 1, after):
                return answer

    def _wrote(self, number: int, record: Record) -> bool:
        path = self._path(number)
        try:
            # The nonce keeps two writers of equal records from both believing that they won.
            publish(
                path, seal({"nonce": secrets.token_hex(8), "record": dict(record)}), replace=False
            )
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
            with contextlib.suppress(FileNotFoundError):
                record = read_sealed(self._path(number))["record"]
                return number, record if isinstance(record, dict) else {}
        return 0, {}

    def _numbers(self) -> list[int]:
        names = [entry.name for entry in self._folder.iterdir()] if self._folder.is_dir() else []
        return [int(match[1]) for match in map(_NAME.fullmatch, names) if match]

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:09d}.json"
