"""Makes keypoint_rcnn.npz: what Detectron2 itself gives on pictures made from a formula, with
seeded weights.

Run from the root of the repository, in an environment that has detectron2 beside ours: `python -m
tests.models.goldens.make_keypoint_rcnn`. Seeded weights go through a file in the format of the
model zoo.
"""

from __future__ import annotations

import hashlib
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.models.goldens.formula import frames

GOLDEN = Path(__file__).with_name("keypoint_rcnn.npz")
REFERENCE = "facebookresearch/detectron2 at 02b5c4e295e990042a714712c21dc79b731e8833"
CONFIG = "COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x.yaml"
SEED = 11
MIN_SIZE = 128
SHAPES = ((150, 230), (210, 120))
PERSONS = 5
"""Of a frame; the best scored ones, as the extractor cuts."""
CHANNELS = slice(None, None, 64)
"""Of 512 joint features; all of them would be 35 kB a person."""


def table_digest(tensors: Any) -> str:
    """sha256 of the sorted lines `name (shape)` of a state dict."""
    lines = sorted(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def predictor(weights: Path, min_size: int) -> Any:
    """Detectron2's own predictor of a file in the zoo's format, as published but for the shorter
    side of a picture.
    """
    from detectron2 import model_zoo
    from detectron2.engine import DefaultPredictor

    config = model_zoo.get_config(CONFIG)
    config.MODEL.DEVICE = "cpu"
    config.MODEL.WEIGHTS = str(weights)
    config.INPUT.MIN_SIZE_TEST = min_size
    return DefaultPredictor(config)


def write_zoo_file(path: Path, tensors: Any) -> None:
    """A state dict as the model zoo writes it."""
    content = {
        "model": {name: tensor.numpy() for name, tensor in tensors.items()},
        "__author__": "Detectron2 Model Zoo",
    }
    path.write_bytes(pickle.dumps(content))


def read_bilinearly(maps: NDArray[Any], joints: NDArray[Any], boxes: NDArray[Any]) -> NDArray[Any]:
    """Maps (N, C, 14, 14) over boxes (N, 4) at joints (N, K, 2) → (N, K, C), by one weight an axis
    and cell.
    """
    places = (joints - boxes[:, None, :2]) / (boxes[:, None, 2:] - boxes[:, None, :2]) * 14 - 0.5
    places = np.clip(places, 0, 13)
    hats = np.maximum(0, 1 - np.abs(places[..., None] - np.arange(14)))  # (N, K, 2, 14)
    return np.asarray(
        np.einsum("nchw,nkw,nkh->nkc", maps, hats[:, :, 0], hats[:, :, 1]), dtype=np.float32
    )


def reference(detector: Any, frame: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """One frame through Detectron2: the resized picture, boxes, joints, joint features."""
    seen: dict[str, NDArray[Any]] = {}
    head = detector.model.roi_heads.keypoint_head

    def keep_boxes(_module: Any, inputs: Any) -> None:
        seen["boxes"] = inputs[1][0].pred_boxes.tensor.numpy().copy()

    def keep_maps(_module: Any, _inputs: Any, output: Any) -> None:
        seen["maps"] = output.numpy()

    handles = [
        head.register_forward_pre_hook(keep_boxes),
        head.conv_fcn_relu8.register_forward_hook(keep_maps),
    ]
    found = detector(frame[..., ::-1])["instances"]
    for handle in handles:
        handle.remove()
    picture = detector.aug.get_transform(frame).apply_image(frame)
    joints = found.pred_keypoints.numpy()
    assert len(joints) == len(seen["boxes"]), (
        "Detectron2 dropped an empty box; choose another picture"
    )
    in_picture = joints[..., :2] * np.array(picture.shape[1::-1]) / np.array(frame.shape[1::-1])
    return {
        "picture_sha256": np.array(hashlib.sha256(picture.tobytes()).hexdigest()),
        "boxes": np.concatenate(
            (found.pred_boxes.tensor.numpy(), found.scores.numpy()[:, None]), axis=1
        ),
        "joints": joints,
        "joint_features": read_bilinearly(seen["maps"], in_picture, seen["boxes"]),
        "heatmaps": found.pred_keypoint_heatmaps.numpy(),
        "picture_boxes": seen["boxes"],
    }


def sizes() -> NDArray[np.int64]:
    """Rows of height, width, shorter, longest, and Detectron2's new height and width."""
    from detectron2.data.transforms import ResizeShortestEdge

    frames = [
        (h, w)
        for h in (90, 144, 240, 333, 360, 481, 720, 1080)
        for w in (100, 176, 321, 426, 640, 1279, 1920)
    ]
    asked = [(h, w, short, long) for h, w in frames for short, long in ((800, 1333), (320, 533))]
    return np.array([(*a, *ResizeShortestEdge.get_output_shape(*a)) for a in asked])


def main() -> None:
    """Write the golden file."""
    from models.extractors.keypoint_rcnn.extractor import load_network

    golden: dict[str, Any] = {"reference": REFERENCE, "sizes": sizes()}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "model_final_seeded.pkl"
        write_zoo_file(weights, load_network(f"random:{SEED}").state_dict())
        detector = predictor(weights, MIN_SIZE)
    golden["table_sha256"] = table_digest(detector.model.state_dict())
    for height, width in SHAPES:
        found = reference(detector, frames(1, height, width)[0])
        kept = {name: found[name][:PERSONS] for name in ("boxes", "joints")}
        kept["joint_features"] = found["joint_features"][:PERSONS, :, CHANNELS]
        kept["picture_sha256"] = found["picture_sha256"]
        golden |= {f"{height}x{width}/{name}": value for name, value in kept.items()}
    np.savez_compressed(GOLDEN, **golden)


if __name__ == "__main__":
    main()
