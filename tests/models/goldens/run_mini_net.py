"""Runs the authors' MINI-Net without sound in a process of its own.

`python run_mini_net.py loss REFERENCE WEIGHTS GIVEN.npz OUT.npz`: REFERENCE is a checkout of
xuantengh/MINI-Net; WEIGHTS holds tensors of its `MILModel_vision`, less the layer it never uses;
GIVEN holds bags, `source` and `target` (B, N, D). Dropout is 0. OUT holds what `trainMIL.py` makes
of them: weights, bags' logits, both losses and the norms of gradients. Nothing of ours is imported
here.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch


def main() -> None:
    """Arguments are in the module's docstring."""
    reference, weights, given_path, out = map(Path, sys.argv[2:6])
    torch.set_num_threads(1)
    with np.load(given_path) as file:
        source, target = (torch.from_numpy(file[name]) for name in ("source", "target"))
    sys.path.insert(0, str(reference / "src"))
    del sys.argv[1:]  # opts.py reads them when it is imported
    model: Any = importlib.import_module("model")
    loss: Any = importlib.import_module("loss")
    network = model.MILModel_vision(visual_feat_dim=source.shape[2])
    missing, unexpected = network.load_state_dict(
        torch.load(weights, weights_only=True), strict=False
    )
    if unexpected or {name.partition(".")[0] for name in missing} != {"fusionFc"}:
        raise SystemExit(f"missing {missing}, unexpected {unexpected}")
    network.dropout.p = 0.0
    scores, logits = network.train()(torch.cat([source, target]), None)
    wanted = torch.cat([torch.ones(len(source)), torch.zeros(len(target))]).long()
    entropy = torch.nn.CrossEntropyLoss()(logits, wanted)
    hinge = loss.AdaptiveHingerLoss()(scores[: len(source)], scores[len(source) :])
    (entropy + hinge).backward()
    arrays = {"weights": scores.detach().numpy(), "bag_logits": logits.detach().numpy()}
    arrays |= {"entropy": entropy.detach().numpy(), "hinge": hinge.detach().numpy()}
    with torch.no_grad():
        arrays["scores"] = network.eval()(source, None)[0].numpy()
    for name, parameter in network.named_parameters():
        if parameter.grad is not None:
            arrays[f"gradient {name}"] = parameter.grad.double().norm().numpy()
    np.savez(out, **arrays)


if __name__ == "__main__":
    main()
