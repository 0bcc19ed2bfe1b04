"""Counts videos in whose place a site sent text. Pure: it reads no clock and no file."""

from __future__ import annotations

from dataclasses import dataclass, replace

TEXTS_LIMIT = 8
"""So many videos with text in their place, and no success between, are not a coincidence."""
TEXTS_MEMORY_SECONDS = 3600.0
"""Older counts are forgotten: the site may behave differently by now."""


@dataclass(frozen=True)
class TextStreak:
    """Videos with text in their place since the last video that came."""

    texts: tuple[str, ...] = ()
    """Their video ids."""
    texts_as_of: float = 0.0
    """When the last of them was counted, in seconds since 1970."""

    def after_video(self) -> TextStreak:
        """The streak after a video came: empty."""
        return replace(self, texts=()) if self.texts else self

    def after_text(self, now: float, video_id: str) -> tuple[TextStreak, bool]:
        """The streak after text came in place of `video_id`, and whether the limit is reached.

        At the limit the count starts again, so that the next run gets further even if its first
        videos have only text.
        """
        is_recent = abs(now - self.texts_as_of) <= TEXTS_MEMORY_SECONDS
        earlier = self.texts if is_recent else ()
        # A video that is asked for again counts once.
        texts = tuple(dict.fromkeys((*earlier, video_id)))
        if len(texts) >= TEXTS_LIMIT:
            return TextStreak((), now), True
        return TextStreak(texts, now), False
