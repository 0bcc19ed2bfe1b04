"""Runs an author's code on a state dict file and a clip, in a process of its own: its `model` and
ours share a name.

`python run_reference.py c3d|tased|tased-clip REFERENCE WEIGHTS FRAMES.npz OUT.npz`: REFERENCE is a
checkout of DavideA/c3d-pytorch or MichiganCOG/TASED-Net, WEIGHTS a state dict in the published
format, FRAMES holds `frames` (N, H, W, 3) uint8 RGB. Nothing of ours is imported here.
"""

from __future__ import annotations

import copy
import importlib
import sys
import types
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

Arrays = dict[str, Any]


def c3d(weights: Path, given: Arrays) -> Arrays:
    """All 16-frame clips side by side through DavideA's network, as it is and with Caffe's pool5.

    Frames are made ready as the Caffe release's test settings say, in numpy: BGR, 128×171, mean,
    centre crop.
    """
    network: Any = importlib.import_module("C3D_model").C3D()
    network.load_state_dict(torch.load(weights, weights_only=True))
    network.eval()
    mean = given.get("mean", np.array([90, 98, 102], np.float32).reshape(3, 1, 1, 1))
    found: dict[str, list[Any]] = {}
    for name, pool in (("symmetric", network.pool5), ("ceil", nn.MaxPool3d(2, 2, ceil_mode=True))):
        network.pool5 = pool
        for clip in np.split(given["frames"], len(given["frames"]) // 16):
            small = [cv2.resize(frame[..., ::-1], (171, 128)) for frame in clip]
            volume = np.stack(small).astype(np.float32).transpose(3, 0, 1, 2) - mean
            for array, value in _activations(network, volume[:, :, 8:120, 29:141]).items():
                found.setdefault(f"{name}/{array}", []).append(value)
            for array, value in _activations(
                network, volume[:, :, 8:120, 29:141][..., ::-1]
            ).items():
                found.setdefault(f"{name}/{array}/mirrored", []).append(value)
    return {name: np.stack(values) for name, values in found.items()}


def _activations(network: Any, clip: Any) -> Arrays:
    kept: Arrays = {}
    hooks = [
        layer.register_forward_hook(
            lambda _, __, out, name=name: kept.__setitem__(name, out.numpy().ravel().copy())
        )
        for name, layer in (("pool5", network.pool5), ("fc6", network.fc6), ("fc7", network.fc7))
    ]
    with torch.no_grad():
        network.softmax = nn.Identity()
        network(torch.from_numpy(np.ascontiguousarray(clip))[None])
    for hook in hooks:
        hook.remove()
    linear = {f"{name}_linear": kept[name] for name in ("fc6", "fc7")}
    return {
        "pool5": kept["pool5"],
        **linear,
        **{name: np.maximum(kept[name], 0) for name in ("fc6", "fc7")},
    }


SURELY, AT_MOST = 5e-7, 2e-6
"""The rule for places of `models/extractors/tased/unpooling.py`, here once more and for itself."""


class Remember(nn.Module):
    """In the place of a pool that says where its maxima are: hands on its pool and, instead of
    places, its input.
    """

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, encoded: Any) -> Any:
        """The maxima, and what they are of."""
        return self.pool(encoded)[0], encoded


class Paint(nn.Module):
    """In the place of an unpooling: paints windows one after the other, each over what earlier ones
    painted.
    """

    def __init__(self, unpooling: Any) -> None:
        super().__init__()
        self.side, self.border = unpooling.kernel_size[1], unpooling.padding[1]

    def forward(self, values: Any, encoded: Any, _size: Any = None) -> Any:
        """Values of windows of `encoded`, put where the rule says."""
        largest = encoded.amax((1, 2, 3, 4), keepdim=True)[..., 0, 0]
        painted = torch.zeros_like(encoded)
        for row in range(values.shape[3]):
            for column in range(values.shape[4]):
                places = [
                    (y, x)
                    for y in range(2 * row - self.border, 2 * row - self.border + self.side)
                    for x in range(2 * column - self.border, 2 * column - self.border + self.side)
                    if 0 <= y < encoded.shape[3] and 0 <= x < encoded.shape[4]
                ]
                highest = torch.stack([encoded[..., y, x] for y, x in places]).amax(0)
                rest = torch.ones_like(highest)
                for y, x in places:
                    missing = (highest - encoded[..., y, x]) / largest
                    share = rest * ((AT_MOST - missing) / (AT_MOST - SURELY)).clamp(0, 1)
                    painted[..., y, x] = (1 - share) * painted[..., y, x] + share * values[
                        ..., row, column
                    ]
                    rest = rest - share
        return painted


