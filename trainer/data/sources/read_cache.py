"""What a process keeps in memory of what it has read and computed, up to a number of bytes.

A full cache keeps what it has and takes nothing more. An epoch reads everything once in a random
order. If a share f of it fits, then f of the next epoch is found; a cache that drops what was used
least recently would find f²/2, because it drops what the next epoch needs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol, TypeVar, cast

from models.validation import at_least

DEFAULT_CACHE_BYTES = 256 * 2**20
"""Less than a process takes that has imported torch. It holds 8,000 means of 8,192 numbers."""
ENTRY_BYTES = 1024
"""Counted for each entry besides its arrays: keys, array headers and records of Python."""
LARGEST_SHARE = 1 / 64
"""A larger entry is not kept. Reading it is mostly copying, which a batch does in any case."""


class HasBytes(Protocol):
    """Anything that knows its size, such as an array."""

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""


T = TypeVar("T", bound=HasBytes)


class ReadCache:
    """Key → what was read, at most `most_bytes` of it.

    A copy in another process that was unpickled starts empty. Threads may share a cache: entries
    are only added, and two threads that make the same one make the same bytes.
    """

    def __init__(self, most_bytes: int = 0) -> None:
        """With 0 bytes nothing is kept."""
        at_least("cache_bytes", most_bytes, 0)
        self.most_bytes = most_bytes
        self.used_bytes = 0
        self._entries: dict[Hashable, HasBytes] = {}

    def __reduce__(self) -> tuple[type[ReadCache], tuple[int]]:
        return ReadCache, (self.most_bytes,)

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: Hashable) -> HasBytes | None:
        """The entry of this key; None without one."""
        return self._entries.get(key)

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The entry of this key, made if there is none, and then kept if there is room."""
        found = self._entries.get(key)
        if found is not None:
            # A key has entries of one type: that of its only caller.
            return cast(T, found)
        made = make()
        if self.has_room(made.nbytes):
            self.keep(key, made)
        return made

    def has_room(self, nbytes: int) -> bool:
        """Whether an entry with arrays of so many bytes would be kept."""
        entry_bytes = nbytes + ENTRY_BYTES
        return (
            entry_bytes <= LARGEST_SHARE * self.most_bytes
            and self.used_bytes + entry_bytes <= self.most_bytes
        )

    def keep(self, key: Hashable, entry: HasBytes) -> None:
        """Keep an entry for which there is room."""
        self._entries[key] = entry
        self.used_bytes += entry.nbytes + ENTRY_BYTES
