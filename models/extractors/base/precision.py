"""How exactly a network computes: two settings that every network has, and how far each may take
which array.

An array that a choice takes too far has no entry in `ALLOWED_ERRORS`, and is refused. Imports no torch.
Refuses to know how a choice is carried out: that is `compute.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class OutputError:
    """How far an array lies, or may lie, from what fp32 and parity give."""

    norm: float
    """The largest relative error of a row, in the Euclidean norm."""
    largest: float
    """The largest error of a value, over the largest value of its row."""
    unmatched: float = 0.0
    """Of persons or objects, the share that only one of the two sees; the numbers above are of the
    others.
    """

    def __add__(self, other: OutputError) -> OutputError:
        return OutputError(
            self.norm + other.norm, self.largest + other.largest, self.unmatched + other.unmatched
        )

    def exceeds(self, allowed: OutputError) -> bool:
        """Whether any of the three is more than allowed, or no number."""
        within = (
            self.norm <= allowed.norm
            and self.largest <= allowed.largest
            and self.unmatched <= allowed.unmatched
        )
        return not within

    def __str__(self) -> str:
        share = f", {self.unmatched:.1%} without a partner" if self.unmatched else ""
        return f"{self.norm:.1e} in the norm, {self.largest:.1e} at most{share}"


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
"""Choice → array → what is allowed: about twice the worst that `benchmarks/extractor_drift.py`
measured on real frames with seeded random weights. What is missing drifts too far with such weights
(docs/decisions), in either way: keypoint R-CNN's persons, and YOLOv5's detections.
"""

ROUNDING_ERRORS: dict[str, OutputError] = {
    "keypoint_rcnn.boxes": OutputError(5e-4, 2e-3),
    "tased.saliency": OutputError(3e-4, 1e-2),
}
"""Array → how far other rounding alone may take it on real frames: another kind of processor, other
threads, another memory layout, a GPU. About twice the worst that `tests/models/extractors/test_noise.py` and
docs/decisions have seen, with seeded random weights; of saliency, blocks of 8 pixels, and
`TASED_PIXELS` for smaller ones.
"""
TASED_PIXELS, TASED_BLOCK = OutputError(2e-3, 1e-1), 8
DEFAULT_ROUNDING_ERROR = OutputError(1e-4, 1e-3)
UNSTABLE_ARRAYS = ("keypoint_rcnn.joints", "keypoint_rcnn.joint_features")
"""Arrays of which other rounding may take single items anywhere: a joint is where its heatmap is
highest, and of peaks of nearly one height any may be.
"""


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """Settings of every network, beside its own."""

    precision: str = "fp32"
    """fp32 computes what the authors' code computes; bf16 rounds to 8 bits inside, and is faster
    where hardware has it.
    """
    resize: str = "parity"
    """parity shrinks frames with the authors' library, to the bit; fast lets torch do it on the
    device.
    """

    def __post_init__(self) -> None:
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"precision is fp32 or bf16, got {self.precision!r}")
        if self.resize not in ("parity", "fast"):
            raise ValueError(f"resize is parity or fast, got {self.resize!r}")

    @property
    def lossy_choices(self) -> tuple[str, ...]:
        """What was chosen that changes numbers: some of the keys of `ALLOWED_ERRORS`."""
        return tuple(choice for choice in (self.precision, self.resize) if choice in ALLOWED_ERRORS)


PARITY = Numerics()


def numerics_of(settings: Any) -> Numerics:
    """The two settings among all of an extractor's; the defaults for one without a network."""
    if not isinstance(settings, Numerics):
        return PARITY
    return Numerics(precision=settings.precision, resize=settings.resize)


def allowed_error(extractor: str, array: str, numerics: Numerics) -> OutputError | None:
    """How far the choices may take an array together; None if one of them takes it too far to be
    offered.
    """
    drifts = [
        ALLOWED_ERRORS[choice].get(f"{extractor}.{array}") for choice in numerics.lossy_choices
    ]
    offered = [drift for drift in drifts if drift is not None]
    return sum(offered, OutputError(0, 0)) if len(offered) == len(drifts) else None


def rounding_error(extractor: str, array: str, settings: Any) -> OutputError:
    """How far other rounding alone may take an array, but for items of `JUMPING` ones."""
    if extractor == "tased" and settings.block_pixels < TASED_BLOCK:
        return TASED_PIXELS
    return ROUNDING_ERRORS.get(f"{extractor}.{array}", DEFAULT_ROUNDING_ERROR)


def precision_conflicts(extractor: str, arrays: Iterable[str], numerics: Numerics) -> Iterator[str]:
    """A sentence for each choice that takes some of the arrays too far."""
    for choice in numerics.lossy_choices:
        offered = [
            name.partition(".")[2]
            for name in ALLOWED_ERRORS[choice]
            if name.startswith(f"{extractor}.")
        ]
        refused = [name for name in arrays if name not in offered]
        if refused:
            setting, default = ("precision", "fp32") if choice == "bf16" else ("resize", "parity")
            yield (
                f"{setting} = {choice} takes {', '.join(refused)} too far from {default}; it is offered for "
                f"{', '.join(offered) or 'no array of this extractor'}. Use {setting} = {default}, or keep other arrays"
            )


def is_gpu(device: str) -> bool:
    """Whether a torch device name is a GPU's."""
    return device.startswith("cuda")
