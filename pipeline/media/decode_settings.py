"""What a user may set of decoding: the decoder's name, and what a video may cost.

No decoder is imported here, so that settings, help and planning stay light.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

BACKEND_NAMES = ("pyav", "torchcodec", "decord", "nvdec")
"""The decoders that `[decode] backend` may name; `video_reader.BACKENDS` has their functions."""


@dataclass(frozen=True)
class DecodeLimits:
    """What a video may cost.

    Beyond pixels, seconds and frames it is rejected, beyond the others quarantined.
    """

    max_pixels: int = 7680 * 4320
    """Width times height of a frame."""
    max_seconds: float = 4 * 3600.0
    """Duration, by the header or by the frames' own times."""
    stall_seconds: float = 60.0
    """A decode worker without a sign of life for so long hangs: by the clock if it uses no CPU time
    meanwhile, else in its CPU time.
    """
    max_wait_seconds: float = 600.0
    """CPU time that a worker may use for one video; a long video may use more, see the next."""
    max_wait_ratio: float = 2.0
    """CPU seconds added for each second of video that the header declares. If it declares none,
    `max_seconds` are assumed.
    """
    max_frames: int = 5_000_000
    """Frames of one video. 12 hours at 60 a second are 2.6 million."""
    max_memory_bytes: int = 2_000_000_000
    """Memory of a decode worker, without what it shares with us. We watch it; the kernel stops the
    worker at twice that.
    """

    def __post_init__(self) -> None:
        for limit in astuple(self):
            # Written so that NaN is refused too.
            if not limit > 0:
                raise ValueError(f"every limit of decoding must be above 0, got {self}")

    def wait_seconds(self, declared_seconds: float | None) -> float:
        """CPU seconds that one video may take, by the length its header declares."""
        return self.max_wait_seconds + self.max_wait_ratio * (declared_seconds or self.max_seconds)


DEFAULT_LIMITS = DecodeLimits()
