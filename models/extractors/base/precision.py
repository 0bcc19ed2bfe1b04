"""The two numeric settings of every network, and the error that each may cause in each array.

An array that is not in `ALLOWED_ERRORS` for a choice is refused with it. `inference.py` carries a
choice out; this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from models.validation import one_of


@dataclass(frozen=True)
class OutputError:
    """How far an array is, or may be, from what fp32 and parity give."""

    norm: float
    """The largest relative error of a row, in the Euclidean norm."""
    largest: float
    """The largest error of a value, over the largest value of its row."""
    unmatched: float = 0.0
    """The share of persons or objects that only one of the two detects; 0 to 1.

    The numbers above are those of the matched ones.
    """

    def __add__(self, other: OutputError) -> OutputError:
        return OutputError(
            self.norm + other.norm, self.largest + other.largest, self.unmatched + other.unmatched
        )

    def exceeds(self, allowed: OutputError) -> bool:
        """Whether any of the three is more than allowed, or NaN."""
        # Not written with >, which would let NaN pass.
        is_within = (
            self.norm <= allowed.norm
            and self.largest <= allowed.largest
            and self.unmatched <= allowed.unmatched
        )
        return not is_within

    def __str__(self) -> str:
        text = f"{self.norm:.1e} in the norm, {self.largest:.1e} at most"
        return f"{text}, {self.unmatched:.1%} unmatched" if self.unmatched else text


ALLOWED_ERRORS: dict[str, dict[str, OutputError]] = {
    "bf16": {
        "c3d.pool5": OutputError(0.015, 0.03),
        "c3d.fc6": OutputError(0.015, 0.03),
        "c3d.fc6_linear": OutputError(0.015, 0.03),
        "c3d.fc7": OutputError(0.015, 0.03),
        "c3d.fc7_linear": OutputError(0.015, 0.03),
        "tased.saliency": OutputError(0.06, 0.3),
        "yolov5.p3": OutputError(0.05, 0.1),
        "yolov5.p4": OutputError(0.06, 0.12),
        "yolov5.p5": OutputError(0.06, 0.12),
    },
    "fast": {
        "c3d.pool5": OutputError(0.01, 0.02),
        "c3d.fc6": OutputError(0.01, 0.02),
        "c3d.fc6_linear": OutputError(0.01, 0.02),
        "c3d.fc7": OutputError(0.01, 0.02),
        "c3d.fc7_linear": OutputError(0.01, 0.02),
        "tased.saliency": OutputError(0.06, 0.3),
        "yolov5.p3": OutputError(0.015, 0.03),
        "yolov5.p4": OutputError(0.02, 0.04),
        "yolov5.p5": OutputError(0.02, 0.04),
    },
}
"""Choice → array → the allowed error: about twice the worst that `benchmarks/extractor_drift.py`
measured on real frames with seeded random weights.

Arrays that are missing here differ too much with such weights (docs/decisions): the persons of
keypoint R-CNN, and the detections of YOLOv5.
"""

ROUNDING_ERRORS: dict[str, OutputError] = {
    "keypoint_rcnn.boxes": OutputError(5e-4, 2e-3),
    "tased.saliency": OutputError(3e-4, 1e-2),
}
"""Array → the error that other rounding alone may cause on real frames: another kind of processor,
other threads, another memory layout, a GPU.

About twice the worst that `tests/models/extractors/test_noise.py` and docs/decisions report, with
seeded random weights. For saliency it holds for blocks of 8 pixels.
"""
TASED_SMALL_BLOCKS = OutputError(2e-3, 1e-1)
"""The same for saliency in blocks smaller than `TASED_BLOCK` pixels."""
TASED_BLOCK = 8
DEFAULT_ROUNDING_ERROR = OutputError(1e-4, 1e-3)
UNSTABLE_ARRAYS = ("keypoint_rcnn.joints", "keypoint_rcnn.joint_features")
"""Arrays in which other rounding may move single items anywhere.

A keypoint is where its heatmap is highest, and rounding decides between peaks of nearly one height.
"""


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """Numeric settings that every network has, beside its own."""

    precision: str = "fp32"
    """fp32 computes what the authors' code computes; bf16 rounds to 8 bits inside, and is faster
    where hardware has it.
    """
    resize: str = "parity"
    """parity shrinks frames with the authors' library, to the bit; fast lets torch do it on the
    device.
    """

    def __post_init__(self) -> None:
        one_of("precision", self.precision, ("fp32", "bf16"))
        one_of("resize", self.resize, ("parity", "fast"))

    @property
    def lossy_choices(self) -> tuple[str, ...]:
        """The chosen values that change numbers: some of the keys of `ALLOWED_ERRORS`."""
        return tuple(choice for choice in (self.precision, self.resize) if choice in ALLOWED_ERRORS)


PARITY = Numerics()


def numerics_of(settings: Any) -> Numerics:
    """The two numeric settings of an extractor; the defaults for one without a network."""
    if not isinstance(settings, Numerics):
        return PARITY
    return Numerics(precision=settings.precision, resize=settings.resize)


def allowed_error(extractor: str, array: str, numerics: Numerics) -> OutputError | None:
    """The error that the choices may cause in an array together; None if one of them is refused."""
    total = OutputError(0, 0)
    for choice in numerics.lossy_choices:
        error = ALLOWED_ERRORS[choice].get(f"{extractor}.{array}")
        if error is None:
            return None
        total += error
    return total


def rounding_error(extractor: str, array: str, settings: Any) -> OutputError:
    """The error that other rounding alone may cause, except for items of `UNSTABLE_ARRAYS`."""
    if extractor == "tased" and settings.block_pixels < TASED_BLOCK:
        return TASED_SMALL_BLOCKS
    return ROUNDING_ERRORS.get(f"{extractor}.{array}", DEFAULT_ROUNDING_ERROR)


def precision_conflicts(extractor: str, arrays: Iterable[str], numerics: Numerics) -> Iterator[str]:
    """A sentence for each choice that changes some of the arrays too much."""
    kept = list(arrays)
    for choice in numerics.lossy_choices:
        supported = _supported_arrays(extractor, choice)
        refused = [name for name in kept if name not in supported]
        if not refused:
            continue
        setting, default = _DEFAULT_OF[choice]
        reason = f"changes {', '.join(refused)} too much against {default}"
        if not supported:
            reason = f"has not been measured for {', '.join(refused)}"
        yield (
            f"{setting} = {choice} {reason}; it "
            f"supports {', '.join(supported) or 'no array of this extractor'}. "
            f"Set {setting} = {default}, or keep other arrays"
        )


_DEFAULT_OF = {"bf16": ("precision", "fp32"), "fast": ("resize", "parity")}
"""Lossy choice → its setting, and the value that changes nothing."""


def _supported_arrays(extractor: str, choice: str) -> list[str]:
    full_names = ALLOWED_ERRORS[choice]
    return [name.partition(".")[2] for name in full_names if name.startswith(f"{extractor}.")]


def is_gpu(device: str) -> bool:
    """Whether a torch device name is a GPU's."""
    return device.startswith("cuda")
