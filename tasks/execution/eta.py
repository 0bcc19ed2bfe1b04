"""Estimates how long the rest of a run takes, from what the run did so far.

The model: a video costs a constant (asking a site for it, which may be rate-limited) plus an amount
for each second that is decoded. Least squares fit both to the time between the end of one video and
the end of the next, so the number of parallel videos does not matter. Older videos count less. This
module reads no clock; its caller passes the time.
"""

from __future__ import annotations

from collections.abc import Mapping

HALF_LIFE_VIDEOS = 300
"""A video that ended so many videos ago counts half."""
MIN_VIDEOS_TO_FIT = 10
"""With fewer ended videos, all time is attributed to decoded seconds, if these are known."""
INSTANT_SECONDS = 1e-3
"""A video that ends faster was done before this run, and is ignored."""
MIN_RELATIVE_SPREAD = 1e-9
"""With a smaller spread of durations, the two costs cannot be separated."""


class RemainingTime:
    """Gets the expected and the ended videos; returns the time that is left."""

    def __init__(self) -> None:
        self._expected: dict[str, float | None] = {}
        # Of the expected videos: how many have a stated duration, and the sum of these.
        self._stated = self._stated_seconds = 0.0
        self._last_end = 0.0
        # Decayed sums over the ended videos: their number, those done, decoded seconds and their
        # squares, time, and time times decoded seconds.
        self._ended = self._done = 0.0
        self._decoded = self._decoded_squared = 0.0
        self._time = self._time_decoded = 0.0

    def expect(self, durations: Mapping[str, float | None], now: float) -> None:
        """Expect these videos: id → duration in seconds, None where it is unknown."""
        self._expected |= durations
        stated = [duration for duration in self._expected.values() if duration is not None]
        self._stated = float(len(stated))
        self._stated_seconds = sum(stated)
        self._last_end = now

    def video_ended(self, video_id: str, now: float, *, done: bool) -> None:
        """Learn from one video that ended; `done` if it has its features."""
        took = now - self._last_end
        self._last_end = now
        duration = self._duration(self._expected.get(video_id))
        self._remove(video_id)
        if took < INSTANT_SECONDS:
            return
        decoded = duration if done else 0.0
        decay = 0.5 ** (1 / HALF_LIFE_VIDEOS)
        self._ended = decay * self._ended + 1
        self._done = decay * self._done + done
        self._decoded = decay * self._decoded + decoded
        self._decoded_squared = decay * self._decoded_squared + decoded * decoded
        self._time = decay * self._time + took
        self._time_decoded = decay * self._time_decoded + took * decoded

    def left_seconds(self) -> float | None:
        """Seconds until all expected videos have ended; None while nothing is known."""
        if not self._ended:
            return None
        per_video, per_second = self._costs()
        unknown = len(self._expected) - self._stated
        seconds = self._stated_seconds + unknown * self._duration(None)
        # Videos that fail are not decoded.
        return per_video * len(self._expected) + per_second * seconds * self._done / self._ended

    def _remove(self, video_id: str) -> None:
        duration = self._expected.pop(video_id, None)
        if duration is not None:
            self._stated -= 1
            self._stated_seconds -= duration

    def _duration(self, stated: float | None) -> float:
        """Duration of a video; the mean of the others where it is unknown."""
        if stated is not None:
            return stated
        if self._decoded:  # then at least one of the done videos has a duration
            return self._decoded / self._done
        if self._stated:
            return self._stated_seconds / self._stated
        return 0.0

    def _costs(self) -> tuple[float, float]:
        """Seconds for each video, and for each second of video; neither is negative.

        Together they explain all the time that passed.
        """
        only_per_video = (self._time / self._ended, 0.0)
        if not self._decoded:
            return only_per_video
        only_per_second = (0.0, self._time / self._decoded)
        spread = self._ended * self._decoded_squared - self._decoded**2
        is_flat = spread <= MIN_RELATIVE_SPREAD * self._decoded**2
        if self._ended < MIN_VIDEOS_TO_FIT or is_flat:
            return only_per_second
        per_second = (self._ended * self._time_decoded - self._time * self._decoded) / spread
        if per_second <= 0:
            return only_per_video
        per_video = (self._time - per_second * self._decoded) / self._ended
        return (per_video, per_second) if per_video > 0 else only_per_second
