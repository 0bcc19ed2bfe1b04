"""A token bucket: how often requests may start. Pure: it reads no clock and no file.

The bucket is shared by processes with different clocks. Its times are wall clock times, and a wrong
clock can do little harm: one that is ahead gains at most `BURST_TOKENS`.
"""

from __future__ import annotations

from dataclasses import dataclass

BURST_TOKENS = 5.0
"""Most tokens in the bucket: so many requests may start at once after a quiet time."""
MAX_SKEW_SECONDS = 600.0
"""The largest difference between two clocks that is waited for."""
SHORTEST_WAIT_SECONDS = 0.1
"""The least that is worth sleeping. Rounding may leave a token just short of whole."""


@dataclass(frozen=True)
class TokenBucket:
    """A number of tokens at one time. Every request takes one token."""

    tokens: float = BURST_TOKENS
    as_of: float = 0.0
    """When `tokens` was counted, in seconds since 1970."""

    def take(self, now: float, per_hour: float) -> tuple[TokenBucket, float]:
        """Take one token at `now`.

        Args:
            now: seconds since 1970.
            per_hour: tokens that are added in an hour; 0 sets no limit.

        Returns:
            The bucket after that, and the seconds to wait. If they are above 0, no token was taken.
        """
        if not per_hour:
            return self, 0.0
        per_second = per_hour / 3600
        bucket = self
        ahead_seconds = bucket.as_of - now
        if ahead_seconds > MAX_SKEW_SECONDS:
            # Another clock was far ahead. Waiting for its time could take years, so start again
            # from ours, with an empty bucket: the correction must not give tokens.
            bucket = TokenBucket(tokens=0.0, as_of=now)
            ahead_seconds = 0.0
        added = max(-ahead_seconds, 0.0) * per_second
        tokens = min(BURST_TOKENS, bucket.tokens + added)
        if tokens < 1:
            wait_seconds = (1 - tokens) / per_second + max(ahead_seconds, 0.0)
            return bucket, max(wait_seconds, SHORTEST_WAIT_SECONDS)
        return TokenBucket(tokens=tokens - 1, as_of=max(bucket.as_of, now)), 0.0
