"""Writes `tased.json`: what the authors' TASED-Net gives for formula weights and a small formula
clip, in float64.

Its maps are those with our rule for places patched in: as published they depend on the machine even
in float64, since neighbours are equal by structure. What it computes before it looks for places is
as published. Run it from the repository:

`python -m tests.models.goldens.make_tased REFERENCE`, with REFERENCE a checkout of
MichiganCOG/TASED-Net at `COMMIT`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from models.extractors.tased.network import TasedNet
from tests.models.goldens.formula import frames, state_dict
from tests.models.goldens.reference import ask, relative_error

COMMIT = "0cf47b73cf055bfc64dc132a85276cca67308226"
STEP = 2
"""Every so many rows and columns of a map are kept."""
CLIP = (32, 32, 64)
"""Frames, height, width: the network takes any multiple of 32, and a small one takes a fraction of
a second.
"""


INSIDE_STEP = 97
"""Every so many values of what lies before the places are kept."""
MAPS, INSIDE = ("forward", "reversed"), ("y1", "y2", "y3", "z")


def main() -> None:
    """The same reference gives the same file, up to the last digits of a machine's sums."""
    shapes = {name: tuple(tensor.shape) for name, tensor in TasedNet().state_dict().items()}
    arrays = ask("tased-clip", Path(sys.argv[1]), state_dict(shapes), frames(*CLIP))
    kept = {name: arrays[name][::STEP, ::STEP] for name in MAPS}
    kept |= {name: arrays[name].reshape(1, -1)[:, ::INSIDE_STEP] for name in INSIDE}
    values = {
        name: [[float(f"{value:.7g}") for value in row] for row in array]
        for name, array in sorted(kept.items())
    }
    golden = {
        "reference": "MichiganCOG/TASED-Net",
        "commit": COMMIT,
        "step": STEP,
        "values": values,
    }
    Path(__file__).with_name("tased.json").write_text(json.dumps(golden) + "\n")
    for name in MAPS:
        moved = relative_error(arrays[name], arrays[f"{name}/published"])
        sys.stdout.write(
            f"{name}: as published here, {moved:.1e} of the largest value away at the worst pixel\n"
        )


if __name__ == "__main__":
    main()
