"""Weights files through the real child: official ones once and bit by bit, altered ones not at
all.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.weights.loading import load_matching_tensors
from pipeline.weights import conversion
from pipeline.weights.conversion import Pin, convert_once, facts_file, facts_of
from storage.base.errors import IntegrityError, SystemicFault, UntrustedFile
from tests.support import official_checkpoints as official
from tests.support.pickle_payloads import by_hand, calls, wrapped


def pin_of(content: bytes) -> Pin:
    return Pin(hashlib.sha256(content).hexdigest(), len(content))


def test_an_official_file_is_converted_once_and_bit_by_bit(tmp_path: Path) -> None:
    content, expected = official.yolov5(zipped=True)
    source = tmp_path / "yolov5n.pt"
    source.write_bytes(content)
    target = convert_once(source, tmp_path / "converted", pin_of(content))
    assert target == tmp_path / "converted" / f"{pin_of(content).sha256}.safetensors"
    found = load_matching_tensors(
        target, {name: tuple(tensor.shape) for name, tensor in expected.items()}
    )
    assert all(
        torch.equal(found[name], tensor.to(found[name].dtype)) for name, tensor in expected.items()
    )
    facts = facts_of(target)
    assert facts["source"] == {"sha256": pin_of(content).sha256, "size_bytes": len(content)}
    assert facts["tensors"]["model.0.weight"] == {"dtype": "F16", "shape": [4, 3, 3, 3]}
    assert facts["modules"]["model.1"]["attributes"]["eps"] == 1e-3
    before = target.stat().st_mtime_ns
    assert convert_once(source, tmp_path / "converted") == target
    assert target.stat().st_mtime_ns == before
    assert sorted(path.suffix for path in (tmp_path / "converted").iterdir()) == [
        ".json",
        ".safetensors",
    ]


def test_the_same_file_makes_the_same_bytes(tmp_path: Path) -> None:
    source = tmp_path / "w.pt"
    source.write_bytes(official.saved(official.state_dict()))
    one, other = (convert_once(source, tmp_path / name) for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()
    assert facts_file(one).read_bytes() == facts_file(other).read_bytes()


def test_what_is_not_the_pinned_file_is_refused_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys, "executable", str(tmp_path / "nobody")
    )  # parsing would fail in another way
    content = official.saved({"w": torch.ones(4)})
    source = tmp_path / "c3d.pickle"
    for altered in (
        content[:-1],
        content[:50] + bytes([content[50] ^ 1]) + content[51:],
        b"something else",
    ):
        source.write_bytes(altered)
        with pytest.raises(IntegrityError, match="it is pinned to") as raised:
            convert_once(source, tmp_path / "converted", pin_of(content))
        assert not isinstance(raised.value, UntrustedFile)
    source.write_bytes(content)
    with pytest.raises(SystemicFault, match="cannot start"):
        convert_once(source, tmp_path / "converted", pin_of(content))


@pytest.mark.parametrize(
    ("name", "form"), [("os.system", "zip"), ("eval", "legacy"), ("Popen", "plain")]
)
def test_a_hostile_file_leaves_nothing(name: str, form: str, tmp_path: Path) -> None:
    canary, source = tmp_path / "canary", tmp_path / "w.pt"
    source.write_bytes(wrapped(pickle.dumps({"w": calls(str(canary))[name]}), form))
    with pytest.raises(UntrustedFile, match="refused, nothing in it was run: it asks for"):
        convert_once(source, tmp_path / "converted")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["w.pt"]


def test_a_file_that_eats_memory_ends_its_child_and_not_us(tmp_path: Path) -> None:
    source = tmp_path / "w.pt"
    source.write_bytes(b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"x.")
    with pytest.raises(UntrustedFile, match="refused"):
        convert_once(source, tmp_path / "converted")


def test_a_converted_file_that_changed_is_not_used(tmp_path: Path) -> None:
    source = tmp_path / "w.pt"
    source.write_bytes(official.saved({"w": torch.ones(4)}))
    target = convert_once(source, tmp_path / "converted")
    target.write_bytes(target.read_bytes()[:-1] + b"\1")
    with pytest.raises(IntegrityError, match="was altered since it was made"):
        convert_once(source, tmp_path / "converted")
    facts_file(target).write_text("{}")
    with pytest.raises(IntegrityError, match="does not describe converted weights"):
        convert_once(source, tmp_path / "converted")


def test_a_folder_and_a_missing_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(UntrustedFile, match="is a folder"):
        convert_once(tmp_path, tmp_path / "converted")
    with pytest.raises(SystemicFault, match="absent"):
        convert_once(tmp_path / "absent.pt", tmp_path / "converted")


def test_the_child_has_our_environment_s_name_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("raise SystemExit('planted')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("PYTHONSTARTUP", os.devnull)
    source = tmp_path / "w.pt"
    source.write_bytes(official.saved({"w": torch.ones(4)}))
    assert convert_once(source, tmp_path / "converted").exists()


def test_payloads_by_hand_are_many() -> None:
    forms = 3
    assert (len(calls("x")) * 6 + len(by_hand("x"))) * forms >= 36
    assert io.BytesIO(wrapped(b".", "zip")).read(2) == b"PK"


@pytest.mark.parametrize("order", ["SIGTERM", "SIGHUP", "SIGUSR1"])
def test_a_child_that_was_told_to_stop_says_nothing_of_the_weights(
    tmp_path: Path, order: str
) -> None:
    words = [sys.executable, "-c", f"import os, signal; os.kill(os.getpid(), signal.{order})"]
    told = rf"a child was ended by {order}\. Nothing was lost; run again"
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        child = conversion._ChildOutput(tmp_path / "weights.pt", running)
        with pytest.raises(SystemicFault, match=told):
            child.read_facts()
