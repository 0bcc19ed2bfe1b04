"""The error that bf16 and the fast resize cause in each array on real frames.

`python -m benchmarks.extractor_drift EXTRACTOR VIDEO... [--weights FILE] [--set input_pixels=320]`.
Weights are random and seeded, or real. These numbers are the reason for `ALLOWED_ERRORS` in
`models/extractors/base/precision.py`; choices that are refused there are measured too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.extractors.base.contract import ExtractorSpec, Frame
from models.extractors.base.precision import allowed_error, numerics_of
from models.extractors.golden.golden_outputs import window_frames
from models.extractors.golden.output_error import output_errors
from models.extractors.registry import EXTRACTORS
from pipeline.decoding.video_reader import VideoReader
from pipeline.media.decode_settings import DEFAULT_LIMITS

ARRAYS: dict[str, tuple[str, ...]] = {
    "c3d": ("pool5", "fc6", "fc7", "fc6_linear", "fc7_linear"),
    "yolov5": ("p3", "p4", "p5", "detections"),
}
"""Extractors that keep fewer arrays by default than they have."""
CHOICES = ({"resize": "fast"}, {"precision": "bf16"}, {"precision": "bf16", "resize": "fast"})


def windows_of(path: Path, length: int, count: int) -> Iterator[list[Frame]]:
    """`count` windows of `length` consecutive frames, from all over a video."""
    decoding = VideoReader("v", path, backend="pyav", limits=DEFAULT_LIMITS, heartbeat=lambda: None)
    frames = [frame.to_rgb() for frame in decoding]
    for number in range(count):
        start = (len(frames) - length) * number // max(count - 1, 1)
        yield frames[start : start + length]


def rows(
    spec: ExtractorSpec, settings: Any, weights: str, windows: Sequence[Sequence[Frame]]
) -> Mapping[str, Any]:
    """Array → the rows that an extractor of these settings gives on the CPU."""
    extractor = spec.build(settings, weights, "cpu")
    return extractor.extract([[extractor.prepare(frame) for frame in window] for window in windows])


def setting(text: str) -> tuple[str, Any]:
    """`name=value`, numbers as numbers."""
    name, _, value = text.partition("=")
    return name, int(value) if value.isdecimal() else value


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("extractor", choices=sorted(set(EXTRACTORS) - {"frames"}))
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--windows", type=int, default=4, help="of each video")
    parser.add_argument("--weights", default="random:0")
    parser.add_argument("--set", type=setting, action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    spec = EXTRACTORS[given.extractor]
    chosen: dict[str, Any] = dict(given.set)
    if spec.name in ARRAYS:
        chosen.setdefault("arrays", ARRAYS[spec.name])
    settings = spec.settings_type(**chosen)
    length = window_frames(spec.sampling(settings))
    windows = [
        window for video in given.videos for window in windows_of(video, length, given.windows)
    ]
    reference = rows(spec, settings, given.weights, windows)
    sys.stdout.write("| array | choice | norm | largest | no partner | allowed |\n|-|-|-|-|-|-|\n")
    for choice in CHOICES:
        other = spec.settings_type(**{**chosen, **choice})
        errors = output_errors(reference, rows(spec, other, given.weights, windows))
        for name, error in errors.items():
            limit = allowed_error(spec.name, name, numerics_of(other)) or "refused"
            numbers = f"{error.norm:.1e} | {error.largest:.1e} | {error.unmatched:.1%}"
            sys.stdout.write(f"| {name} | {' '.join(choice.values())} | {numbers} | {limit} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
