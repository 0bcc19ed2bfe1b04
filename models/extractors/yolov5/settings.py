"""Settings and constants of YOLOv5; imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from models.extractors.base.precision import Numerics

STRIDE_PIXELS = 32
"""Of the coarsest map. The sides of what the network looks at are multiples of it."""


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
"""Release → the sizes it was published in. v7.0 stands for v6.0 to v7.0, whose networks are one."""


MAPS = {"p3": 256, "p4": 512, "p5": 1024}
"""Map → its channels before scaling. They are one value per 8, 16 and 32 pixels of what the network
looks at.
"""


DETECTIONS = "detections"


BACKENDS = ("torch", "ultralytics")


@dataclass(frozen=True)
class YOLOv5Settings(Numerics):
    """What a user may set of `yolov5`; the defaults are those of `detect.py` of v6.0 to v7.0."""

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
    """A frame is scaled, up or down, until its longer side has so many pixels; a multiple of 32."""
    grid: int = 4
    """A map is averaged over a grid of so many by so many cells, as maps of unequal videos must
    become equal.
    """
    score_threshold: float = 0.25
    """Detections must score more than this."""
    nms_threshold: float = 0.45
    """Of two boxes of one class whose intersection over union is more than this, the lower scored
    one goes. ultralytics' own default is 0.7.
    """
    max_detections: int = 1000
    """A row holds at most the so many best scored detections, best first. None is a row without
    items. `detect.py` of v6.0 to v7.0 keeps 1000; that of v5.0 and the ultralytics package keep
    300.
    """
    backend: str = "torch"
    """torch computes what the releases compute; ultralytics asks that package itself, for the
    release u alone.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_arrays()
        self._check_network()
        if self.frames_per_second < 0:
            raise ValueError(
                f"frames_per_second is 0 (every frame) or more, got {self.frames_per_second}"
            )
        if not STRIDE_PIXELS <= self.input_pixels <= 4096 or self.input_pixels % STRIDE_PIXELS:
            raise ValueError(
                f"input_pixels is a multiple of {STRIDE_PIXELS}, up to 4096; got {self.input_pixels}"
            )
        if not 1 <= self.grid <= 32:
            raise ValueError(f"grid is 1 to 32, got {self.grid}")
        for name in ("score_threshold", "nms_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is 0 to 1, got {getattr(self, name)}")
        if not 1 <= self.max_detections <= 30_000:
            raise ValueError(f"max_detections is 1 to 30000, got {self.max_detections}")

    def _check_arrays(self) -> None:
        known = [*MAPS, DETECTIONS]
        if (
            not self.arrays
            or set(self.arrays) - set(known)
            or len(set(self.arrays)) != len(self.arrays)
        ):
            raise ValueError(
                f"arrays names one or more of {', '.join(known)}, each once; got {self.arrays}"
            )

    def _check_network(self) -> None:
        if self.release not in RELEASES:
            raise ValueError(f"release is one of {', '.join(RELEASES)}; got {self.release!r}")
        if self.size not in tuple(RELEASES[self.release]):
            sizes = ", ".join(RELEASES[self.release])
            raise ValueError(
                f"size is one of {sizes} in the release {self.release}; got {self.size!r}"
            )
        if self.backend not in BACKENDS:
            raise ValueError(f"backend is one of {', '.join(BACKENDS)}; got {self.backend!r}")
        if self.backend == "ultralytics" and self.release != "u":
            raise ValueError(
                f"the ultralytics package has the network of the release u, not of {self.release}"
            )
        if self.backend == "ultralytics" and self.precision != "fp32":
            raise ValueError(
                f"precision is fp32 with the backend ultralytics; got {self.precision!r}"
            )
