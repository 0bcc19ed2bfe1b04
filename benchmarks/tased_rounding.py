"""How far other rounding takes TASED-Net's map on real frames, by the rule for places and by the
authors' unpooling.

`python -m benchmarks.tased_rounding VIDEO... [--weights FILE]`: noise of 1e-7 on what convolutions
give, float64, two threads and the other memory layout, each beside float32 on one thread; and how
far the rule lies from the authors' unpooling. These numbers stand behind `ROUNDING` in
`models/extractors/base/precision.py` and `tased_unpooling.py`.
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
    """The authors' unpooling: each value where the maximum is, whatever decides where that is."""
    form: dict[str, Any] = {
        "kernel_size": (1, window, window),
        "stride": (1, 2, 2),
        "padding": (0, window // 3, window // 3),
    }
    _, places = nn.functional.max_pool3d_with_indices(encoded, **form)
    return nn.functional.max_unpool3d(values, places, **form, output_size=list(encoded.shape[2:]))


def conditions(network: TasedNet, clip: Tensor, unpooling: Unpooling) -> dict[str, Tensor]:
    """The map of one clip, `(H, W)`, under each way of rounding."""
    tased_network.unpool = unpooling

    def shown(given: Tensor = clip) -> Tensor:
        return network(given)[0].double()

    generator = torch.Generator().manual_seed(1)

    def moved(_layer: object, _given: object, output: Tensor) -> Tensor:
        return output * (1 + 1e-7 * torch.randn(output.shape, generator=generator))

    found = {"float32": shown()}
    hooks = [
        layer.register_forward_hook(moved)
        for layer in network.modules()
        if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d)
    ]
    found["noise"] = shown()
    for hook in hooks:
        hook.remove()
    torch.set_num_threads(2)
    found["2 threads"] = shown()
    torch.set_num_threads(1)
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    found["channels last"] = shown(clip.contiguous(memory_format=torch.channels_last_3d))
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    found["float64"] = network.double()(clip)[0]
    network.float()
    return found


def told(reference: Tensor, found: Tensor) -> str:
    """Pixels, then blocks of 8: error of the norm, and of the worst over the largest."""
    parts = []
    for side in (1, 8):
        one, other = (nn.functional.avg_pool2d(pixels[None], side) for pixels in (reference, found))
        error = (one - other).abs()
        parts.append(
            f"{float(error.norm() / one.norm()):.1e} | {float(error.max() / one.max()):.1e}"
        )
    return " | ".join(parts)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--weights", default="random:0")
    given = parser.parse_args()
    extractor: Any = SPEC.build(TasedSettings(block_pixels=1), given.weights, "cpu")
    rule = tased_network.unpool
    torch.set_num_threads(1)
    sys.stdout.write(
        "| video | unpooling | what | norm | worst | norm, blocks | worst, blocks |\n|-|-|-|-|-|-|-|\n"
    )
    for video in given.videos:
        (window,) = windows_of(video, CLIP_FRAMES, 1)
        clip = stack_clips([[extractor.prepare(frame) for frame in window]], "cpu").contiguous()
        with torch.inference_mode():
            run = partial(conditions, extractor.network, clip)
            maps = {"published": run(as_published), "rule": run(rule)}
        for name, found in maps.items():
            for what in ("noise", "2 threads", "channels last", "float64"):
                sys.stdout.write(
                    f"| {video.name} | {name} | {what} | {told(found['float32'], found[what])} |\n"
                )
        apart = told(maps["published"]["float32"], maps["rule"]["float32"])
        sys.stdout.write(f"| {video.name} | rule | from published | {apart} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
