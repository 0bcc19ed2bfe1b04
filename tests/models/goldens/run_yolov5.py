"""Runs the authors' YOLOv5 on a state dict and frames, in a process of its own: its `models` and
ours share a name.

`python run_yolov5.py v5.0|v7.0|u REFERENCE WEIGHTS FRAMES.npz OUT.npz`: REFERENCE is a checkout of
ultralytics/yolov5 at that tag (any folder for u, which asks the installed ultralytics package),
WEIGHTS a state dict under the published names. FRAMES holds `frames` (N, H, W, 3) uint8 RGB,
`size`, `pixels`, and `official`, where a file in the published format is written, to be loaded as
the authors load it. Nothing of ours is imported here.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types
from collections.abc import Callable
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch

Arrays = dict[str, Any]
CONFIDENCE, OVERLAP = 0.25, 0.45
EXTRAS = ("pandas", "seaborn", "IPython.display", "IPython", "thop")
"""Imported by the releases for plots and tables."""


def original(release: str, reference: Path, weights: Path, given: Arrays) -> Arrays:
    """The network that `attempt_load` makes of the file, fused as `detect.py` runs it, and what
    that does around it.
    """
    _prepare_imports()
    yolo, general = importlib.import_module("models.yolo"), importlib.import_module("utils.general")
    datasets = "utils.datasets" if release == "v5.0" else "utils.augmentations"
    letterbox = importlib.import_module(datasets).letterbox
    to_frame = general.scale_coords if release == "v5.0" else general.scale_boxes
    kind = yolo.Model if release == "v5.0" else yolo.DetectionModel
    model = kind(str(reference / "models" / f"yolov5{given['size']}.yaml"))
    model.load_state_dict(_published(weights, model.state_dict()))
    official = {
        "epoch": -1,
        "best_fitness": None,
        "model": model.half(),
        "ema": None,
        "updates": None,
    }
    torch.save({**official, "optimizer": None}, str(given["official"]))
    loaded = importlib.import_module("models.experimental").attempt_load(
        str(given["official"]), **_on_cpu(release)
    )
    kept = _watch(loaded.eval())
    answer: Arrays = {}
    for number, frame in enumerate(given["frames"]):
        picture = np.ascontiguousarray(
            letterbox(frame[..., ::-1], int(given["pixels"]), stride=32)[0][..., ::-1]
        )
        scaled = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            prediction = loaded(scaled)[0]
        kept["prediction"] = prediction[0].numpy().copy()
        found = general.non_max_suppression(prediction, CONFIDENCE, OVERLAP)[0]
        found[:, :4] = to_frame(scaled.shape[2:], found[:, :4], frame.shape)
        answer |= _numbered(number, {**kept, "picture": picture, "detections": found.numpy()})
    return answer


def _prepare_imports() -> None:
    for name in EXTRAS:
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            sys.modules[name] = MagicMock(__spec__=ModuleSpec(name, None), get_ipython=lambda: None)
    if importlib.util.find_spec("pkg_resources") is None:
        version: Any = types.ModuleType("pkg_resources")
        version.parse_version = importlib.import_module("packaging.version").parse
        sys.modules["pkg_resources"] = version
    torch.load = partial(
        torch.load, weights_only=False
    )  # as torch was then; the file is the one written here


def _on_cpu(release: str) -> Arrays:
    return {"map_location": "cpu"} if release == "v5.0" else {"device": "cpu"}


def ultralytics(weights: Path, given: Arrays) -> Arrays:
    """The package's own `YOLO(file).predict(frame)`."""
    os.environ |= {"YOLO_CONFIG_DIR": str(Path.cwd()), "YOLO_OFFLINE": "true"}
    package = importlib.import_module("ultralytics")
    model = importlib.import_module("ultralytics.nn.tasks").DetectionModel(
        f"yolov5{given['size']}.yaml", verbose=False
    )
    model.load_state_dict(_published(weights, model.state_dict()))
    model.args = {"task": "detect"}
    torch.save(
        {"epoch": -1, "model": model.half(), "ema": None, "train_args": {}}, str(given["official"])
    )
    yolo = package.YOLO(str(given["official"]))
    options = {
        "conf": CONFIDENCE,
        "iou": OVERLAP,
        "imgsz": int(given["pixels"]),
        "device": "cpu",
        "verbose": False,
    }
    yolo.predict(
        given["frames"][0], **options
    )  # makes the predictor, whose network is a fused copy
    network = yolo.predictor.model.model
    kept = _watch(network)
    answer: Arrays = {}
    network.model[-1].register_forward_hook(
        lambda _, __, out: kept.__setitem__("prediction", out[0][0].numpy().T.copy())
    )
    network.model[0].register_forward_pre_hook(
        lambda _, args: kept.__setitem__("scaled", args[0][0].numpy().copy())
    )
    for number, frame in enumerate(given["frames"]):
        result = yolo.predict(np.ascontiguousarray(frame[..., ::-1]), **options)[0]
        picture = np.rint(kept.pop("scaled") * 255).astype(np.uint8).transpose(1, 2, 0)
        answer |= _numbered(
            number, {**kept, "picture": picture, "detections": result.boxes.data.numpy()}
        )
    return answer


def _published(weights: Path, wanted: Arrays) -> Arrays:
    """Every tensor from WEIGHTS, but for the second copy of the anchors that v5.0 keeps."""
    tensors = torch.load(weights, weights_only=True)
    assert set(wanted) - set(tensors) <= {"model.24.anchor_grid"}
    return {**wanted, **tensors}


def _watch(network: Any) -> Arrays:
    kept: Arrays = {}

    def keep(_: Any, args: Any) -> None:
        kept.update(
            {name: x[0].numpy().copy() for name, x in zip(("p3", "p4", "p5"), args[0], strict=True)}
        )

    network.model[-1].register_forward_pre_hook(keep)
    return kept


def _numbered(number: int, arrays: Arrays) -> Arrays:
    return {f"{number}/{name}": array for name, array in arrays.items()}


def main() -> None:
    """Arguments are in the module's docstring; works in the current folder, which should be an
    empty one.
    """
    release, reference, weights, frames, out = sys.argv[1], *map(Path, sys.argv[2:6])
    sys.path.insert(0, str(reference))
    torch.set_num_threads(1)
    run: Callable[..., Arrays] = (
        ultralytics if release == "u" else partial(original, release, reference)
    )
    with np.load(frames) as given:
        np.savez(out, **run(weights, dict(given)))


if __name__ == "__main__":
    main()
