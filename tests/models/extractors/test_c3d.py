"""C3D against its published facts, a differently written computation, and numbers of a published
port.

The real-video comparison runs that port: `HIGHLIGHTS_REFERENCES=FOLDER pytest -m slow
tests/models/extractors/test_c3d.py`, where FOLDER holds a checkout of DavideA/c3d-pytorch under the
name c3d-pytorch.
"""

from __future__ import annotations

import copy
import json
import math
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.extractors.base.contract import Frame
from models.extractors.base.sampling import ConsecutiveFrames, FramesOfSegments
from models.extractors.c3d.extractor import C3DExtractor, build_extractor
from models.extractors.c3d.network import C3D, LAYOUTS, initialise
from models.extractors.c3d.settings import ARRAYS, C3DSettings
from models.extractors.registry import EXTRACTORS
from models.weights.key_mapping import load_best_layout
from pipeline.decoding.video_reader import VideoReader
from pipeline.media.decode_settings import DEFAULT_LIMITS
from tests.models.goldens import formula, make_c3d
from tests.models.goldens.reference import ask, checkout, relative_error

EVERYTHING = tuple(ARRAYS)


@pytest.fixture(scope="module")
def c3d() -> C3DExtractor:
    return build_extractor(C3DSettings(arrays=EVERYTHING), "random:7", "cpu")


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    """A state dict as `c3d.pickle` holds it."""
    return formula.state_dict(LAYOUTS[0].shapes)


@pytest.fixture(scope="module")
def network(published: dict[str, Tensor]) -> C3D:
    network = C3D()
    network.load_state_dict({name: published[name] for name in network.state_dict()})
    return network


@pytest.fixture(scope="module")
def clip() -> list[Frame]:
    rng = np.random.default_rng(3)
    still = cv2.resize(
        rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), (200, 150), interpolation=cv2.INTER_CUBIC
    )
    return [np.roll(still, 5 * shift, axis=1) for shift in range(16)]


def with_settings(network: C3D, **settings: Any) -> C3DExtractor:
    """The same weights under other settings."""
    other = copy.copy(network)
    other.settings = C3DSettings(arrays=EVERYTHING, **settings)
    return C3DExtractor(other, "cpu")


def rows(extractor: C3DExtractor, clip: list[Frame]) -> dict[str, Any]:
    found = extractor.extract([[extractor.prepare(frame) for frame in clip]])
    return {name: values[0] for name, values in found.items()}


@pytest.fixture(scope="module")
def found(c3d: C3DExtractor, clip: list[Frame]) -> dict[str, Any]:
    return rows(c3d, clip)


def test_the_published_files_have_these_names_and_shapes() -> None:
    layers = [
        "conv1",
        "conv2",
        "conv3a",
        "conv3b",
        "conv4a",
        "conv4b",
        "conv5a",
        "conv5b",
        "fc6",
        "fc7",
        "fc8",
    ]
    davide, jfzhang = LAYOUTS
    assert set(davide.shapes) == {
        f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")
    }
    # as published for the usual port: 27·3·64 + 64, 27·64·128 + 128, ..., 4096·487 + 487
    assert sum(math.prod(shape) for shape in davide.shapes.values()) == 79_991_015
    assert len(davide.shapes) == 22
    assert len(jfzhang.shapes) == 20
    with torch.device("meta"):
        own = set(C3D().state_dict())
    assert own == set(davide.names_in_network.values()) == set(jfzhang.names_in_network.values())


@pytest.mark.parametrize(
    ("pool5", "mirror"), [("ceil", False), ("symmetric", False), ("ceil", True)]
)
def test_equals_the_published_port(network: C3D, pool5: str, mirror: bool) -> None:
    golden = json.loads(Path(make_c3d.__file__).with_name("c3d.json").read_text())
    found = rows(with_settings(network, pool5=pool5, mirror=mirror), formula.frames(*make_c3d.CLIP))
    for name in EVERYTHING:
        expected = np.array(golden["values"][f"{pool5}/{name}"])
        if mirror:
            expected = (expected + golden["values"][f"{pool5}/{name}/mirrored"]) / 2
        error = np.abs(found[name][:: golden["step"]] - expected).max()
        assert error <= 1e-4 * golden["largest"][f"{pool5}/{name}"]


