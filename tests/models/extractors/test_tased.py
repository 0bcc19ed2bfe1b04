"""TASED-Net against its published facts and the authors' own numbers.

The real-video comparison runs the authors' script: `HIGHLIGHTS_REFERENCES=FOLDER pytest -m slow
tests/models/extractors/test_tased.py`, where FOLDER holds a checkout of MichiganCOG/TASED-Net under
the name TASED-Net.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.extractors.base.contract import Extractor, Frame
from models.extractors.base.inference import stack_clips
from models.extractors.base.sampling import FramesAtRateWithHistory
from models.extractors.registry import EXTRACTORS
from models.extractors.tased.extractor import TasedExtractor
from models.extractors.tased.network import TasedNet
from models.extractors.tased.settings import TasedSettings
from models.extractors.tased.spec import SPEC
from models.extractors.tased.weights import initialise, load_weights
from pipeline.decoding.inline_decoder import InlineDecoder
from pipeline.decoding.video_reader import VideoReader
from pipeline.extraction.process_video import process_video
from pipeline.extraction.variant import Variant
from pipeline.media.decode_settings import DEFAULT_LIMITS
from pipeline.media.media_file import Media
from tests.models.goldens import formula, make_tased
from tests.models.goldens.reference import ask, checkout, relative_error

GOLDEN = json.loads(Path(make_tased.__file__).with_name("tased.json").read_text())


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    """A state dict as `TASED_updated.pt` holds it."""
    return formula.state_dict(
        {name: tuple(tensor.shape) for name, tensor in TasedNet().state_dict().items()}
    )


@pytest.fixture(scope="module")
def network(published: dict[str, Tensor]) -> TasedNet:
    """In float64, as the golden maps are."""
    network = TasedNet()
    network.load_state_dict(published)
    return network.double()


def test_the_published_file_has_these_names_and_shapes() -> None:
    network = TasedNet()
    state = network.state_dict()
    assert len(state) == 513
    assert sum(parameter.numel() for parameter in network.parameters()) == 21_260_693
    # an encoder block, an Inception branch, a norm, the only bias
    assert state["base1.0.conv_s.weight"].shape == (64, 3, 1, 7, 7)
    assert state["base3.4.branch1.1.conv_t.weight"].shape == (320, 320, 3, 1, 1)
    assert state["convtsp4.10.running_var"].shape == (4,)
    assert [name for name in state if name.endswith("bias") and "bn" not in name][
        -1
    ] == "convtsp4.13.bias"
    assert {norm.eps for norm in network.modules() if isinstance(norm, torch.nn.BatchNorm3d)} == {
        1e-3
    }


def saliency(network: TasedNet, clip: Sequence[Frame], block_pixels: int = 1) -> NDArray[Any]:
    return TasedExtractor(network, TasedSettings(block_pixels=block_pixels), "cpu").extract([clip])[
        "saliency"
    ][0]


@pytest.fixture(scope="module")
def forward_map(network: TasedNet) -> NDArray[Any]:
    return saliency(network, formula.frames(*make_tased.CLIP))


def test_equals_the_authors_network_with_the_rule_for_places(
    network: TasedNet, forward_map: NDArray[Any]
) -> None:
    """On any processor: the rule lets a float64 sum's last bit move a map by 1e-9 at most."""
    backward = saliency(network, formula.frames(*make_tased.CLIP)[::-1])
    for name, found in (("forward", forward_map), ("reversed", backward)):
        assert found.shape == make_tased.CLIP[1:]
        assert (
            relative_error(found[:: GOLDEN["step"], :: GOLDEN["step"]], GOLDEN["values"][name])
            <= 1e-6
        )


def test_equals_the_published_network_in_all_that_comes_before_places(network: TasedNet) -> None:
    clip = stack_clips([formula.frames(*make_tased.CLIP)], "cpu").double()
    with torch.inference_mode():
        z, encoded = network.encode(clip)
    for name, found in (("z", z), *zip(("y1", "y2", "y3"), encoded, strict=True)):
        kept = found.reshape(1, -1)[:, :: make_tased.INSIDE_STEP].numpy()
        assert relative_error(kept, GOLDEN["values"][name]) <= 1e-6, name


def test_a_block_is_the_mean_of_its_pixels(network: TasedNet, forward_map: NDArray[Any]) -> None:
    blocks = saliency(network, formula.frames(*make_tased.CLIP), block_pixels=8)
    np.testing.assert_allclose(blocks, forward_map.reshape(4, 8, 8, 8).mean(axis=(1, 3)), rtol=1e-6)


def test_frames_are_shrunk_as_the_authors_shrink_them(network: TasedNet) -> None:
    frame = formula.frames(1, 135, 240)[0]
    prepared = TasedExtractor(network, TasedSettings(), "cpu").prepare(frame)
    blue_green_red = cv2.resize(np.ascontiguousarray(frame[..., ::-1]), (384, 224))
    np.testing.assert_array_equal(prepared, blue_green_red[..., ::-1])


