"""Golden outputs: what each extractor gives for one synthetic clip, with seeded weights.

The numbers are in a file beside each extractor's settings, such as `c3d/c3d.golden.json`, written
by `python -m pipeline golden NAME`. The self-test (`pipeline.diagnostics.self_test`) compares a
machine's outputs with them.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.extractors.base.contract import ArraySpec, Extractor, ExtractorSpec, Frame
from models.extractors.base.failures import ExtractorError, describe_error
from models.extractors.base.precision import Numerics, OutputError, allowed_error
from models.extractors.base.row_contract import row_faults
from models.extractors.base.sampling import (
    ConsecutiveFrames,
    FramesAtRateWithHistory,
    FramesOfSegments,
    Sampling,
)
from models.extractors.golden.output_error import Rows, output_errors

WEIGHTS = "random:0"
HEIGHT, WIDTH = 180, 320
PROJECTIONS = 8
TOLERANCE = 1e-4
"""Share of an array's norm. Rounding differs by about 1e-6 between processors; a swapped channel,
a missing division or a shifted crop changes more than 1e-2.
"""


@dataclass(frozen=True)
class GoldenOutput:
    """A summary of one array of one row."""

    shape: tuple[int, ...]
    norm: float
    projections: tuple[float, ...]


class GoldenMissing(LookupError):
    """There are no numbers for an extractor's present numerics version and settings."""


def synthetic_clip(length_frames: int) -> list[Frame]:
    """`(180, 320, 3)` moving frames with coarse and fine structure, different in each channel."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return [_synthetic_frame(x, y, t) for t in range(length_frames)]


def _synthetic_frame(x: NDArray[Any], y: NDArray[Any], t: int) -> Frame:
    red = (x + 3 * t) // 2 ^ (y // 3 * 2)
    green = x * y // 97 + 5 * t
    blue = 40 + 60 * (((x - 160 - 2 * t) ** 2 + 2 * (y - 90) ** 2) // 900 % 3)
    return np.stack([red & 255, green & 255, blue & 255], axis=-1).astype(np.uint8)


def window_frames(sampling: Sampling) -> int:
    """How many frames a window of this sampling has."""
    if isinstance(sampling, ConsecutiveFrames | FramesOfSegments):
        return sampling.length_frames
    if isinstance(sampling, FramesAtRateWithHistory):
        return sampling.history_frames
    return 1


def golden_settings(spec: ExtractorSpec, **others: Any) -> Any:
    """The settings of the golden outputs: defaults, then those of the spec, then `others`."""
    return spec.settings_type(**{**spec.golden.settings, **others})


@contextmanager
def calling(spec: ExtractorSpec, code: object, part: str) -> Iterator[None]:
    """Inside, an error of the extractor becomes an ExtractorError that names its line.

    `code` is the extractor, or a function of its spec; `part` is what is called.
    """
    try:
        yield
    except (ExtractorError, MemoryError):
        raise
    except Exception as error:
        raise ExtractorError(
            f"{spec.name} failed in {part}: {describe_error(error, code)}"
        ) from error


def build_golden_extractor(spec: ExtractorSpec, device: str, **others: Any) -> Extractor:
    """The extractor with the settings of the golden outputs and seeded weights."""
    weights = WEIGHTS if spec.needs_weights else ""
    with calling(spec, spec.build, "build"):
        return spec.build(golden_settings(spec, **others), weights, device)


def _compute_rows(spec: ExtractorSpec, device: str, **others: Any) -> Rows:
    extractor = build_golden_extractor(spec, device, **others)
    frames = synthetic_clip(window_frames(spec.sampling(golden_settings(spec, **others))))
    with calling(spec, extractor, "prepare or extract"):
        return extractor.extract([[extractor.prepare(frame) for frame in frames]])


def compute_golden_outputs(spec: ExtractorSpec, device: str) -> dict[str, GoldenOutput]:
    """Array → what this code gives on a torch device."""
    return _summarize_rows(spec, _compute_rows(spec, device))


def _summarize_rows(spec: ExtractorSpec, rows: Rows) -> dict[str, GoldenOutput]:
    array_specs = spec.arrays(golden_settings(spec))
    return {name: summarize_row(rows[name][0], array_specs[name]) for name in rows}


def self_test_differences(spec: ExtractorSpec, device: str) -> list[str]:
    """A sentence for each way in which the extractor differs here from its golden outputs.

    Raises GoldenMissing, and ExtractorError if its code raises an error.
    """
    # Before the network is built: without them there is nothing to compare with.
    known_outputs(spec)
    rows = _compute_rows(spec, device)
    # Rows that break the contract cannot be compared, and the contract says what to correct.
    broken = row_faults(rows, spec.arrays(golden_settings(spec)), 1)
    faults = [f"{spec.name}: {fault}" for fault in broken]
    return faults or list(golden_differences(spec, _summarize_rows(spec, rows)))


def precision_violations(spec: ExtractorSpec, device: str, numerics: Numerics) -> Iterator[str]:
    """A sentence for each array whose error under `numerics` is larger than allowed.

    The reference is computed on the same device with fp32 and parity.
    """
    others = spec.golden.resize_settings
    reference = _compute_rows(spec, device, **others)
    found = _compute_rows(
        spec, device, **others, precision=numerics.precision, resize=numerics.resize
    )
    limits: dict[str, OutputError] = {}
    for name in reference:
        limit = allowed_error(spec.name, name, numerics)
        if limit is not None:
            limits[name] = limit
    errors = output_errors({name: reference[name] for name in limits}, found)
    for name, error in errors.items():
        if error.exceeds(limits[name]):
            yield (
                f"{spec.name}.{name} has an error of {error} under {numerics}; "
                f"allowed is {limits[name]}"
            )


def summarize_row(row: NDArray[Any], array_spec: ArraySpec | None = None) -> GoldenOutput:
    """A summary of a row; of the decoded picture, if `array_spec` says that it is JPEG bytes."""
    is_jpeg = array_spec is not None and array_spec.dtype == "uint8"
    values = _decode_jpeg(row) if is_jpeg else row
    flat = np.asarray(values, dtype=np.float64).reshape(-1)
    steps = np.arange(1, flat.size + 1)
    # Cosines of unrelated frequencies: a value that moves to another place changes them.
    projections = [
        float((flat * np.cos(steps * math.sqrt(k + 2))).sum()) for k in range(PROJECTIONS)
    ]
    return GoldenOutput(tuple(values.shape), float(np.linalg.norm(flat)), tuple(projections))


def _decode_jpeg(data: NDArray[Any]) -> NDArray[Any]:
    import cv2  # here, so that reading a golden file does not wait for it

    picture = cv2.imdecode(np.asarray(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError(
            "an array of dtype uint8 must hold JPEG files; OpenCV cannot read this one"
        )
    return np.asarray(picture)


def golden_entry(spec: ExtractorSpec, outputs: Mapping[str, GoldenOutput]) -> dict[str, Any]:
    """The content of an extractor's golden file."""
    arrays = {name: dataclasses.asdict(output) for name, output in outputs.items()}
    settings = dataclasses.asdict(golden_settings(spec))
    # Golden outputs are always those of the default precision and resize.
    for field in dataclasses.fields(Numerics):
        settings.pop(field.name, None)
    return {"numerics_version": spec.numerics_version, "settings": settings, "arrays": arrays}


