"""Settings and constants of YOLOv5; imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec

from models.extractors.base.precision import Numerics
from models.validation import at_least, between, distinct_names, one_of, unit_interval

STRIDE_PIXELS = 32
"""Stride of the coarsest map. The sides of the network's input are multiples of it."""


@dataclass(frozen=True)
class Scale:
    """One of the five published sizes."""

    depth: float
    """Factor of every count of repeated blocks."""
    width: float
    """Factor of every count of channels."""

    def channels(self, base: int) -> int:
        """Channels where the design has `base`: scaled, then up to a multiple of 8."""
        return math.ceil(base * self.width / 8) * 8

    def repeats(self, base: int) -> int:
        """Blocks where the design has `base`, at least one."""
        return max(round(base * self.depth), 1)


SIZES = {
    "n": Scale(0.33, 0.25),
    "s": Scale(0.33, 0.5),
    "m": Scale(0.67, 0.75),
    "l": Scale(1, 1),
    "x": Scale(1.33, 1.25),
}

RELEASES = {"v5.0": "smlx", "v7.0": "nsmlx", "u": "nsmlx"}
"""Release → the sizes it was published in. v7.0 stands for v6.0 to v7.0, which share a network."""

MAPS = {"p3": 256, "p4": 512, "p5": 1024}
"""Map → its channels before scaling. They have one value per 8, 16 and 32 pixels of the input."""

DETECTIONS = "detections"
BACKENDS = ("torch", "ultralytics")


@dataclass(frozen=True)
class YOLOv5Settings(Numerics):
    """The user's settings of `yolov5`; the defaults are those of `detect.py` of v6.0 to v7.0."""

    arrays: tuple[str, ...] = ("p5", DETECTIONS)
    """Which of p3, p4, p5 (the three inputs of the Detect layer, pooled) and detections to keep."""
    size: str = "s"
    """n, s, m, l or x, as the weights file has it; p5 has 256, 512, 768, 1024 or 1280 channels."""
    release: str = "v7.0"
    """Which network: v7.0 (v6.0 to v7.0), v5.0 (Focus and SPP; no size n), or u (ultralytics'
    anchor-free files).
    """
    frames_per_second: float = 2.0
    """Frames looked at per second; 0 looks at every native frame."""
    input_pixels: int = 640
    """A frame is scaled, up or down, until its longer side has this many pixels, a multiple of
    32.
    """
    grid: int = 4
    """A map is averaged over a grid with this many cells on a side, because maps of different
    videos must get one size.
    """
    score_threshold: float = 0.25
    """Detections must score more than this."""
    nms_threshold: float = 0.45
    """Of two boxes of one class whose intersection over union is more than this, the lower scored
    one goes. ultralytics' own default is 0.7.
    """
    max_detections: int = 1000
    """A row holds at most this many detections, the best ones first; it may be empty. `detect.py`
    of v6.0 to v7.0 keeps 1000; v5.0 and the ultralytics package keep 300.
    """
    backend: str = "torch"
    """torch computes what the releases compute; ultralytics runs that package itself, only for the
    release u.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        distinct_names("arrays", self.arrays, (*MAPS, DETECTIONS))
        self._check_network()
        at_least("frames_per_second", self.frames_per_second, 0)
        between("input_pixels", self.input_pixels, STRIDE_PIXELS, 4096)
        if self.input_pixels % STRIDE_PIXELS:
            raise ValueError(
                f"input_pixels must be a multiple of {STRIDE_PIXELS}; got {self.input_pixels}"
            )
        between("grid", self.grid, 1, 32)
        unit_interval("score_threshold", self.score_threshold)
        unit_interval("nms_threshold", self.nms_threshold)
        between("max_detections", self.max_detections, 1, 30_000)

    def _check_network(self) -> None:
        one_of("release", self.release, RELEASES)
        sizes = RELEASES[self.release]
        if self.size not in tuple(sizes):
            raise ValueError(
                f"size must be one of {', '.join(sizes)} in the release {self.release}; "
                f"got {self.size!r}"
            )
        one_of("backend", self.backend, BACKENDS)
        if self.backend == "ultralytics":
            self._check_ultralytics()

    def _check_ultralytics(self) -> None:
        if self.release != "u":
            raise ValueError(f"backend ultralytics supports only release = u; got {self.release!r}")
        if self.precision != "fp32":
            raise ValueError(
                f"backend ultralytics supports only precision = fp32; got {self.precision!r}"
            )
        if find_spec("ultralytics") is None:
            raise ValueError(
                "backend = ultralytics, but that package is not installed. Run "
                "pip install '.[ultralytics]' in your checkout of video-highlights, or set "
                "backend = torch, which gives the same numbers"
            )
