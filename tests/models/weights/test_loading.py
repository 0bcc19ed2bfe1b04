"""Weights files: exact or refused, and never executed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.extractors.base.contract import random_seed
from models.weights.loading import load_matching_tensors

EXPECTED = {"a.weight": (2, 3), "a.bias": (2,)}


class Opens:
    """Unpickling one of these would create a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.canary,))


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"a.weight": torch.ones(2, 3).half(), "a.bias": torch.zeros(2).half()}, path)
    loaded = load_matching_tensors(path, EXPECTED)
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32}


def test_differences_are_listed_all_together(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"a.weight": torch.ones(3, 3), "b": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="does not fit this network") as raised:
        load_matching_tensors(path, EXPECTED)
    for line in (
        "a.bias (2,) is missing",
        "b (1,) is not part",
        "a.weight is (3, 3), expected (2, 3)",
    ):
        assert line in str(raised.value)


def test_names_are_changed_as_the_extractor_says(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"module.a": torch.ones(2), "module.n": torch.tensor(3), "old": torch.ones(1)}, path)

    def rename(name: str) -> str | None:
        return None if name == "old" else name.removeprefix("module.")

    loaded = load_matching_tensors(path, {"n": (), "a": (2,)}, rename)
    assert (list(loaded), loaded["n"].dtype, loaded["a"].dtype) == (
        ["n", "a"],
        torch.int64,
        torch.float32,
    )
    with pytest.raises(ValueError, match="two tensors for a"):
        load_matching_tensors(path, {"a": (2,)}, lambda _: "a")


def test_many_differences_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({f"x{number}": torch.ones(1) for number in range(40)}, path)
    with pytest.raises(
        ValueError, match=r"x11 \(1,\) is not part of the network\n  \.\.\. and 28 more like this"
    ):
        load_matching_tensors(path, {})


def test_a_damaged_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"\x08\0\0\0\0\0\0\0{}      rest")
    with pytest.raises(ValueError, match="refused, nothing in it was run"):
        load_matching_tensors(path, {})


def test_a_list_is_no_state_dict(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save([torch.ones(1)], path)
    with pytest.raises(ValueError, match="it holds a list, expected tensors by name"):
        load_matching_tensors(path, EXPECTED)


def test_nothing_inside_a_file_is_executed(tmp_path: Path) -> None:
    path, canary = tmp_path / "w.pt", tmp_path / "canary"
    torch.save({"a.weight": Opens(canary)}, path)
    with pytest.raises(
        ValueError, match=r"refused, nothing in it was run: it asks for 'builtins.getattr'"
    ):
        load_matching_tensors(path, EXPECTED)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("text", "seed"), [("random:0", 0), ("random:42", 42), ("c3d.pickle", None), ("", None)]
)
def test_random_seed(text: str, seed: int | None) -> None:
    assert random_seed(text) == seed


@pytest.mark.parametrize("text", ["random:", "random:-1", "random:x", "random:1.5"])
def test_a_seed_is_a_whole_number(text: str) -> None:
    with pytest.raises(ValueError, match="random:SEED with a whole number"):
        random_seed(text)
