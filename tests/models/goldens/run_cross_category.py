"""Runs the authors' SL-module, DL-VHD and adaptation baselines in a process of its own.

`python run_cross_category.py sl|dl|mmd|coral REFERENCE WEIGHTS GIVEN.npz OUT.npz`: REFERENCE is a
checkout of ChrisAllenMing/Cross_Category_Video_Highlight, whose `train_model` goes through one
round here; WEIGHTS holds tensors of `transformer.`, and `score_model.` or `fine_score_model.` and
`coarse_score_model.`. GIVEN holds `source` (N, D), `labels` (N,), `target` (M, D), the share
`ratio` of the target in a mixed set, the places `source_order` (N,) and `target_order` (M,) whose
first ones are mixed, `distillation`, `heads` and `has_transformer`. Nothing random is left: dropout
is 0, C3D is the identity. OUT holds what the code logs, the norm of each gradient, and scores.
Nothing of ours is imported here; einops must be installed.
"""

from __future__ import annotations

import ast
import importlib
import sys
import timeit
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

SCRIPTS = {
    "sl": "train_SL_module",
    "dl": "train_dual_learner",
    "mmd": "train_da_baselines",
    "coral": "train_da_baselines",
}


class _Silent:
    """An optimizer, a scheduler and a writer that change nothing and note what is logged."""

    def __init__(self) -> None:
        self.logged: dict[str, float] = {}

    def add_scalar(self, name: str, value: float, epoch: int) -> None:
        self.logged[name.removeprefix("data/train_").removesuffix("_epoch")] = value

    def step(self) -> None:
        pass

    def zero_grad(self) -> None:
        pass


def train_model(path: Path, names: dict[str, Any]) -> Any:
    """The function of that name, without the script around it, which reads arguments and starts to
    train.
    """
    tree = ast.parse(path.read_text())
    tree.body = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name == "train_model"
    ]
    exec(compile(tree, path, "exec"), names)  # noqa: S102 (running the reference is what this is for)
    return names["train_model"]


def networks(
    reference: Path, what: str, tensors: dict[str, torch.Tensor], heads: int
) -> dict[str, nn.Module]:
    """The authors' networks of the sizes of the given tensors."""
    sys.path.insert(0, str(reference))
    transformer: Any = importlib.import_module("network.transformer")
    score_net: Any = importlib.import_module("network.score_net")
    hidden, width = tensors["transformer.layers.0.1.fn.fn.net.0.weight"].shape
    depth = 1 + max(int(name.split(".")[2]) for name in tensors if name.startswith("transformer."))
    found = {
        "transformer": transformer.Transformer(
            dim=width, depth=depth, heads=heads, mlp_dim=hidden, dropout=0.0
        )
    }
    for name in ("fine_score_model", "coarse_score_model") if what == "dl" else ("score_model",):
        found[name] = score_net.ScoreFCN(emb_dim=width, dropout_ratio=0.0)
    for name, network in found.items():
        own = {
            key.removeprefix(f"{name}."): value
            for key, value in tensors.items()
            if key.startswith(f"{name}.")
        }
        network.load_state_dict(own, strict=True)
    return found


def main() -> None:
    """Arguments are in the module's docstring."""
    what, reference, weights, given_path, out = sys.argv[1], *map(Path, sys.argv[2:6])
    torch.set_num_threads(1)
    with np.load(given_path) as file:
        given = dict(file)
    found = networks(reference, what, torch.load(weights, weights_only=True), int(given["heads"]))
    silent, rows = (
        _Silent(),
        {name: torch.from_numpy(given[name]) for name in ("source", "labels", "target")},
    )
    orders = {len(given[name]): given[name].tolist() for name in ("source_order", "target_order")}
    has_transformer = bool(given["has_transformer"])
    names: dict[str, Any] = {
        "torch": torch,
        "F": nn.functional,
        "timeit": timeit,
        "device": "cpu",
        "tqdm": lambda loader: loader,
        "print": lambda *words: None,
        "random": types.SimpleNamespace(
            random=lambda: (float(given["ratio"]) - 0.3) / 0.4,
            sample=lambda places, count: orders[len(places)][:count],
        ),
        "opt": types.SimpleNamespace(
            use_transformer=has_transformer,
            min_ratio=0.3,
            max_ratio=0.7,
            distill_weight=float(given["distillation"]),
            da_metric=what,
            da_weight=1.0,
            epochs=1,
            snapshot=10,
        ),
    }
    if what in ("mmd", "coral"):
        names |= vars(importlib.import_module("da_metrics"))
    source_loader, target_loader = (
        [(rows["source"][None], rows["labels"][None])],
        [(rows["target"][None], None)],
    )
    loaders = [source_loader] if what == "sl" else [source_loader, target_loader]
    train = train_model(reference / f"{SCRIPTS[what]}.py", names)
    train(0, *loaders, nn.Identity(), *found.values(), silent, silent, silent)
    arrays: dict[str, Any] = {
        f"loss {name}": np.float64(value) for name, value in silent.logged.items()
    }
    for name, network in found.items():
        for key, parameter in network.named_parameters():
            if parameter.grad is not None:
                arrays[f"gradient {name}.{key}"] = parameter.grad.double().norm().numpy()
    with torch.no_grad():  # as test_model of each script scores
        x = rows["source"][None]
        x = found["transformer"](x).squeeze(0) if has_transformer else x.squeeze(0)
        scorers = [network for name, network in found.items() if name != "transformer"]
        each = [torch.sigmoid(scorer(x).squeeze(-1)) * 2.0 - 1.0 for scorer in scorers]
        arrays["scores"] = (sum(each[1:], start=each[0]) / len(each)).numpy()
    np.savez(out, **arrays)


if __name__ == "__main__":
    main()