@torch.inference_mode()
def test_the_two_ways_to_pool_are_two_features(network: C3D) -> None:
    noise = torch.rand(4, 512, 2, 7, 7, generator=torch.Generator().manual_seed(5))
    ceil, symmetric = (
        with_settings(network, pool5=way).network._pool5(noise) for way in ("ceil", "symmetric")
    )
    # The maximum of all pixels under both windows is under both with odds of shared to all of them.
    ours, theirs = [{0, 1}, {2, 3}, {4, 5}, {6}], [{0}, {1, 2}, {3, 4}, {5, 6}]
    odds = [
        len(a & b) * len(c & d) / (len(a) * len(c) + len(b) * len(d) - len(a & b) * len(c & d))
        for a, b in zip(ours, theirs, strict=True)
        for c, d in zip(ours, theirs, strict=True)
    ]
    assert sum(odds) / 16 == pytest.approx(0.209, abs=5e-4)
    # 32,768 values: three standard deviations are 0.007. In a network more agree, where both are
    # zero after ReLU.
    assert (ceil == symmetric).double().mean().item() == pytest.approx(sum(odds) / 16, abs=0.007)


def plainly(weights: dict[str, Tensor], frames: list[Frame]) -> dict[str, Tensor]:
    """C3D once more, from the Caffe release's description: numpy preprocessing, padding on the
    right instead of ceil mode (as the Lasagne port words it), no module.
    """
    resized = [
        cv2.resize(frame, (171, 128), interpolation=cv2.INTER_LINEAR)[..., ::-1] for frame in frames
    ]
    centred = [frame.astype(np.float32) - np.array([90, 98, 102], np.float32) for frame in resized]
    x = torch.from_numpy(np.stack([frame[8:120, 29:141] for frame in centred])).permute(3, 0, 1, 2)[
        None
    ]
    for names, frames_pooled in (("1", 1), ("2", 2), ("3a 3b", 2), ("4a 4b", 2), ("5a 5b", 2)):
        for name in names.split():
            weight, bias = weights[f"conv{name}.weight"], weights[f"conv{name}.bias"]
            x = functional.conv3d(x, weight, bias, padding=1).clamp(min=0)
        if "5" in names:
            x = functional.pad(x, (0, 1, 0, 1))
        x = functional.max_pool3d(x, (frames_pooled, 2, 2), stride=(frames_pooled, 2, 2))
    pool5 = x.reshape(1, -1)
    fc6 = pool5 @ weights["fc6.weight"].T + weights["fc6.bias"]
    fc7 = fc6.clamp(min=0) @ weights["fc7.weight"].T + weights["fc7.bias"]
    relus = {"fc6": fc6.clamp(min=0), "fc7": fc7.clamp(min=0)}
    return {"pool5": pool5, "fc6_linear": fc6, "fc7_linear": fc7, **relus}


@torch.inference_mode()
def test_equals_the_second_computation(
    c3d: C3DExtractor, clip: list[Frame], found: dict[str, Any]
) -> None:
    expected = plainly(c3d.network.state_dict(), clip)
    for name, width in ARRAYS.items():
        assert found[name].shape == (width,)
        assert relative_error(found[name], expected[name][0]) <= 1e-4


def test_a_clip_alone_and_beside_another_is_the_same(
    c3d: C3DExtractor, clip: list[Frame], found: dict[str, Any]
) -> None:
    prepared = [c3d.prepare(frame) for frame in clip]
    beside = c3d.extract([prepared[::-1], prepared])["pool5"][1]
    np.testing.assert_array_equal(found["pool5"], beside)


def test_random_weights_keep_the_scale(clip: list[Frame], found: dict[str, Any]) -> None:
    torch.manual_seed(0)
    shrunk = rows(C3DExtractor(C3D(), "cpu"), clip)["pool5"].mean()
    assert (
        shrunk < 1 < 10 < found["pool5"].mean() < 65504 / 10
    )  # of an input around ±70; float16 ends at 65504


def test_a_seed_is_a_network(c3d: C3DExtractor) -> None:
    fixture = c3d.network.state_dict()["conv3a.weight"]
    network = C3D()
    for seed, same in ((7, True), (8, False)):
        initialise(network, seed)
        assert torch.equal(network.state_dict()["conv3a.weight"], fixture) is same


