"""The digest of code changes with what code computes, and with nothing else."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from models.code_digest import code_sha256, module_of

NETWORK = '''"""A network."""

from vh_digest.layers import WIDTH


def build(size: int = 3) -> int:
    """The width."""
    # A comment.
    return size * WIDTH
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of three modules, of which `network` imports one."""
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "vh_digest"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "layers.py").write_text("WIDTH = 4\n")
    (folder / "other.py").write_text("HEIGHT = 4\n")
    (folder / "network.py").write_text(NETWORK)
    return folder


def digest() -> str:
    return code_sha256(["vh_digest.network"], lambda module: module.startswith("vh_digest"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# A comment.", "# Another comment,\n    # of two lines."),
        ('"""The width."""', '"""The width of the network."""'),
        ('"""A network."""', '"""One network."""\n\n"""A text below."""'),
        ("size * WIDTH", "(\n        size * WIDTH\n    )"),
    ],
)
def test_texts_and_layout_change_nothing(package: Path, before: str, after: str) -> None:
    first = digest()
    assert before in NETWORK
    (package / "network.py").write_text(NETWORK.replace(before, after))
    assert digest() == first


@pytest.mark.parametrize(
    ("before", "after"),
    [("size * WIDTH", "size + WIDTH"), ("= 3", "= 2"), ("= 3", "= 3.0"), ("build", "make")],
)
def test_code_changes_it(package: Path, before: str, after: str) -> None:
    first = digest()
    (package / "network.py").write_text(NETWORK.replace(before, after))
    assert digest() != first


@pytest.mark.parametrize(
    "line",
    [
        "from vh_digest.layers import WIDTH",
        "from vh_digest import layers",
        "from . import layers",
        "from .layers import WIDTH",
        "import vh_digest.layers",
    ],
)
def test_imported_modules_count_and_others_do_not(package: Path, line: str) -> None:
    (package / "network.py").write_text(NETWORK.replace("from vh_digest.layers import WIDTH", line))
    first = digest()
    (package / "other.py").write_text("HEIGHT = 5\n")
    assert digest() == first
    (package / "layers.py").write_text("WIDTH = 50\n")
    assert digest() != first


def test_the_module_of_a_partial_is_that_of_its_function() -> None:
    assert module_of(functools.partial(code_sha256, ["x"])) == "models.code_digest"
    assert module_of(Path) == Path.__module__
    assert module_of(Path()) == type(Path()).__module__
