"""The arrows of the house, held by reading every import: who may use whom, and which outside library lives where."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

MAY_IMPORT = {
    "storage": set(),
    "models": set(),
    "pipeline": {"storage", "models"},
    "trainer": {"storage", "models"},
    "tasks": {"storage", "models", "pipeline", "trainer"},
}
"""Package → the packages of ours it may import. `pipeline` and `trainer` share only the store."""

SHARED_BY = {
    "numpy": {"storage", "models", "pipeline", "trainer"},
    "torch": {"models", "pipeline", "trainer"},
    "cv2": {"models", "pipeline", "trainer"},
    "torchvision": {"models"},
    "ultralytics": {"models"},
    "detectron2": {"models"},
    "PIL": {"models"},
    "h5py": {"storage"},
    "xxhash": {"storage"},
    "safetensors": {"models", "trainer"},
    "av": {"pipeline"},
    "torchcodec": {"pipeline"},
    "decord": {"pipeline"},
    "yt_dlp": {"pipeline"},
    "ffmpeg": {"pipeline"},
    "imageio_ffmpeg": {"pipeline"},
    "matplotlib": {"trainer"},
    "sklearn": {"trainer"},
    "tensorboard": {"trainer"},
    "pymatreader": {"pipeline"},
    "dask": {"tasks"},
    "distributed": {"tasks"},
    "dask_jobqueue": {"tasks"},
    "luigi": {"tasks"},
    "tqdm": {"tasks", "trainer"},
}
"""Outside library → the packages that may import it. A library that is not listed has no place in the code yet."""

FILES = sorted(path for package in MAY_IMPORT for path in (REPOSITORY / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Top-level names of every absolute import in a file, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full, without leading dots"
            yield (node.module or "").partition(".")[0]


def test_there_is_something_to_check() -> None:
    assert {path.relative_to(REPOSITORY).parts[0] for path in FILES} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_imports_follow_the_arrows(path: Path) -> None:
    package = path.relative_to(REPOSITORY).parts[0]
    for name in set(imports(path)) - {package, *sys.stdlib_module_names}:
        if name in MAY_IMPORT:
            assert name in MAY_IMPORT[package], f"{package} must not import {name}"
        else:
            assert package in SHARED_BY.get(name, set()), f"{package} must not import {name}; see SHARED_BY"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_module_says_what_it_does(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} opens with what it does and what it refuses to know"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400, f"{path} is longer than one sitting"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            docstring = ast.get_docstring(node, clean=False) or ""
            length = (node.end_lineno or node.lineno) - node.lineno + 1 - docstring.count("\n") - bool(docstring)
            assert length <= 60, f"{path}: {node.name} has {length} lines"
            count = len(node.args.args) + len(node.args.kwonlyargs)
            assert count <= 8, f"{path}: {node.name} has {count} parameters; a dataclass is missing"


@pytest.mark.parametrize("name", ["pickle", "joblib", "dill", "marshal", "shelve"])
def test_nothing_that_executes_what_it_reads_is_imported(name: str) -> None:
    assert [str(path) for path in FILES if name in set(imports(path))] == []
