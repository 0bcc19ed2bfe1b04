"""A checkpoint gives back what went in, and anything else is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from storage.base.errors import IntegrityError, LookupFailed
from trainer.training.checkpoint import (
    Checkpoint,
    CheckpointWithoutDigest,
    random_state,
    read_checkpoint,
    set_random_state,
    write_checkpoint,
)


def test_nested_states_come_back_as_they_were(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    state = {
        "model": {"a.weight": shared, "b.weight": shared[:3], "empty": torch.zeros(0)},
        "optimizer": {
            "state": {0: {"step": torch.tensor(3), "none": None}},
            "param_groups": [{"params": [0, 1]}],
        },
        "plain": [1, 2.5, "x", True, float("inf")],
    }
    write_checkpoint(tmp_path / "c.safetensors", Checkpoint({"epoch": 3}, state))
    found = read_checkpoint(tmp_path / "c.safetensors")
    assert found.about == {"epoch": 3}
    assert found.state["optimizer"]["state"][0]["step"] == 3
    assert found.state["optimizer"]["param_groups"] == [{"params": [0, 1]}]
    assert found.state["plain"] == [1, 2.5, "x", True, float("inf")]
    assert torch.equal(found.state["model"]["b.weight"], shared[:3])
    assert found.state["model"]["empty"].shape == (0,)


def test_an_optimizer_goes_on_from_its_state(tmp_path: Path) -> None:
    def steps(network: torch.nn.Linear, optimizer: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            torch.autograd.backward(network(torch.ones(2)).square().sum())
            optimizer.step()

    torch.manual_seed(0)
    straight = torch.nn.Linear(2, 2)
    broken = torch.nn.Linear(2, 2)
    broken.load_state_dict(straight.state_dict())
    adam = torch.optim.Adam(straight.parameters())
    steps(straight, adam, 6)
    first = torch.optim.Adam(broken.parameters())
    steps(broken, first, 3)
    write_checkpoint(
        tmp_path / "c",
        Checkpoint({}, {"model": broken.state_dict(), "optimizer": first.state_dict()}),
    )
    kept = read_checkpoint(tmp_path / "c").state
    again = torch.nn.Linear(2, 2)
    again.load_state_dict(kept["model"])
    second = torch.optim.Adam(again.parameters())
    second.load_state_dict(kept["optimizer"])
    steps(again, second, 3)
    assert torch.equal(again.weight, straight.weight)


def test_random_numbers_go_on(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c", Checkpoint({}, {"random": random_state()}))
    expected = torch.rand(3)
    set_random_state(read_checkpoint(tmp_path / "c").state["random"])
    assert torch.equal(torch.rand(3), expected)


def test_what_is_no_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"model\.hook is a builtin_function_or_method"):
        write_checkpoint(tmp_path / "c", Checkpoint({}, {"model": {"hook": print}}))
    assert not (tmp_path / "c").exists()


def test_nothing_but_our_files_is_read(tmp_path: Path) -> None:
    with pytest.raises(LookupFailed, match="no checkpoint"):
        read_checkpoint(tmp_path / "c")
    (tmp_path / "c").write_bytes(b"PK\x03\x04 a pickle in a zip")
    with pytest.raises(IntegrityError, match="is not a checkpoint"):
        read_checkpoint(tmp_path / "c")
    save_file({"a": torch.zeros(1)}, tmp_path / "d")
    with pytest.raises(IntegrityError, match="none of ours"):
        read_checkpoint(tmp_path / "d")
    header = {"format": "video-highlights checkpoint", "version": 99}
    save_file(
        {"a": torch.zeros(1)}, tmp_path / "e", metadata={"video-highlights": json.dumps(header)}
    )
    with pytest.raises(IntegrityError, match="format version 99"):
        read_checkpoint(tmp_path / "e")


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    """In the length, the header, its digest, names, shapes, padding and every tensor."""
    path = tmp_path / "c"
    state = {
        "model": {"a.weight": torch.arange(30.0), "b": torch.zeros(3, dtype=torch.int64)},
        "place": {"epoch": 3},
    }
    write_checkpoint(path, Checkpoint({"seed": 1}, state))
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 3):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(IntegrityError):
            read_checkpoint(path)


def test_equal_checkpoints_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("c", "d"):
        write_checkpoint(
            tmp_path / name, Checkpoint({"seed": 1}, {"model": {"a": torch.arange(9.0)}})
        )
    assert (tmp_path / "c").read_bytes() == (tmp_path / "d").read_bytes()


def _as_earlier(path: Path, about: object) -> None:
    state = {"__pairs__": [["model", {"__tensor__": "a"}]]}
    header = {"format": "video-highlights checkpoint", "version": 1, "about": about, "state": state}
    save_file({"a": torch.arange(3.0)}, path, metadata={"video-highlights": json.dumps(header)})


def test_a_checkpoint_of_an_earlier_release_is_read_with_a_warning(tmp_path: Path) -> None:
    _as_earlier(tmp_path / "c", {"epoch": 1})
    with pytest.warns(CheckpointWithoutDigest, match="has no digest"):
        found = read_checkpoint(tmp_path / "c")
    assert found.about == {"epoch": 1}
    assert torch.equal(found.state["model"], torch.arange(3.0))


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{}",
        b'{"__metadata__": 3}',
        b'{"__metadata__": {"video-highlights": 3}}',
        b'{"__metadata__": {"video-highlights": "[]"}}',
        b'{"__metadata__": {"video-highlights": "sha256:"}}',
        b'{"__metadata__": {"video-highlights": "{"}}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
    ids=lambda header: repr(header[:60]),
)
def test_a_strange_header_is_refused_in_words(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "c"
    for size in (len(header), len(header) - 1, 2**63, 0):
        path.write_bytes(size.to_bytes(8, "little") + header)
        with pytest.raises(IntegrityError, match=str(path)):
            read_checkpoint(path)


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c", Checkpoint({}, {"model": {"a": torch.arange(100.0)}}))
    whole = (tmp_path / "c").read_bytes()
    for size in (0, 7, 40, len(whole) // 2, len(whole) - 1):
        (tmp_path / "c").write_bytes(whole[:size])
        with pytest.raises(IntegrityError):
            read_checkpoint(tmp_path / "c")
