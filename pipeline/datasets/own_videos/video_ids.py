"""Safe ids for places. A place keeps its id in every later catalog; the catalog keeps the place.

An id is what the place suggests if that is safe and free, otherwise a readable part of its name and
ten digits of a sha256 over the place.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping

from pipeline.datasets.own_videos.places import Place
from storage.base.records import VIDEO_ID

READABLE_CHARACTERS = 40
HASH_DIGITS = 10
_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9_-]+")


class VideoIds:
    """Gives ids to places; those of an earlier catalog keep theirs."""

    def __init__(self, earlier: Mapping[str, str]) -> None:
        """`earlier` maps the text of a place to its id."""
        self._id_of = dict(earlier)
        self._taken = set(earlier.values())

    def id_of(self, place: Place) -> str:
        """The id of a place; the same for the same place."""
        known = self._id_of.get(place.text)
        if known is None:
            known = self._new_id(place)
        self._id_of[place.text] = known
        self._taken.add(known)
        return known

    def _new_id(self, place: Place) -> str:
        if VIDEO_ID.fullmatch(place.wanted_id) and place.wanted_id not in self._taken:
            return place.wanted_id
        digits = hashlib.sha256(place.text.encode("utf-8", "surrogateescape")).hexdigest()
        return f"{readable_part(place.name)}-{digits[:HASH_DIGITS]}"


def readable_part(name: str) -> str:
    """The characters of a name that an id may hold, without accents; `video` if there are none."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return _NOT_IN_AN_ID.sub("-", plain)[:READABLE_CHARACTERS].strip("-_") or "video"
