"""Writes `cross_category.json`: what the authors' SL-module, DL-VHD, MMD and CORAL give for formula
weights and rows.

Run it from the repository: `python -m tests.models.goldens.make_cross_category REFERENCE`, with
REFERENCE a checkout of ChrisAllenMing/Cross_Category_Video_Highlight at `COMMIT`, and einops 0.3.0
on PYTHONPATH.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from models.highlight.generic.dl_vhd import DLVHD, ReleasedDLVHDSettings
from models.highlight.generic.sl_module import ReleasedSLSettings, SLModule
from tests.models.goldens.formula import scattered, state_dict
from tests.models.goldens.reference import Arrays, ask

COMMIT = "abe3c2c0ee878dbf567a8f4f48a2d033b485e849"
SCRIPT = Path(__file__).with_name("run_cross_category.py")
GOLDEN = Path(__file__).with_name("cross_category.json")
KEY = "c3d.segments/fc7_linear"
WIDTH = 64
CASES = [
    (what, has)
    for what in ("sl", "dl", "mmd", "coral")
    for has in (True, False)
    if has or what in ("sl", "dl")
]
"""What is run, and whether with the transformer."""
SOURCE, TARGET, RATIO, DISTILLATION = 13, 9, 0.52, 0.7
THEIRS = (
    (r"^encoder\.", "transformer."),
    (r"\.attention_norm\.", ".0.fn.norm."),
    (r"\.query_key_value\.", ".0.fn.fn.to_qkv."),
    (r"\.attention_out\.", ".0.fn.fn.to_out.0."),
    (r"\.forward_norm\.", ".1.fn.norm."),
    (r"\.forward_in\.", ".1.fn.fn.net.0."),
    (r"\.forward_out\.", ".1.fn.fn.net.3."),
    (r"^scorer\.", "score_model."),
    (r"^scorers\.(fine|coarse)\.", r"\1_score_model."),
    (r"fnn\.hidden\.0\.", "fc1."),
    (r"fnn\.hidden\.1\.", "fc2."),
    (r"fnn\.last\.", "fc3."),
)
"""Our names of tensors → the authors'."""


def network(what: str, has_transformer: bool, width: int = WIDTH) -> nn.Module:
    """Ours in the released form, small and without dropout, in training mode: a row of a batch is a
    set.
    """
    sizes: dict[str, Any] = {
        "has_transformer": has_transformer,
        "hidden_width": 3 * width // 2,
        "scorer_widths": (width // 4, width // 16),
        "dropout": 0.0,
        "scorer_dropout": 0.0,
    }
    if what == "dl":
        return DLVHD(KEY, width, ReleasedDLVHDSettings(**sizes)).train()
    return SLModule(KEY, width, ReleasedSLSettings(**sizes)).train()


def their_name(name: str) -> str:
    """The authors' name of a tensor of ours."""
    for pattern, replacement in THEIRS:
        name = re.sub(pattern, replacement, name)
    return name


def weights(what: str, width: int = WIDTH) -> dict[str, Tensor]:
    """Formula weights under our names, those of the transformer among them."""
    return state_dict(
        {
            name: tuple(tensor.shape)
            for name, tensor in network(what, True, width).state_dict().items()
        }
    )


def rows(width: int = WIDTH) -> Arrays:
    """Sets of both categories, labels of the source's, and what is mixed of each."""
    return {
        "source": scattered("source", SOURCE * width).reshape(-1, width) * 2,
        "labels": np.array([1, -1, 0, 1, -1, -1, 0, 0, 1, -1, 1, 0, -1], np.float32),
        "target": scattered("target", TARGET * width).reshape(-1, width) * 2 + np.float32(0.5),
        "source_order": np.array([(7 * place + 3) % SOURCE for place in range(SOURCE)]),
        "target_order": np.array([(5 * place + 2) % TARGET for place in range(TARGET)]),
    }


def reference(what: str, has_transformer: bool, folder: Path, width: int = WIDTH) -> Arrays:
    """What the authors' code logs, its gradients' norms and its scores."""
    if importlib.util.find_spec("einops") is None:
        pytest.skip(
            "LOUD SKIP: the authors' transformer needs einops 0.3.0 on PYTHONPATH; nothing was compared here"
        )
    theirs = {their_name(name): tensor for name, tensor in weights(what, width).items()}
    settings = {
        "ratio": RATIO,
        "distillation": DISTILLATION,
        "heads": 8,
        "has_transformer": has_transformer,
    }
    return ask(what, folder, theirs, [np.zeros(1)], script=SCRIPT, **rows(width), **settings)


def main() -> None:
    """The same reference gives the same file, up to the last digits of a machine's sums."""
    values: dict[str, Any] = {}
    for what, has_transformer in CASES:
        arrays = reference(what, has_transformer, Path(sys.argv[1]))
        values[f"{what} {has_transformer}"] = {
            name: [float(f"{value:.7g}") for value in array.reshape(-1)]
            for name, array in arrays.items()
        }
    golden = {
        "reference": f"ChrisAllenMing/Cross_Category_Video_Highlight at {COMMIT}",
        "values": values,
    }
    GOLDEN.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
