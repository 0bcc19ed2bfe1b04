"""Pickles that would do something if they were unpickled, and files of every form around them.

Each payload would create the file CANARY. None of them is unpickled: bytes are written by hand or
by `pickle`.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import io
import operator
import os
import pathlib
import pickle
import runpy
import shutil
import subprocess
import types
import zipfile
from collections.abc import Callable
from typing import Any

LEGACY_HEAD = [
    0x1950A86A20F9469CFC6C,
    1001,
    {"protocol_version": 1001, "little_endian": True, "type_sizes": {}},
]


class Calls:
    """Unpickling one calls `function(*arguments)`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.made = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.made


class Builds:
    """Unpickling one makes a class's object and gives it a state."""

    def __init__(self, canary: str) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return (
            types.SimpleNamespace,
            (),
            {"__class__": os.system, "made": Calls(os.system, f"touch {self.canary}")},
        )


def calls(canary: str) -> dict[str, Any]:
    """Name → an object; pickled, it is a payload."""
    touch = f"touch {canary}"
    opens = f"open({canary!r}, 'w')"
    return {
        "os.system": Calls(os.system, touch),
        "eval": Calls(builtins.eval, opens),
        "exec": Calls(builtins.exec, opens),
        "open": Calls(builtins.open, canary, "w"),
        "__import__": Calls(builtins.__import__, "antigravity"),
        "Popen": Calls(subprocess.Popen, ["touch", canary]),
        "getattr chain": Calls(
            builtins.getattr, Calls(builtins.getattr, pathlib.Path, "touch"), "__globals__"
        ),
        "attrgetter": Calls(operator.attrgetter, "system"),
        "import_module": Calls(importlib.import_module, "antigravity"),
        "partial": Calls(functools.partial, os.system, touch),
        "run_path": Calls(runpy.run_path, canary),
        "rmtree": Calls(shutil.rmtree, canary),
        "method of a path": Calls(pathlib.Path.touch, pathlib.PurePosixPath(canary)),
        "loads": Calls(pickle.loads, pickle.dumps(Calls(os.system, touch))),
        "state": Builds(canary),
    }


def by_hand(canary: str) -> dict[str, bytes]:
    """Name → bytes that `pickle` would not write."""
    touch = f"touch {canary}".encode()
    text = b"X" + len(touch).to_bytes(4, "little") + touch
    return {
        "dotted name": b"\x80\x04\x8c\x0bmodels.yolo\x8c\x09os.system\x93" + text + b"\x85R.",
        "dotted module": b"cmodels.yolo.os\nsystem.__call__\n" + text + b"\x85R.",
        "extension code": b"\x80\x02\x82\x01" + text + b"\x85R.",
        "old instance": b"(S'" + touch + b"'\nios\nsystem\n.",
        "object operation": b"(cos\nsystem\n" + text + b"o.",
        "class of a network called for its state": b"cposix\nsystem\n)\x81}" + text + b"K\x01sb.",
        "network of os": b"cmodels.yolo\nDetect\n" + text + b"\x85Rcos\nsystem\n0.",
        "buffer from outside": b"\x80\x05\x97.",
        "persistent id": b"Pcos\nsystem\n.",
        "class made by type": b"cbuiltins\ntype\n(S'X'\n)}tR.",
    }


def wrapped(payload: bytes, form: str) -> bytes:
    """The payload as the data of a zip, of a legacy file, or alone."""
    if form == "plain":
        return payload
    if form == "legacy":
        return (
            b"".join(pickle.dumps(part, 2) for part in LEGACY_HEAD) + payload + pickle.dumps([], 2)
        )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
        archive.writestr("archive/version", "3\n")
    return out.getvalue()
