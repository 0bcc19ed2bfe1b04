"""Registry of published weights: purpose, origin, licence and citation.

A sha256 is given here only if its publisher states it, or we computed it from the published file.
If it is None, the lock file pins the first file that is downloaded or imported under that name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from models.registry import Registry


@dataclass(frozen=True)
class PublishedWeights:
    """One published file."""

    name: str
    """Its name in settings and commands: the file name, after a release if releases share it."""
    extractor: str
    purpose: str
    origin: str
    """URL of the page or file where it is published."""
    licence: str
    citation: str
    direct: bool = True
    """Whether `origin` is the file itself. Otherwise a person must download it and import it."""
    asks_first: bool = False
    """Whether a person must accept the licence first, because it restricts more than usual."""
    size_bytes: int | None = None
    sha256: str | None = None
    note: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of the extractor that this file needs."""


_C3D = "D. Tran et al., Learning Spatiotemporal Features with 3D Convolutional Networks, ICCV 2015"
_NON_COMMERCIAL = (
    "CC BY-NC 3.0 (the C3D release it was converted from: no commercial use); "
    "the port's code is MIT"
)
_TASED = (
    "K. Min and J. J. Corso, "
    "TASED-Net: Temporally-Aggregating Spatial Encoder-Decoder Network, ICCV 2019"
)
_YOLOV5 = "G. Jocher et al., YOLOv5 by Ultralytics, doi:10.5281/zenodo.3908559"
_DETECTRON2 = "Y. Wu et al., Detectron2, 2019; K. He et al., Mask R-CNN, ICCV 2017"
_AGPL = (
    "AGPL-3.0 (Ultralytics; what serves others with it must be published under it, or licensed "
    "from Ultralytics)"
)
_GPL = "GPL-3.0 when it was released; Ultralytics has relicensed YOLOv5 as AGPL-3.0 since"
_YOLO_ASSETS = "https://github.com/ultralytics/yolov5/releases/download"
_ULTRALYTICS_ASSETS = "https://github.com/ultralytics/assets/releases/download/v8.4.0"


def _yolov5(release: str, size: str) -> PublishedWeights:
    return PublishedWeights(
        name=f"{release}/yolov5{size}.pt",
        extractor="yolov5",
        purpose=f"YOLOv5{size} of release {release}, COCO, anchor head; "
        "a pickled network in half precision",
        origin=f"{_YOLO_ASSETS}/{release}/yolov5{size}.pt",
        licence=_GPL,
        citation=_YOLOV5,
        asks_first=True,
        settings={"size": size, "release": "v5.0" if release == "v5.0" else "v7.0"},
    )


def _yolov5u(size: str) -> PublishedWeights:
    return PublishedWeights(
        name=f"yolov5{size}u.pt",
        extractor="yolov5",
        purpose=f"YOLOv5{size} with ultralytics' anchor-free head, COCO",
        origin=f"{_ULTRALYTICS_ASSETS}/yolov5{size}u.pt",
        licence=_AGPL,
        citation=_YOLOV5,
        asks_first=True,
        settings={"size": size, "release": "u"},
    )


_ROWS = (
    PublishedWeights(
        name="c3d.pickle",
        extractor="c3d",
        purpose="C3D trained on Sports-1M, with its classifier: 22 tensors",
        origin="http://imagelab.ing.unimore.it/files/c3d_pytorch/c3d.pickle",
        licence=_NON_COMMERCIAL,
        citation=_C3D,
        asks_first=True,
        note="the port of DavideA/c3d-pytorch; served without TLS, so the first download decides "
        "what is pinned",
    ),
    PublishedWeights(
        name="c3d-pretrained.pth",
        extractor="c3d",
        purpose="C3D trained on Sports-1M, without its classifier: 20 tensors",
        origin="https://drive.google.com/file/d/19NWziHWh1LgCcHU34geoKwYezAogv9fX/view",
        licence=_NON_COMMERCIAL,
        citation=_C3D,
        direct=False,
        asks_first=True,
        note="the port of jfzhang95/pytorch-video-recognition",
    ),
    PublishedWeights(
        name="sport1m_train16_128_mean.binaryproto",
        extractor="c3d",
        purpose="C3D's mean volume: [c3d] mean takes its path",
        origin="https://github.com/facebookarchive/C3D/raw/71336a2202e7d605a138c239f56be7b8fcfaaf5b/"
        "C3D-v1.0/examples/c3d_feature_extraction/sport1m_train16_128_mean.binaryproto",
        licence="CC BY-NC 3.0 (no commercial use)",
        citation=_C3D,
        asks_first=True,
        note="git knows it as blob 85608a7a4de476457ee5dfa14857b9ad16f5d913",
    ),
    PublishedWeights(
        name="TASED_updated.pt",
        extractor="tased",
        purpose="TASED-Net v2, trained on DHF1K: 513 tensors",
        origin="https://drive.google.com/file/d/1y4KSTm-e7kP84k0IyVI-rRtmYZkrC-wL/view",
        licence="MIT (MichiganCOG/TASED-Net); terms of the weights apart from the code: unknown",
        citation=_TASED,
        direct=False,
    ),
    PublishedWeights(
        name="S3D_kinetics400.pt",
        extractor="tased",
        purpose="TASED-Net's encoder before DHF1K, trained on Kinetics-400: to train from, "
        "not to extract with",
        origin="https://drive.google.com/file/d/1IysdsJI7UuWazoxFyYvrbO97Lz_EP5H-/view",
        licence="MIT (kylemin/S3D); terms of the weights apart from the code: unknown",
        citation=_TASED,
        direct=False,
    ),
    PublishedWeights(
        name="model_final_a6e10b.pkl",
        extractor="keypoint_rcnn",
        purpose="keypoint R-CNN R50-FPN 3x, COCO, Detectron2's model 137849621",
        origin="https://dl.fbaipublicfiles.com/detectron2/COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x/137849621/"
        "model_final_a6e10b.pkl",
        licence="CC BY-SA 3.0 (Detectron2's model zoo)",
        citation=_DETECTRON2,
    ),
    *(_yolov5("v7.0", size) for size in "nsmlx"),
    *(_yolov5("v6.0", size) for size in "nsmlx"),
    *(_yolov5("v5.0", size) for size in "smlx"),
    *(_yolov5u(size) for size in "nsmlx"),
)

PUBLISHED_WEIGHTS = Registry("weights", {row.name: row for row in _ROWS}, kind=PublishedWeights)
"""Name → row. To add one: add a row above."""
