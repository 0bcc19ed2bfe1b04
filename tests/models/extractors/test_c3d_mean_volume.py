"""The mean volume: read as Caffe wrote it, and subtracted before the crop, pixel by pixel."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.extractors.c3d.extractor import C3DExtractor
from models.extractors.c3d.mean_volume import SHAPE, load_mean
from models.extractors.c3d.network import C3D
from models.extractors.c3d.settings import C3DSettings
from models.extractors.c3d.spec import SPEC
from pipeline.extraction.variant import Variant
from tests.models.goldens import formula


@pytest.fixture(scope="module")
def volume() -> NDArray[np.float32]:
    return 100 + 30 * formula.scattered("mean", int(np.prod(SHAPE))).reshape(SHAPE)


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def blob(volume: NDArray[np.float32]) -> bytes:
    """BlobProto of facebookarchive/C3D's caffe.proto: 1 to 5 are num, channels, length, height,
    width; 6 is data.
    """
    sizes = b"".join(
        varint(field << 3) + varint(size) for field, size in enumerate((1, *volume.shape), start=1)
    )
    data = volume.astype("<f4").tobytes()
    return sizes + varint(6 << 3 | 2) + varint(len(data)) + data


def unpacked(volume: NDArray[np.float32]) -> bytes:
    """The same as older writers spell repeated floats: each with its own key."""
    packed = blob(volume)
    sizes = packed[: packed.index(varint(6 << 3 | 2) + varint(4 * volume.size))]
    return sizes + b"".join(
        varint(6 << 3 | 5) + struct.pack("<f", value) for value in volume.ravel()
    )


def test_every_spelling_of_the_file_is_the_same_volume(
    tmp_path: Path, volume: NDArray[np.float32]
) -> None:
    (tmp_path / "mean.binaryproto").write_bytes(blob(volume))
    np.save(tmp_path / "mean.npy", volume)
    np.save(tmp_path / "wide.npy", volume.astype(np.float64)[None])
    for name in ("mean.binaryproto", "mean.npy", "wide.npy"):
        found = load_mean(tmp_path / name)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, volume)


def test_older_writers_are_understood(tmp_path: Path) -> None:
    (tmp_path / "old.binaryproto").write_bytes(unpacked(np.ones((3, 1, 2, 2), np.float32)))
    with pytest.raises(
        ValueError,
        match=r"holds float32 \(3, 1, 2, 2\), expected finite floats of shape \(3, 16, 128",
    ):
        load_mean(tmp_path / "old.binaryproto")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"holds float32 \(0, 0, 0, 0, 0\)"),
        (
            b"\x08\x01\x10\x03\x18\x10\x20\x80\x01\x28\xab\x01",
            r"channels 3, length 16, height 128, width 171\): cannot",
        ),
        (b"\x32\xff\xff\xff\x7f\x00", "268435455 bytes promised at byte 5, 1 are left"),
        (b"\x32\x05abcde", "buffer size must be a multiple"),
        (b"\x0b", "wire type 3 at byte 1"),
        (b"\x80" * 11, "more than 64 bits"),
        (b"\x80", "index out of range"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_mean(path)


def test_an_array_file_that_needs_code_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        load_mean(tmp_path / "mean.npy")


def test_it_is_subtracted_at_the_same_pixel_in_blue_green_red(
    tmp_path: Path, volume: NDArray[np.float32]
) -> None:
    np.save(tmp_path / "mean.npy", volume)
    network = C3D(C3DSettings(arrays=("pool5",), mean=str(tmp_path / "mean.npy")))
    clip = np.stack(formula.frames(16, 128, 171))  # (T, H, W, RGB)
    seen: list[NDArray[np.float32]] = []
    network.get_submodule("conv1").register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].numpy())
    )
    with torch.inference_mode():
        C3DExtractor(network, "cpu").extract([list(clip)])
    expected = (
        clip[..., ::-1].transpose(3, 0, 1, 2) - volume
    )  # Caffe: whole frames first, then the crop
    np.testing.assert_array_equal(seen[0][0], expected[:, :, 8:120, 29:141])


def test_its_content_is_in_the_fingerprint_and_its_path_is_not(
    tmp_path: Path, volume: NDArray[np.float32]
) -> None:
    names = []
    for name, change in (("one", 0), ("two", 0), ("three", 1)):
        path = tmp_path / f"{name}.npy"
        np.save(path, volume + change)
        variant = Variant("c3d", SPEC, C3DSettings(mean=str(path)), "random:0")
        settings = variant.description()["settings"]
        assert isinstance(settings, dict)
        assert str(settings["mean"]).startswith("sha256:")
        assert str(tmp_path) not in str(variant.description())
        names.append(variant.full_name)
    assert names[0] == names[1] != names[2]
