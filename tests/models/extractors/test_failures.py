"""An error of an extractor is described by the last line of its own code."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.extractors.base.failures import describe_error

PACKAGE = """
import numpy as np

class Broken:
    def extract(self, shapes):
        np.zeros(3).reshape(shapes)

    def call_back(self, function):
        function()

def build(*_):
    raise KeyError("layer4")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    folder = tmp_path / "vh_failing"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "network.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("vh_failing.network")
    for name in [name for name in sys.modules if name.startswith("vh_failing")]:
        del sys.modules[name]


def test_the_line_is_of_its_own_code(module: Any) -> None:
    with pytest.raises(ValueError, match="cannot reshape") as caught:
        module.Broken().extract((2, 2))
    described = describe_error(caught.value, module.Broken())
    assert described.startswith("ValueError: cannot reshape array of size 3")
    assert described.endswith(f", in {module.__file__}:6")


def test_of_its_spec_too(module: Any) -> None:
    with pytest.raises(KeyError) as caught:
        module.build()
    assert describe_error(caught.value, module.build).endswith(f"in {module.__file__}:12")


def test_an_error_that_never_passed_it_has_the_last_line_of_all(module: Any) -> None:
    with pytest.raises(ValueError, match="cannot reshape") as caught:
        np.zeros(3).reshape((2, 2))
    assert f"in {__file__}:" in describe_error(caught.value, module.Broken())


def test_an_error_that_was_not_raised_has_no_line() -> None:
    assert describe_error(ValueError(), object()) == "ValueError: no message"
