"""Writes `mini_net.json`: what the authors' MINI-Net without sound gives for formula weights and
bags.

Run it from the repository: `python -m tests.models.goldens.make_mini_net REFERENCE`, with REFERENCE
a checkout of xuantengh/MINI-Net at `COMMIT`.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
from torch import Tensor

from models.highlight.generic.mini_net import MiniNet, MiniNetSettings
from tests.models.goldens.formula import scattered, state_dict
from tests.models.goldens.reference import Arrays, ask

COMMIT = "d2f89bf27a55117be7bed946ca9fc94d4b2ca057"
SCRIPT = Path(__file__).with_name("run_mini_net.py")
GOLDEN = Path(__file__).with_name("mini_net.json")
KEY, WIDTH, BAGS, SIZE = "c3d/fc6", 24, 3, 7
THEIRS = (
    (r"^embed\.(\d)\.", lambda found: f"vfc.{2 * int(found[1])}."),
    (r"^value\.", "V."),
    (r"^gate\.", "U."),
    (r"^attention\.", "W."),
)
"""Our names of tensors → the authors'."""


def network() -> MiniNet:
    """Ours, of the published widths but for the feature's, without dropout."""
    return MiniNet(KEY, WIDTH, MiniNetSettings(dropout=0.0)).train()


def their_name(name: str) -> str:
    """The authors' name of a tensor of ours."""
    for pattern, replacement in THEIRS:
        name = re.sub(pattern, replacement, name)
    return name


def weights() -> dict[str, Tensor]:
    """Formula weights under our names."""
    return state_dict(
        {name: tuple(tensor.shape) for name, tensor in network().state_dict().items()}
    )


def bags() -> Arrays:
    """`(BAGS, SIZE, WIDTH)` each."""
    return {
        name: scattered(name, BAGS * SIZE * WIDTH).reshape(BAGS, SIZE, WIDTH) * 3
        for name in ("source", "target")
    }


def reference(folder: Path) -> Arrays:
    """What the authors' code gives."""
    theirs = {their_name(name): tensor for name, tensor in weights().items()}
    return ask("loss", folder, theirs, [np.zeros(1)], script=SCRIPT, **bags())


def main() -> None:
    """The same reference gives the same file, up to the last digits of a machine's sums."""
    values = {
        name: np.vectorize(lambda v: float(f"{v:.7g}"))(array)
        for name, array in reference(Path(sys.argv[1])).items()
    }
    golden = {
        "reference": f"xuantengh/MINI-Net at {COMMIT}",
        "values": {k: v.tolist() for k, v in values.items()},
    }
    GOLDEN.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
