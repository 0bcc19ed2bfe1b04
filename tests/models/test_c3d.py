"""C3D against its published facts and against a second, differently written computation of the same network."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.extractors.c3d import C3DSettings
from models.extractors.c3d_network import C3D, C3DExtractor, build_extractor, initialise
from models.extractors.spec import ConsecutiveFrames, Frame
from models.extractors.table import extractor


@pytest.fixture(scope="module")
def c3d() -> C3DExtractor:
    return build_extractor(("pool5", "fc6", "fc7"), "random:7", "cpu")


@pytest.fixture(scope="module")
def clip() -> list[Frame]:
    rng = np.random.default_rng(3)
    still = cv2.resize(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), (200, 150), interpolation=cv2.INTER_CUBIC)
    return [np.roll(still, 5 * shift, axis=1) for shift in range(16)]


def test_state_dict_has_the_published_names_and_shapes(c3d: C3DExtractor) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in c3d.network.state_dict().items()}
    layers = ["conv1", "conv2", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b", "fc6", "fc7", "fc8"]
    assert set(shapes) == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    assert len(shapes) == 22
    # as published for the usual port: 27·3·64 + 64, 27·64·128 + 128, ..., 4096·487 + 487
    assert sum(tensor.numel() for tensor in c3d.network.state_dict().values()) == 79_991_015


def plainly(weights: dict[str, Tensor], frames: list[Frame]) -> dict[str, Tensor]:
    """C3D once more, from the Caffe release's description: numpy preprocessing, padding on the right instead of ceil
    mode (as the Lasagne port words it), no module."""
    resized = [cv2.resize(frame, (171, 128), interpolation=cv2.INTER_LINEAR)[..., ::-1] for frame in frames]
    centred = [frame.astype(np.float32) - np.array([90, 98, 102], np.float32) for frame in resized]
    x = torch.from_numpy(np.stack([frame[8:120, 29:141] for frame in centred])).permute(3, 0, 1, 2)[None]
    for names, frames_pooled in (("1", 1), ("2", 2), ("3a 3b", 2), ("4a 4b", 2), ("5a 5b", 2)):
        for name in names.split():
            weight, bias = weights[f"conv{name}.weight"], weights[f"conv{name}.bias"]
            x = functional.conv3d(x, weight, bias, padding=1).clamp(min=0)
        if "5" in names:
            x = functional.pad(x, (0, 1, 0, 1))
        x = functional.max_pool3d(x, (frames_pooled, 2, 2), stride=(frames_pooled, 2, 2))
    pool5 = x.reshape(1, -1)
    fc6 = (pool5 @ weights["fc6.weight"].T + weights["fc6.bias"]).clamp(min=0)
    return {"pool5": pool5, "fc6": fc6, "fc7": (fc6 @ weights["fc7.weight"].T + weights["fc7.bias"]).clamp(min=0)}


@torch.inference_mode()
def test_equals_the_second_computation(c3d: C3DExtractor, clip: list[Frame]) -> None:
    expected = plainly(c3d.network.state_dict(), clip)
    found = c3d.extract([[c3d.prepare(frame) for frame in clip]])
    for name, width in (("pool5", 8192), ("fc6", 4096), ("fc7", 4096)):
        assert found[name][0].shape == (width,)
        np.testing.assert_allclose(found[name][0], expected[name][0].numpy(), rtol=1e-4, atol=1e-2)


def test_a_clip_alone_and_beside_another_is_the_same(c3d: C3DExtractor, clip: list[Frame]) -> None:
    prepared = [c3d.prepare(frame) for frame in clip]
    alone = c3d.extract([prepared])["pool5"][0]
    beside = c3d.extract([prepared[::-1], prepared])["pool5"][1]
    np.testing.assert_allclose(alone, beside, rtol=1e-4, atol=1e-3)


def test_random_weights_keep_the_scale(clip: list[Frame]) -> None:
    torch.manual_seed(0)
    network = C3D().eval()
    default = C3DExtractor(network, ("pool5",), "cpu")
    window = [[default.prepare(frame) for frame in clip]]
    shrunk = default.extract(window)["pool5"][0].mean()
    initialise(network, seed=0)
    kept = C3DExtractor(network, ("pool5",), "cpu").extract(window)["pool5"][0].mean()
    assert shrunk < 1 < 10 < kept < 65504 / 10  # of an input around ±70; float16 ends at 65504


def test_a_seed_is_a_network() -> None:
    networks = [C3D(), C3D(), C3D()]
    for network, seed in zip(networks, (1, 1, 2), strict=True):
        initialise(network, seed)
    first, again, other = (network.state_dict()["conv3a.weight"] for network in networks)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_state_dict_file_is_loaded_by_name(tmp_path: Path, c3d: C3DExtractor, clip: list[Frame]) -> None:
    path = tmp_path / "c3d.pickle"
    torch.save(c3d.network.state_dict(), path)
    loaded = build_extractor(("fc6",), str(path), "cpu")
    window = [[c3d.prepare(frame) for frame in clip]]
    assert np.array_equal(loaded.extract(window)["fc6"][0], c3d.extract(window)["fc6"][0])


def test_settings_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"pool5, fc6, fc7, each once; got \('conv5',\)"):
        C3DSettings(arrays=("conv5",))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        C3DSettings(stride_frames=0)


def test_the_row_of_the_table() -> None:
    spec = extractor("c3d")
    settings = C3DSettings(stride_frames=8)
    assert spec.sampling(settings) == ConsecutiveFrames(length_frames=16, stride_frames=8)
    arrays = spec.arrays(settings)
    assert {name: array.item_shape for name, array in arrays.items()} == {"pool5": (8192,), "fc6": (4096,)}
    assert {array.dtype for array in arrays.values()} == {"float16"}
    with pytest.raises(KeyError, match="no extractor is called 'c4d'; there are c3d, frames"):
        extractor("c4d")
