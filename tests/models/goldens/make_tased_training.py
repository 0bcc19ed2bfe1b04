"""Writes `tased_training.json`: what TASED-Net's training starts from and what it minimises, from
the authors' code.

Of kylemin/S3D the names and shapes of its state dict, and the last features of its encoder for
formula weights, in float64; of MichiganCOG/TASED-Net the KL loss of formula maps.

`python -m tests.models.goldens.make_tased_training S3D TASED`, with checkouts at `S3D_COMMIT` and
`TASED_COMMIT`.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.models.goldens.formula import frames, scattered, state_dict

S3D_COMMIT = "ecd3786ae8c6212b3c3777dbd18089c2649dd552"
TASED_COMMIT = "0cf47b73cf055bfc64dc132a85276cca67308226"
CLASSES = 400
CLIP = (32, 32, 64)
STEP = 13
"""Every so many numbers of the features are kept."""
MAPS = {"one": (1, 4, 6), "batch": (3, 8, 12), "large": (2, 28, 48)}


def clip() -> Tensor:
    """`(1, 3, L, H, W)` float64 in [-1, 1], as the releases feed it."""
    stacked = torch.from_numpy(np.stack(frames(*CLIP))).permute(3, 0, 1, 2)[None]
    return (2 * stacked.double() - 255) / 255


def maps(name: str) -> tuple[Tensor, Tensor]:
    """A prediction in (0, 1), and a map of 0 to 255 half of which is 0."""
    shape = MAPS[name]
    predicted = torch.from_numpy(scattered(f"{name}/predicted", int(np.prod(shape)))).reshape(shape)
    looked_at = torch.from_numpy(scattered(f"{name}/map", int(np.prod(shape)))).reshape(shape)
    return (predicted * 3).sigmoid(), (looked_at * 255).clamp(min=0).round()


def _module(checkout: Path, name: str) -> Any:
    sys.path.insert(0, str(checkout.absolute()))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


def main() -> None:
    """The same references give the same file, up to the last digits of a machine's sums."""
    network = _module(Path(sys.argv[1]), "model").S3D(CLASSES)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    network.load_state_dict(state_dict(shapes))
    with torch.no_grad():
        features = network.double().eval().base(clip()).flatten()
    loss = _module(Path(sys.argv[2]), "loss").KLDLoss()
    golden = {
        "references": {"kylemin/S3D": S3D_COMMIT, "MichiganCOG/TASED-Net": TASED_COMMIT},
        "s3d_shapes": shapes,
        "s3d_features": [float(f"{value:.7g}") for value in features[::STEP].tolist()],
        "kl": {name: float(loss(*maps(name))) for name in MAPS},
    }
    Path(__file__).with_name("tased_training.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
