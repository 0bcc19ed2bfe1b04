"""Writes `yolov5.json`: what the authors' networks give for seeded weights and formula frames. Run
it from the repository:

`python -m tests.models.goldens.make_yolov5 V5 V7`, with checkouts of ultralytics/yolov5 at the tags
v5.0 and v7.0; the release u is asked of the installed ultralytics package.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from models.extractors.yolov5.network import YOLOv5
from models.extractors.yolov5.settings import SIZES
from models.extractors.yolov5.weights import initialise
from tests.models.goldens.formula import frames, scattered
from tests.models.goldens.reference import Arrays, ask

COMMITS = {
    "v5.0": "ultralytics/yolov5 at f5b8f7d54c9fa69210da0177fec7ac2d9e4a627c",
    "v7.0": "ultralytics/yolov5 at 915bbf294bb74c859f0b41f1c23bc395014ea679",
}
SCRIPT = Path(__file__).with_name("run_yolov5.py")
GOLDEN = Path(__file__).with_name("yolov5.json")
NETWORKS = (("v5.0", "s"), ("v7.0", "n"), ("u", "n"))
SEED = 3
CAUTION = {"v5.0": 1.5, "v7.0": 0.0, "u": 1.0}
"""Taken from the biases that let boxes pass, so that a frame has at most some dozen."""
PIXELS = 320
SHAPES = ((150, 231), (211, 120))
"""Height and width of the frames. The first scales to 207.8 rows, so that the releases round
differently.
"""
KEPT = 40
"""Numbers of each map."""
BEST = 10
"""Detections of each frame; their count is kept besides."""


def tensors(release: str, size: str, seed: int = SEED) -> dict[str, Tensor]:
    """Weights that detect something, with norms that are not the identity, and no more digits than
    a file has.
    """
    network = YOLOv5(SIZES[size], release)
    initialise(network, seed)
    state = network.state_dict()
    for name, tensor in state.items():
        noise = torch.from_numpy(scattered(name, tensor.numel())).reshape(tensor.shape)
        if name.endswith("running_mean"):
            tensor += noise / 5
        elif name.endswith("running_var"):
            tensor += noise / 2
        elif name.startswith("model.24.") and name.endswith("bias") and ".bn." not in name:
            # Of 3 * 85 numbers every 85th is an object's; all 80 are a class's; 64 are of edges.
            tensor[4::85] -= CAUTION[release] if tensor.numel() == 255 else 0
            tensor -= CAUTION[release] if tensor.numel() == 80 else 0
    return {name: t.half().float() if t.is_floating_point() else t for name, t in state.items()}


def reference(release: str, size: str, folder: Path, shots: Sequence[Any], **more: Any) -> Arrays:
    """`N/picture`, `N/p3`, ... of the N-th frame; frames are of one size. `official` may name where
    the file goes.
    """
    with tempfile.TemporaryDirectory() as scratch:
        given = {
            "official": str(Path(scratch) / "yolov5.pt"),
            "pixels": PIXELS,
            "size": size,
            **more,
        }
        return ask(release, folder, tensors(release, size), shots, script=SCRIPT, **given)


def thinned(values: NDArray[Any]) -> NDArray[Any]:
    """At most `KEPT` numbers from all over a map."""
    return values.ravel()[:: max(1, values.size // KEPT)][:KEPT]


def main() -> None:
    """The same reference gives the same file, up to the last digits of a machine's sums."""
    folders = {"v5.0": Path(sys.argv[1]), "v7.0": Path(sys.argv[2]), "u": Path()}
    package = {
        "u": f"ultralytics {importlib.metadata.version('ultralytics')} from the package index"
    }
    golden: dict[str, Any] = {"references": COMMITS | package, "values": {}}
    for release, size in NETWORKS:
        for height, width in SHAPES:
            arrays = reference(release, size, folders[release], frames(1, height, width))
            found: dict[str, Any] = {"picture": arrays["0/picture"].shape}
            for name in ("p3", "p4", "p5"):
                found[name] = [float(f"{value:.7g}") for value in thinned(arrays[f"0/{name}"])]
                found[f"{name}_largest"] = float(abs(arrays[f"0/{name}"]).max())
            detections = arrays["0/detections"]
            found["count"] = len(detections)
            found["detections"] = [
                [float(f"{value:.7g}") for value in row] for row in detections[:BEST]
            ]
            golden["values"][f"{release} {size} {height}x{width}"] = found
    GOLDEN.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
