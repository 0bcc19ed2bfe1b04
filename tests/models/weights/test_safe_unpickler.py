"""Nothing inside a checkpoint is executed: hostile pickles are refused by name, and leave nothing
behind.
"""

from __future__ import annotations

import io
import pickle
import sys
from pathlib import Path

import pytest

from models.weights.file_formats import read_checkpoint
from models.weights.safe_unpickler import (
    MAX_OPERATIONS,
    InvalidCheckpoint,
    PickleCall,
    PickleGlobal,
    allowed_global,
    read_pickle,
)
from tests.support.pickle_payloads import by_hand, calls, wrapped

FORMS = ("zip", "legacy", "plain")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", calls("canary"))
def test_a_call_is_refused_whatever_the_form_and_protocol(
    name: str, form: str, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    loaded = set(sys.modules)
    for protocol in range(6):
        payload = pickle.dumps({"w": calls(str(canary))[name]}, protocol)
        with pytest.raises(InvalidCheckpoint, match="it asks for"):
            read_checkpoint(io.BytesIO(wrapped(payload, form)))
    assert list(tmp_path.iterdir()) == []
    assert {module for module in sys.modules if not module.startswith("encodings.")} <= loaded


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", by_hand("canary"))
def test_bytes_that_no_pickler_writes_are_refused(name: str, form: str, tmp_path: Path) -> None:
    payload = by_hand(str(tmp_path / "canary"))[name]
    with pytest.raises(InvalidCheckpoint):
        read_checkpoint(io.BytesIO(wrapped(payload, form)))
    assert list(tmp_path.iterdir()) == []


def test_the_payloads_are_real(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    pickle.loads(pickle.dumps(calls(str(canary))["os.system"]))  # noqa: S301  # our own, to see that it would work
    assert canary.exists()


def test_a_network_is_a_record_and_its_class_is_not_looked_for() -> None:
    made = read_pickle(io.BytesIO(b"cmodels.yolo\nDetect\n)\x81}S'nc'\nK\x50sb."))
    assert isinstance(made, PickleCall)
    assert (made.maker, made.arguments, made.state) == (
        PickleGlobal("models.yolo.Detect"),
        (),
        {"nc": 80},
    )
    assert "models.yolo" not in sys.modules


def test_plain_data_comes_as_python_has_it() -> None:
    value = {
        "a": [1, -2, 3.5, None, True],
        b"b": ("x", (), (1, 2, 3, 4)),
        "s": "ü",
        7: {"n": 10**30},
    }
    for protocol in range(3, 6):
        assert read_pickle(io.BytesIO(pickle.dumps(value, protocol))) == value


def test_shared_things_stay_shared() -> None:
    inner: list[int] = [1]
    one, other = read_pickle(io.BytesIO(pickle.dumps([inner, inner], 2)))
    assert one is other


def test_names_of_older_releases_are_today_s() -> None:
    assert allowed_global("__builtin__", "set").text == "builtins.set"
    assert allowed_global("numpy._core.multiarray", "scalar").text == "numpy.core.multiarray.scalar"


@pytest.mark.parametrize("cut", range(0, 60, 3))
def test_a_cut_pickle_is_refused(cut: int) -> None:
    whole = pickle.dumps({"weights": [1.0, 2.0, "three", (4, 5)], "more": {"x": 1}}, 2)
    assert len(whole) > 60
    with pytest.raises(InvalidCheckpoint, match="not a valid pickle"):
        read_pickle(io.BytesIO(whole[:cut]))


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (b"K\x01K\x02.", "ends with 2 objects"),
        (b"(.", "ends with 0 objects"),
        (b"0.", "not a valid pickle"),
        (b"K\x01K\x02a.", "appends to a int"),
        (b"K\x01K\x02K\x03s.", "sets items of a int"),
        (b"K\x01}b.", "sets the state of a int"),
        (b"K\x01)R.", "calls 'int'"),
        (b"ctorch\nFloatStorage\n)R.", "calls 'torch.FloatStorage'"),
        (b"K\x01\x85\x86.", "takes more objects"),
        (b"h\x05.", "not a valid pickle"),
        (b"(" * 10_001 + b".", "ends with|longer or deeper"),
        (b"K\x01" * 10_001 + b".", "longer or deeper"),
    ],
)
def test_damage_is_told(payload: bytes, told: str) -> None:
    assert MAX_OPERATIONS > 10_001
    with pytest.raises(InvalidCheckpoint, match=told):
        read_pickle(io.BytesIO(payload))
