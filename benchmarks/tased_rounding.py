"""The error that other rounding causes in TASED-Net's map on real frames.

`python -m benchmarks.tased_rounding VIDEO... [--weights FILE]` compares noise of 1e-7 on the
outputs of convolutions, float64, two threads and the other memory layout with float32 on one
thread, for our unpooling and the authors'; and our unpooling with the authors'. These numbers are
the reason for `ROUNDING_ERRORS` in `models/extractors/base/precision.py`, and for the gaps in
`models/extractors/tased/unpooling.py`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.extractor_drift import windows_of
from models.extractors.base.inference import stack_clips
from models.extractors.tased import network as tased_network
from models.extractors.tased.network import TasedNet
from models.extractors.tased.settings import CLIP_FRAMES, TasedSettings
from models.extractors.tased.spec import SPEC

Unpooling = Callable[..., Tensor]


def as_published(values: Tensor, encoded: Tensor, *, window: int) -> Tensor:
    """The authors' unpooling: each value goes to the maximum of its window."""
    form: dict[str, Any] = {
        "kernel_size": (1, window, window),
        "stride": (1, 2, 2),
        "padding": (0, window // 3, window // 3),
    }
    _, places = nn.functional.max_pool3d_with_indices(encoded, **form)
    return nn.functional.max_unpool3d(values, places, **form, output_size=list(encoded.shape[2:]))


def conditions(network: TasedNet, clip: Tensor, unpooling: Unpooling) -> dict[str, Tensor]:
    """Condition → the map of one clip, `(H, W)`."""
    # The network module looks the function up at each call, so this replaces it.
    tased_network.unpool = unpooling

    def saliency(of_clip: Tensor = clip) -> Tensor:
        return network(of_clip)[0].double()

    generator = torch.Generator().manual_seed(1)

    def add_noise(_layer: object, _inputs: object, output: Tensor) -> Tensor:
        return output * (1 + 1e-7 * torch.randn(output.shape, generator=generator))

    found = {"float32": saliency()}
    hooks = [
        layer.register_forward_hook(add_noise)
        for layer in network.modules()
        if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d)
    ]
    found["noise"] = saliency()
    for hook in hooks:
        hook.remove()
    torch.set_num_threads(2)
    found["2 threads"] = saliency()
    torch.set_num_threads(1)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    found["channels last"] = saliency(clip.contiguous(memory_format=torch.channels_last_3d))
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    found["float64"] = network.double()(clip)[0]
    network.float()
    return found


def format_errors(reference: Tensor, found: Tensor) -> str:
    """Pixels, then blocks of 8: error in the norm, and the largest error over the largest value."""
    cells = []
    for side in (1, 8):
        expected = nn.functional.avg_pool2d(reference[None], side)
        error = (expected - nn.functional.avg_pool2d(found[None], side)).abs()
        cells.append(f"{float(error.norm() / expected.norm()):.1e}")
        cells.append(f"{float(error.max() / expected.max()):.1e}")
    return " | ".join(cells)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--weights", default="random:0")
    given = parser.parse_args()
    extractor: Any = SPEC.build(TasedSettings(block_pixels=1), given.weights, "cpu")
    rule = tased_network.unpool
    torch.set_num_threads(1)
    head = "| video | unpooling | what | norm | worst | norm, blocks | worst, blocks |"
    sys.stdout.write(f"{head}\n|-|-|-|-|-|-|-|\n")
    for video in given.videos:
        (window,) = windows_of(video, CLIP_FRAMES, 1)
        clip = stack_clips([[extractor.prepare(frame) for frame in window]], "cpu").contiguous()
        with torch.inference_mode():
            run = partial(conditions, extractor.network, clip)
            maps = {"published": run(as_published), "rule": run(rule)}
        for name, found in maps.items():
            for condition in ("noise", "2 threads", "channels last", "float64"):
                errors = format_errors(found["float32"], found[condition])
                sys.stdout.write(f"| {video.name} | {name} | {condition} | {errors} |\n")
        apart = format_errors(maps["published"]["float32"], maps["rule"]["float32"])
        sys.stdout.write(f"| {video.name} | rule | from published | {apart} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