def golden_file(spec: ExtractorSpec) -> Path:
    """Where an extractor's golden outputs are kept: beside the module with its settings."""
    module = Path(inspect.getfile(spec.settings_type))
    return module.with_name(f"{spec.name}.golden.json")


def write_golden_file(spec: ExtractorSpec) -> Path:
    """Compute an extractor's golden outputs on this CPU and write them; returns the file.

    `models.extractors.golden.proof` says first whether they prove anything.
    """
    outputs = compute_golden_outputs(spec, "cpu")
    path = golden_file(spec)
    entry = golden_entry(spec, outputs)
    path.write_text(json.dumps(entry, indent=1, sort_keys=True) + "\n")
    return path


def golden_advice(spec: ExtractorSpec, plugin: str = "") -> str:
    """What to do without a golden file. `plugin` is the distribution of an extractor not ours."""
    advice = (
        f"run `python -m pipeline golden {spec.name}`, which writes it, and look at the shape and "
        "the norm of each array in it"
    )
    if not plugin:
        return advice
    return f"{advice}; if {plugin} is not yours, its makers must ship this file as package data"


def known_outputs(spec: ExtractorSpec) -> dict[str, GoldenOutput]:
    """The committed golden outputs of an extractor.

    Raises GoldenMissing if there are none, or only those of other numerics or settings.
    """
    path = golden_file(spec)
    if not path.is_file():
        raise GoldenMissing(f"{spec.name} has no golden file {path}")
    # Through JSON, so that tuples compare equal to lists.
    present = json.loads(json.dumps(golden_entry(spec, {})))
    try:
        entry = json.loads(path.read_text())
        made_with = {key: entry[key] for key in ("numerics_version", "settings")}
        outputs = {
            name: GoldenOutput(tuple(array["shape"]), array["norm"], tuple(array["projections"]))
            for name, array in entry["arrays"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise GoldenMissing(f"{path} is not a golden file ({error})") from error
    for key, value in made_with.items():
        if value != present[key]:
            raise GoldenMissing(f"{path} was made with {key} {value}, the code has {present[key]}")
    return outputs


def golden_differences(spec: ExtractorSpec, found: Mapping[str, GoldenOutput]) -> Iterator[str]:
    """A sentence for each array that differs from its golden output. Raises GoldenMissing."""
    expected = known_outputs(spec)
    if expected.keys() != found.keys():
        yield f"{spec.name} gives {', '.join(found)}, known are {', '.join(expected)}"
    for name in expected.keys() & found.keys():
        tolerance = spec.golden.tolerances.get(name, TOLERANCE)
        difference = _difference(
            f"{spec.name}.{name}", expected[name], found[name], tolerance=tolerance
        )
        if difference:
            yield difference


def _difference(name: str, expected: GoldenOutput, found: GoldenOutput, *, tolerance: float) -> str:
    """How `found` differs, in a sentence; empty if it is within the tolerance."""
    if expected.shape != found.shape:
        return f"{name} has the shape {found.shape}, known is {expected.shape}"
    error = golden_error(expected, found)
    if error <= tolerance:  # false for NaN
        return ""
    return f"{name} is off by {error:.1e} of its norm, allowed is {tolerance:.0e}"


def golden_error(expected: GoldenOutput, found: GoldenOutput) -> float:
    """The largest difference of norms and projections, over the norm."""
    differences = [abs(expected.norm - found.norm)]
    for one, other in zip(expected.projections, found.projections, strict=True):
        differences.append(abs(one - other))
    return max(differences) / max(expected.norm, 1e-30)
