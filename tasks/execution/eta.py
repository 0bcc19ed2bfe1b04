"""How long the rest of a run takes: learnt from what the run did so far, the latest of it most.

A video costs something by itself (asking a site for it, which may be paced) and something for each
second of it that is decoded. Both are fitted, by least squares, to the time between one video's end
and the next, so that it does not matter how many are worked on at once; what was seen a shard ago
counts half. Refuses to look at a clock.
"""

from __future__ import annotations

from collections.abc import Mapping

HALF_LIFE_VIDEOS = 300
FEWEST_TO_FIT = 10
"""Before so many videos have ended, all time is taken to be spent on their seconds, if these are
known.
"""
INSTANT_SECONDS = 1e-3
"""A video that ends faster was done before this run, and says nothing."""


class Pace:
    """Is told what is to come and what ended, and answers with what is left."""

    def __init__(self) -> None:
        self._expected: dict[str, float | None] = {}
        self._stated = self._stated_seconds = 0.0
        self._last = 0.0
        self._ended = self._done = 0.0
        self._film = self._film_squared = 0.0
        self._clock = self._clock_film = 0.0

    def expect(self, seconds: Mapping[str, float | None], now: float) -> None:
        """These videos are to come; None: nobody knows how long one is. The clock stands at
        `now`.
        """
        self._expected |= seconds
        stated = [length for length in self._expected.values() if length is not None]
        self._stated, self._stated_seconds = float(len(stated)), sum(stated)
        self._last = now

    def ended(self, video_id: str, now: float, *, done: bool) -> None:
        """One of them did, with its features or without."""
        took, self._last = now - self._last, now
        length = self._length(self._expected.get(video_id))
        self._forget(video_id)
        if took < INSTANT_SECONDS:
            return
        film = length if done else 0.0
        kept = 0.5 ** (1 / HALF_LIFE_VIDEOS)
        self._ended, self._done = kept * self._ended + 1, kept * self._done + done
        self._film, self._film_squared = (
            kept * self._film + film,
            kept * self._film_squared + film * film,
        )
        self._clock, self._clock_film = (
            kept * self._clock + took,
            kept * self._clock_film + took * film,
        )

    def left_seconds(self) -> float | None:
        """Until all that was expected has ended; None while nothing is known."""
        if not self._ended:
            return None
        a_video, a_second = self._costs()
        unknown = len(self._expected) - self._stated
        film = self._stated_seconds + unknown * self._length(None)
        return a_video * len(self._expected) + a_second * film * self._done / self._ended

    def _forget(self, video_id: str) -> None:
        length = self._expected.pop(video_id, None)
        if length is not None:
            self._stated, self._stated_seconds = self._stated - 1, self._stated_seconds - length

    def _length(self, stated: float | None) -> float:
        """Of a video; where it is not known, as the others are."""
        if stated is not None:
            return stated
        if self._done and self._film:
            return self._film / self._done
        return self._stated_seconds / self._stated if self._stated else 0.0

    def _costs(self) -> tuple[float, float]:
        """Clock seconds of a video and of a second of film; together they explain all the time that
        was seen.
        """
        a_video = self._clock / self._ended
        if not self._film:
            return a_video, 0.0
        spread = self._ended * self._film_squared - self._film**2
        if self._ended < FEWEST_TO_FIT or spread <= 1e-9 * self._film**2:
            return 0.0, self._clock / self._film
        a_second = (self._ended * self._clock_film - self._clock * self._film) / spread
        if a_second <= 0:
            return a_video, 0.0
        rest = (self._clock - a_second * self._film) / self._ended
        return (rest, a_second) if rest > 0 else (0.0, self._clock / self._film)