def patch_places(network: Any) -> None:
    """Give the authors' network the rule for places, and change nothing else."""
    for pool in ("maxp4", "maxt3", "maxt2"):
        setattr(network, pool, Remember(getattr(network, pool)))
    for unpooling in ("unpool1", "unpool2", "unpool3"):
        setattr(network, unpooling, Paint(getattr(network, unpooling)))


def tased_clip(weights: Path, given: Arrays) -> Arrays:
    """One clip of 32 frames of any size through the network in float64, forward and reversed; no
    resizing.

    Of the network as published what it computes before it looks for places, and the maps; then the
    maps with the rule.
    """
    script, network = _tased(weights)
    network.double()
    clip = script.transform(list(given["frames"])).double()
    found: Arrays = {}

    def keep(name: str, out: Any) -> None:
        found.setdefault(name, out[0].numpy().copy())  # of the clip as it is, which comes first

    for name, part in (("y3", "maxm2"), ("y2", "maxm3"), ("y1", "maxt4"), ("z", "convtsp1")):
        getattr(network, part).register_forward_hook(lambda _, __, out, name=name: keep(name, out))
    with torch.no_grad():
        for name, shown in (("forward", clip), ("reversed", torch.flip(clip, [2]))):
            found[f"{name}/published"] = network(shown)[0].numpy()
        patch_places(network)
        for name, shown in (("forward", clip), ("reversed", torch.flip(clip, [2]))):
            found[name] = network(shown)[0].numpy()
    return found


def tased(weights: Path, given: Arrays) -> Arrays:
    """The release's own script over a folder of pictures; raw maps of the frames in `rows`, before
    its blur.

    As published, and, with the rule for places, under names that end in `/rule`.
    """
    script, _ = _tased(weights)
    folder = Path.cwd() / "pictures" / "video"
    folder.mkdir(parents=True)
    for number, frame in enumerate(given["frames"]):
        cv2.imwrite(str(folder / f"{number:05d}.png"), frame[..., ::-1])
    (Path.cwd() / "TASED_updated.pt").symlink_to(weights)
    wanted, maps = {int(row) for row in given["rows"]}, {}

    def process(model: Any, clip: Any, _: str, index: int) -> None:
        if index in wanted:
            with torch.no_grad():
                maps[f"{index}"] = model(clip)[0].numpy()
                ruled = copy.deepcopy(model)
                patch_places(ruled)
                maps[f"{index}/rule"] = ruled(clip)[0].numpy()

    script.process = process
    classes: tuple[Any, ...] = (nn.Module, torch.Tensor)
    for patched in classes:
        patched.cuda = lambda self: self  # the script knows GPUs only
    sys.argv[1:] = ["pictures", "maps"]
    script.main()
    return maps


def _tased(weights: Path) -> tuple[Any, Any]:
    blur: Any = types.ModuleType(
        "scipy.ndimage.filters"
    )  # gone from newer scipy; only drawn pictures need it
    blur.gaussian_filter = None
    sys.modules["scipy.ndimage.filters"] = blur
    network: Any = importlib.import_module("model").TASED_v2()
    tensors = torch.load(weights, weights_only=True)
    network.load_state_dict(
        {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    )
    return importlib.import_module("run_example"), network.eval()


def main() -> None:
    """Arguments are in the module's docstring; works in the current folder, which should be an
    empty one.
    """
    what, reference, weights, frames, out = sys.argv[1:6]
    sys.path.insert(0, reference)
    torch.set_num_threads(2)
    run = {"c3d": c3d, "tased": tased, "tased-clip": tased_clip}[what]
    with np.load(frames) as given:
        np.savez(Path(out), **run(Path(weights), dict(given)))


if __name__ == "__main__":
    main()