def test_both_published_layouts_are_loaded_by_name(
    tmp_path: Path, published: dict[str, Tensor]
) -> None:
    for layout in LAYOUTS:
        ours = {name: published[layout.names_in_network.get(name, name)] for name in layout.shapes}
        torch.save(ours, tmp_path / layout.name)
        loaded = load_best_layout(tmp_path / layout.name, LAYOUTS)
        assert loaded.keys() == set(LAYOUTS[0].names_in_network)
        assert all(torch.equal(tensor, published[name]) for name, tensor in loaded.items())
        (tmp_path / layout.name).unlink()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "conv1.weight",
            r"as c3d.pickle: .*fc7.weight \(4096, 4096\) is missing.*and 9 more like this",
        ),
        ("conv1.weight", r"conv1.weight is \(64, 3, 3, 3\), expected \(64, 3, 3, 3, 3\)"),
        (
            "features.0.weight",
            r"as c3d-pretrained.pth: .*features.3.weight \(128, 64, 3, 3, 3\) is missing",
        ),
        (
            "head.weight",
            r"none of its 1 names is among the 20 of the network; its first is head.weight \(64, ",
        ),
    ],
)
def test_a_file_of_neither_layout_is_refused(tmp_path: Path, name: str, message: str) -> None:
    torch.save({name: torch.zeros(64, 3, 3, 3)}, tmp_path / "c3d.pickle")
    with pytest.raises(ValueError, match="(?s)" + message):
        build_extractor(C3DSettings(), str(tmp_path / "c3d.pickle"), "cpu")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"arrays": ("conv5",)},
            r"pool5, fc6, fc7, fc6_linear, fc7_linear, each once; got \('conv5',\)",
        ),
        ({"stride_frames": 0}, "at least 1; got 0"),
        ({"pool5": "floor"}, "pool5 must be one of ceil, symmetric; got 'floor'"),
        (
            {"sampling": "spread"},
            "sampling must be one of consecutive, segments, segments_released; got 'spread'",
        ),
        (
            {"sampling": "segments", "stride_frames": 8},
            "stride_frames has no effect with sampling = segments",
        ),
        (
            {"mean": "gone.npy"},
            "channels, or an existing file that ends in .binaryproto or .npy; got 'gone.npy'",
        ),
    ],
)
def test_settings_say_what_is_wrong(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        C3DSettings(**settings)


def test_the_row_of_the_table() -> None:
    spec = EXTRACTORS["c3d"]
    settings = C3DSettings(stride_frames=8)
    assert spec.sampling(settings) == ConsecutiveFrames(length_frames=16, stride_frames=8)
    for sampling, spread in (("segments", "equal"), ("segments_released", "released")):
        assert spec.sampling(C3DSettings(sampling=sampling)) == FramesOfSegments(16, spread)
    arrays = spec.arrays(settings)
    assert {name: array.item_shape for name, array in arrays.items()} == {
        "pool5": (8192,),
        "fc6": (4096,),
    }
    assert {array.dtype for array in arrays.values()} == {"float16"}
    with pytest.raises(KeyError, match="unknown extractor 'c4d'; choose one of c3d, frames"):
        EXTRACTORS["c4d"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v_GGSY1Qvo990.mp4", "flipping_a_pancake.mkv"])
def test_real_video_equals_the_published_port(
    shared_data: Path, published: dict[str, Tensor], network: C3D, name: str
) -> None:
    reference = checkout("c3d-pytorch")
    decoding = VideoReader(
        "v",
        shared_data / "videos" / name,
        backend="pyav",
        limits=DEFAULT_LIMITS,
        heartbeat=lambda: None,
    )
    frames = [frame.to_rgb() for frame in decoding][:48]
    expected = ask("c3d", reference, published, frames)
    for pool5 in ("ceil", "symmetric"):
        ours = [
            rows(with_settings(network, pool5=pool5), frames[at : at + 16]) for at in (0, 16, 32)
        ]
        for array in EVERYTHING:
            found = np.stack([row[array] for row in ours])
            error = relative_error(found, expected[f"{pool5}/{array}"])
            rounding = relative_error(found.astype(np.float16), found)
            sys.stdout.write(
                f"{name} {pool5} {array}: {error:.1e}, rounding to float16 {rounding:.1e}\n"
            )
            assert error <= 1e-4
