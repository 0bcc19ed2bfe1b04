"""Writes `st_gcn.json`: the graph and the units of the authors' ST-GCN, for formula weights and
inputs, in float64.

`python -m tests.models.goldens.make_st_gcn REFERENCE`, with REFERENCE a checkout of yysijie/st-gcn
at `COMMIT`.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.models.goldens.formula import scattered, state_dict

COMMIT = "221c0e152054b8da593774c0d483e59befdb9061"
STEP = 13
"""Every so many numbers of an answer are kept."""
UNITS = {"plain": (3, 8, False), "identity": (8, 8, True), "shortcut": (8, 4, True)}
"""Name → channels in, channels out, residual: the three kinds of unit in the release's network."""
SKELETONS, POSITIONS, JOINTS = 2, 12, 18


def inputs(name: str) -> Tensor:
    """`(N, C, T, V)` float64."""
    shape = (SKELETONS, UNITS[name][0], POSITIONS, JOINTS)
    return torch.from_numpy(scattered(name, int(np.prod(shape)))).reshape(shape).double()


def importance(name: str) -> Tensor:
    """`(K, V, V)` float64: what the release learns for each entry of its graph."""
    values = 1 + scattered(f"{name}/importance", 3 * JOINTS**2) / 2
    return torch.from_numpy(values).reshape(3, JOINTS, JOINTS).double()


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """A state dict in the release's names."""
    return state_dict(shapes)


def answers(reference: Path) -> dict[str, NDArray[np.float64]]:
    """What the reference gives: `graph`, and each unit's answer in `eval` and in `train` mode."""
    sys.path.insert(0, str(reference))
    try:
        graphs: Any = importlib.import_module("net.utils.graph")
        networks: Any = importlib.import_module("net.st_gcn")
    finally:
        sys.path.remove(str(reference))
    graph = graphs.Graph(layout="openpose", strategy="spatial").A
    found = {"graph": graph}
    for name, (before, after, residual) in UNITS.items():
        unit = networks.st_gcn(before, after, (9, 3), residual=residual)
        unit.load_state_dict(
            weights({key: tuple(tensor.shape) for key, tensor in unit.state_dict().items()})
        )
        unit.double()
        for mode in ("eval", "train"):
            unit.train(mode == "train")
            with torch.no_grad():
                out, _ = unit(inputs(name), torch.from_numpy(graph) * importance(name))
            found[f"{name}/{mode}"] = out.numpy()
    return found


def kept(values: NDArray[np.float64]) -> list[float]:
    """What the file keeps of an answer."""
    return [float(f"{value:.12g}") for value in values.ravel()[::STEP]]


def main() -> None:
    """The same reference gives the same file, up to the last digits of a machine's sums."""
    found = answers(Path(sys.argv[1]))
    graph = found.pop("graph")
    golden = {
        "reference": "yysijie/st-gcn",
        "commit": COMMIT,
        "graph": [[int(k), int(j), int(i), graph[k, j, i]] for k, j, i in np.argwhere(graph)],
        "values": {name: kept(values) for name, values in found.items()},
    }
    Path(__file__).with_name("st_gcn.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
