"""Writes `adaptive_highlight.json`: what the first author's FCSN and Adaptive-FCSN give for formula
weights and rows, the networks made small by reading their sizes as others. Run it from the
repository:

`python -m tests.models.goldens.make_adaptive_highlight REFERENCE`, with REFERENCE a checkout of
mrochan/adaptive-highlight at `COMMIT`.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.highlight.personalized.a_vhd import FCSN, AVHDSettings, FCSNSettings
from tests.models.goldens.formula import scattered, state_dict
from tests.models.goldens.reference import Arrays, ask

COMMIT = "d7a5a35998d81a1bbd4cef96bf3a727c8fdb477d"
SCRIPT = Path(__file__).with_name("run_adaptive_highlight.py")
GOLDEN = Path(__file__).with_name("adaptive_highlight.json")
SIZES = {8192: 24, 4096: 12, 512: 8, 256: 6, 128: 4, 64: 2}
"""Published size → that of the small network."""
KINDS = ("none", "plain", "attn", "conv")
LENGTHS = {1: 1, 7: 4, 54: 2, 130: 20}
"""Rows of a video → videos of its history."""
KEY = "c3d/pool5"
THEIRS = (
    (r"^encoder\.", "enc_net_highlight."),
    (r"^decoder\.", "dec_net_highlight."),
    (r"^history\.encoder\.", "net_history.enc_net_history."),
    (r"^history\.(query|key|value)\.", r"net_history.enc_net_history.\1_conv."),
    (r"^history\.skip\.", "net_history.linear_residual."),
    (r"^history\.parameters_of_norms\.", "net_history.MLP."),
)
"""Our names of tensors → the authors'."""


def network(kind: str, sizes: dict[int, int]) -> FCSN:
    """Ours, of the published sizes as `sizes` reads them, on the device torch makes tensors on."""
    channels = tuple(sizes[size] for size in (64, 128, 256, 512, 512))
    common: dict[str, Any] = {
        "channels": channels,
        "hidden_width": sizes[4096],
        "is_normalised": False,
    }
    settings: dict[str, FCSNSettings] = {
        "none": FCSNSettings(norm="none", **common),
        "plain": FCSNSettings(**common),
        "attn": AVHDSettings(history_encoder="attention", **common),
        "conv": AVHDSettings(history_encoder="convolution", **common),
    }
    return FCSN(KEY, sizes[8192], settings[kind])


def their_name(name: str) -> str:
    """The authors' name of a tensor of ours."""
    for pattern, replacement in THEIRS:
        name = re.sub(pattern, replacement, name)
    return name


def their_tensor(name: str, tensor: Tensor) -> Tensor:
    """Their convolutions are two-dimensional, with kernels one high; three of our linear layers are
    such ones.
    """
    if name.endswith("weight") and tensor.ndim == 3:
        return tensor.unsqueeze(2)
    return tensor[..., None, None] if "_conv.weight" in name else tensor


def weights(ours: nn.Module) -> dict[str, Tensor]:
    """Formula weights under our names."""
    return state_dict({name: tuple(tensor.shape) for name, tensor in ours.state_dict().items()})


def video(length: int, count: int, width: int) -> dict[str, NDArray[np.float32]]:
    """`video` (length, width) with rows of norm 1, and `history` (count, width)."""
    rows = scattered("video", (length + count) * width).reshape(-1, width)
    rows = np.maximum(rows, np.float32(1e-3))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return {"video": rows[:length], "history": rows[length:]}


def reference(
    kind: str, folder: Path, ours: dict[str, Tensor], sizes: dict[int, int], rows: dict[str, Any]
) -> NDArray[Any]:
    """The authors' logits, `(T, 2)`."""
    theirs = {
        their_name(name): their_tensor(their_name(name), tensor) for name, tensor in ours.items()
    }
    if kind in ("attn", "conv"):  # buffers of the adaptive norm, which it never reads
        for layer, size in (("drop7", sizes[4096]), ("pool4_skip", sizes[512])):
            for name, value in (("mean", 0.0), ("var", 1.0)):
                norm = f"dec_net_highlight.instance_norm_enc_out_{layer}"
                theirs[f"{norm}.running_{name}"] = torch.full((size,), value)
    pairs = np.array(list(sizes.items()))
    given: Arrays = ask(kind, folder, theirs, [np.zeros(1)], script=SCRIPT, sizes=pairs, **rows)
    return given["logits"]


def main() -> None:
    """The same reference gives the same file, up to the last digits of a machine's sums."""
    folder = Path(sys.argv[1])
    values = {}
    for kind in KINDS:
        tensors = weights(network(kind, SIZES))
        for length, count in LENGTHS.items():
            logits = reference(kind, folder, tensors, SIZES, video(length, count, SIZES[8192]))
            values[f"{kind} {length}"] = [
                [float(f"{value:.7g}") for value in row] for row in logits
            ]
    golden = {"reference": f"mrochan/adaptive-highlight at {COMMIT}", "values": values}
    GOLDEN.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