def test_the_released_file_is_loaded_with_and_without_the_prefix_of_several_gpus(
    tmp_path: Path, published: dict[str, Tensor]
) -> None:
    for prefix in ("", "module."):
        path = tmp_path / f"{prefix}pt"
        torch.save({prefix + name: tensor for name, tensor in published.items()}, path)
        loaded = load_weights(path)
        assert loaded.keys() == published.keys()
        assert all(torch.equal(loaded[name], published[name]) for name in published)


def test_another_file_is_refused(tmp_path: Path, published: dict[str, Tensor]) -> None:
    torch.save(
        {name: tensor for name, tensor in published.items() if name != "base1.0.conv_s.weight"},
        tmp_path / "t",
    )
    with pytest.raises(
        ValueError,
        match=r"fit this network:\n  base1.0.conv_s.weight \(64, 3, 1, 7, 7\) is missing",
    ):
        load_weights(tmp_path / "t")


def test_random_maps_are_seeded_and_not_flat() -> None:
    network, weights = TasedNet(), []
    for seed in (1, 2, 1):
        initialise(network, seed)
        weights.append(network.state_dict()["base2.0.branch0.0.conv.weight"].clone())
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[1])
    found = saliency(network, formula.frames(*make_tased.CLIP))
    assert 0.02 < found.std() < 0.4, "flat, or nothing but zeros and ones"


def test_settings_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="frames_per_second must be above 0; got 0"):
        TasedSettings(frames_per_second=0)
    with pytest.raises(ValueError, match="block_pixels must be one of 1, 2, 4, 8, 16, 32; got 5"):
        TasedSettings(block_pixels=5)


def test_the_row_of_the_table() -> None:
    spec = EXTRACTORS["tased"]
    assert spec.sampling(TasedSettings()) == FramesAtRateWithHistory(2.0, history_frames=32)
    array = spec.arrays(TasedSettings())["saliency"]
    assert (array.dtype, array.item_shape) == ("float16", (28, 48))
    assert spec.arrays(TasedSettings(block_pixels=1))["saliency"].item_shape == (224, 384)


@dataclass
class Recording:
    """An extractor whose maps are also kept as they were before they were stored."""

    inner: Extractor
    maps: list[NDArray[Any]] = field(default_factory=list)

    def prepare(self, frame: Frame) -> Any:
        return self.inner.prepare(frame)

    def extract(self, windows: Sequence[Sequence[Any]]) -> Mapping[str, Sequence[NDArray[Any]]]:
        found = self.inner.extract(windows)
        self.maps += found["saliency"]
        return found


@pytest.mark.slow
def test_real_video_equals_the_authors_script(
    shared_data: Path, tmp_path: Path, published: dict[str, Tensor]
) -> None:
    """From the file to the row: our decoder, sampling and network, beside their script on the same
    pictures.
    """
    reference, video = checkout("TASED-Net"), shared_data / "videos" / "v_GGSY1Qvo990.mp4"
    torch.save(published, tmp_path / "TASED_updated.pt")
    # 19.62 frames a second: instants 0, 0.8, 1.6, ... show frames 0, 15, 31, 47, 62, ...
    variant = Variant(
        "tased", SPEC, TasedSettings(1.25, block_pixels=1), str(tmp_path / "TASED_updated.pt")
    )
    media = Media(video, "0" * 64, video.stat().st_size)
    recording = Recording(variant.build("cpu"))
    track = process_video("v", media, [(variant, recording)], InlineDecoder())[0].track
    assert track is not None
    decoding = VideoReader(
        "v", video, backend="pyav", limits=DEFAULT_LIMITS, heartbeat=lambda: None
    )
    starts, pictures = zip(
        *((frame.pts_seconds, frame.to_rgb()) for frame in decoding), strict=True
    )
    numbers = [starts.index(start) for start in track.spans[:5, 0]]
    assert numbers == [0, 15, 31, 47, 62]
    maps = ask("tased", reference, published, pictures[:63], rows=numbers)
    stored = track.arrays["saliency"]
    assert isinstance(stored, np.ndarray)
    for row, number in enumerate(numbers):
        error = relative_error(recording.maps[row], maps[f"{number}/rule"])
        moved = np.linalg.norm(recording.maps[row] - maps[str(number)]) / np.linalg.norm(
            maps[str(number)]
        )
        rounding = relative_error(stored[row], recording.maps[row])
        told = f"{error:.1e}, of the norm from what is published {moved:.1e}, rounding to float16 {rounding:.1e}"
        sys.stdout.write(f"frame {number}: with the rule for places {told}\n")
        assert (
            error <= 1e-2
        )  # single pixels, in float32: see `tests/models/extractors/test_noise.py`
        assert moved <= 3e-2
        assert rounding <= 2**-11
