"""Twins of the official files come out bit by bit, and damaged ones not at all."""

from __future__ import annotations

import io
import json
import struct
import sys
import zipfile
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from models.weights.file_formats import read_checkpoint, safetensors_stream
from models.weights.loading import to_tensor
from models.weights.safe_unpickler import InvalidCheckpoint, PickleCall, PickleGlobal
from models.weights.state_dict import Storage, StoredTensor, parse_checkpoint
from tests.support import official_checkpoints as official


def read(content: bytes) -> Any:
    return read_checkpoint(io.BytesIO(content))


def same(stored: StoredTensor, tensor: Tensor) -> bool:
    ours = to_tensor(stored)
    return (
        ours.dtype == tensor.dtype
        and ours.shape == tensor.shape
        and torch.equal(ours, tensor.detach())
    )


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_state_dict_is_what_weights_only_reads(zipped: bool, protocol: int) -> None:
    content = official.saved(official.state_dict(), zipped=zipped, protocol=protocol)
    found = read(content).tensors
    expected = (
        torch.load(io.BytesIO(content), weights_only=True)
        if protocol == 2
        else official.state_dict()
    )
    assert list(found) == list(expected)
    assert all(same(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickled_yolov5_gives_its_state_dict_and_attributes(zipped: bool) -> None:
    content, expected = official.yolov5(zipped=zipped)
    found = read(content)
    assert list(found.tensors) == list(expected)
    assert all(same(found.tensors[name], expected[name]) for name in expected)
    assert {tensor.dtype for tensor in found.tensors.values()} == {
        "F16",
        "I64",
    }  # I64: num_batches_tracked
    modules = found.facts["modules"]
    assert found.facts["root"] == "model"
    assert modules["model.1"]["class"] == "torch.nn.modules.batchnorm.BatchNorm2d"
    assert (
        modules["model.1"]["attributes"]["eps"],
        modules["model.1"]["attributes"]["momentum"],
    ) == (1e-3, 0.03)
    head = modules["model.2"]
    assert (head["class"], head["attributes"]["nc"]) == ("models.yolo.Detect", 80)
    assert head["attributes"]["names"] == ["person", "bicycle"]
    assert head["attributes"]["stride"] == [8.0, 16.0, 32.0]
    assert modules[""]["attributes"]["yaml"] == {
        "depth_multiple": 0.33,
        "anchors": [[10, 13], [30, 61]],
    }
    assert json.loads(json.dumps(found.facts)) == found.facts
    assert "models.yolo" not in sys.modules


@pytest.mark.parametrize("protocol", range(6))
def test_a_model_of_detectron2_s_zoo(protocol: int) -> None:
    content, arrays = official.detectron2(protocol)
    found = read(content)
    assert list(found.tensors) == list(arrays)
    for name, array in arrays.items():
        ours = to_tensor(found.tensors[name]).numpy()
        assert (ours.dtype, ours.shape) == (array.dtype, array.shape)
        assert np.array_equal(ours, array)


def test_a_state_dict_inside_a_checkpoint_is_found() -> None:
    content = official.saved({"epoch": 3, "state_dict": {"w": torch.ones(2)}})
    found = read(content)
    assert (list(found.tensors), found.facts["root"]) == (["w"], "state_dict")


def test_safetensors_in_and_out() -> None:
    tensors = {name: tensor.detach().contiguous() for name, tensor in official.state_dict().items()}
    found = read(save_safetensors(tensors)).tensors
    stream = b"".join(safetensors_stream(found))
    assert stream == b"".join(safetensors_stream(dict(reversed(found.items()))))
    loaded = load_safetensors(stream)
    assert loaded.keys() == tensors.keys()
    assert all(
        torch.equal(loaded[name], tensors[name]) and loaded[name].dtype == tensors[name].dtype
        for name in tensors
    )


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle", "safetensors"])
def test_a_truncated_file_is_refused_wherever_it_ends(form: str) -> None:
    whole = {
        "zip": official.saved(official.state_dict()),
        "legacy": official.saved(official.state_dict(), zipped=False),
        "pickle": official.detectron2(2)[0],
        "safetensors": b"".join(
            safetensors_stream(read(official.saved(official.state_dict())).tensors)
        ),
    }[form]
    for cut in [*range(0, len(whole), max(1, len(whole) // 60)), len(whole) - 1]:
        with pytest.raises(InvalidCheckpoint):
            read(whole[:cut])
    if form != "zip":
        with pytest.raises(InvalidCheckpoint):
            read(whole + b"x")


def test_a_flipped_byte_in_a_zip_s_numbers_is_refused_by_its_checksum() -> None:
    whole = official.saved({"w": torch.full((64,), 1.5)})
    place = whole.index(np.full(4, 1.5, np.float32).tobytes())
    with pytest.raises(InvalidCheckpoint, match="it is damaged: Bad CRC"):
        read(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])


def rezipped(content: bytes, **options: Any) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.infolist():
            if entry.filename not in options.get("without", ()):
                kind = options.get("compression", zipfile.ZIP_STORED)
                new.writestr(
                    entry.filename,
                    options.get("replaced", {}).get(entry.filename, old.read(entry)),
                    kind,
                )
        for name in options.get("extra", ()):
            new.writestr(name, b"")
    return out.getvalue()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"compression": zipfile.ZIP_DEFLATED}, "compressed or encrypted"),
        ({"without": ("archive/data.pkl",)}, "not one that torch.save writes"),
        ({"extra": ("archive/constants.pkl",)}, "TorchScript"),
        ({"extra": ("other/data.pkl",)}, "not one that torch.save writes"),
        ({"without": ("archive/data/0",)}, "lacks the entry"),
        ({"replaced": {"archive/data/0": b"\0" * 8}}, "is incomplete"),
        ({"replaced": {"archive/byteorder": b"big"}}, "big-endian"),
    ],
)
def test_a_zip_that_torch_would_not_write_is_refused(options: dict[str, Any], told: str) -> None:
    content = official.saved({"w": torch.arange(9.0)})
    with pytest.raises(InvalidCheckpoint, match=told):
        read(rezipped(content, **options))


