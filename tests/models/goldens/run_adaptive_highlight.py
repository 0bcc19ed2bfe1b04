"""Runs the authors' FCSN and Adaptive-FCSN in a process of its own: their `models` and ours share a
name.

`python run_adaptive_highlight.py none|plain|attn|conv REFERENCE WEIGHTS GIVEN.npz OUT.npz`:
REFERENCE is a checkout of mrochan/adaptive-highlight, `plain` its FCSN with instance norm and
`none` without; WEIGHTS is a state dict under their names. GIVEN holds `video` (T, D), `history` (K,
D) and `sizes` (N, 2): each number of the code that is one of the first is read as the second, so
that the same code makes a small network. Nothing of ours is imported here.
"""

from __future__ import annotations

import ast
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch


class _Sizes(ast.NodeTransformer):
    def __init__(self, sizes: dict[int, int]) -> None:
        self.sizes = sizes

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        if type(node.value) is int and node.value in self.sizes:
            return ast.copy_location(ast.Constant(self.sizes[node.value]), node)
        return node


def load(reference: Path, sizes: dict[int, int]) -> types.ModuleType:
    """Its `models.combined`, and what that imports."""
    sys.modules["models"] = types.ModuleType("models")
    for name in ("highlight_fcsn", "history", "combined"):
        path = reference / "models" / f"{name}.py"
        tree = ast.fix_missing_locations(_Sizes(sizes).visit(ast.parse(path.read_text())))
        module = types.ModuleType(f"models.{name}")
        sys.modules[module.__name__] = module
        exec(compile(tree, path, "exec"), module.__dict__)  # noqa: S102 (running the reference is what this is for)
    return sys.modules["models.combined"]


def main() -> None:
    """Arguments are in the module's docstring."""
    kind, reference, weights, given_path, out = sys.argv[1], *map(Path, sys.argv[2:6])
    torch.set_num_threads(1)
    with np.load(given_path) as file:
        given = dict(file)
    sizes = {int(old): int(new) for old, new in given["sizes"]}
    is_history = kind in ("attn", "conv")
    package: Any = load(reference, sizes)
    network = package.CombinedNet(
        is_history=is_history, is_insnorm_layer=kind != "none", hist_net_type=kind
    )
    network.load_state_dict(torch.load(weights, weights_only=True), strict=True)
    video = torch.from_numpy(given["video"])[None, :, None].transpose(
        1, 3
    )  # as train.py hands it over
    history = list(torch.from_numpy(given["history"]))
    with torch.no_grad():
        logits = network.eval()(
            video, *([[element[None] for element in history]] if is_history else [])
        )
    np.savez(out, logits=logits[0, :, 0].T.numpy())


if __name__ == "__main__":
    main()