def test_doubled_entries_are_refused() -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        doubled = rezipped(official.saved({"w": torch.ones(1)}), extra=("archive/data.pkl",))
    with pytest.raises(InvalidCheckpoint, match="entries of"):
        read(doubled)


@pytest.mark.parametrize(
    ("thing", "told"),
    [
        ([torch.ones(1)], "it holds a list"),
        ({"a": 1}, "'a' is a int, expected a tensor"),
        ({3: torch.ones(1)}, "'3' is a"),
        ("text", "it holds a str"),
    ],
)
def test_what_is_no_state_dict_is_refused(thing: Any, told: str) -> None:
    with pytest.raises(InvalidCheckpoint, match=told):
        read(official.saved(thing))


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, "bytes 0 to 4"),
        ({"w": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}, "bytes 8 to 0"),
        ({"w": {"dtype": "F8", "shape": [8], "data_offsets": [0, 8]}}, "is invalid"),
        ({"w": {"shape": [8]}}, "is invalid"),
        ({}, "do not fill it"),
    ],
)
def test_a_lying_safetensors_header_is_refused(header: Any, told: str) -> None:
    text = json.dumps(header).encode()
    with pytest.raises(InvalidCheckpoint, match=told):
        read(struct.pack("<Q", len(text)) + text + bytes(8))


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (9,), (1,)),
        (5, (4,), (1,)),
        (0, (2, 2), (8, 1)),
        (-1, (2,), (1,)),
        (0, (4,), (-1,)),
        (0, (2**20, 2**20), (0, 0)),
        (0, (2, 2), (1,)),
        (0, "2", (1,)),
    ],
)
def test_a_tensor_that_looks_outside_its_numbers_is_refused(
    offset: int, shape: Any, strides: tuple[int, ...]
) -> None:
    eight = Storage("F32", 8, [bytes(32)])
    lying = PickleCall(
        PickleGlobal("torch._utils._rebuild_tensor_v2"),
        (eight, offset, shape, strides, False, None),
    )
    with pytest.raises(InvalidCheckpoint, match=r"looks at|shape or strides|does not say"):
        parse_checkpoint({"w": lying})
