"""The architecture, held by reading every import: which folder may import which, and which library
belongs where.
"""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.folders import (
    FILES,
    MAY_IMPORT,
    MODULES,
    PACKAGES,
    folder_of,
    imported_modules,
    module_of,
    purpose_of,
)

SHARED_BY = {
    "numpy": {"storage", "models", "pipeline", "trainer"},
    "torch": {"models", "pipeline", "trainer"},
    "cv2": {"models", "pipeline", "trainer"},
    "torchvision": {"models"},
    "pydantic": {"models"},
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
    "tenacity": {"pipeline"},
    "pyarrow": {"pipeline", "storage"},
    "pandas": {"storage"},
    "webdataset": {"storage"},
    "zarr": {"storage"},
    "datasets": {"storage"},
    "jinja2": {"trainer"},
    "dask": {"tasks"},
    "distributed": {"tasks"},
    "dask_jobqueue": {"tasks"},
    "luigi": {"tasks"},
    "tqdm": {"tasks", "trainer"},
}
"""Outside library → the packages that may import it. A library that is not listed has no place in
the code yet.
"""


@cache
def imports(path: Path) -> frozenset[str]:
    """Top-level names of every absolute import in a file, wherever it stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full, without leading dots"
            names.add((node.module or "").partition(".")[0])
    return frozenset(names)


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Every group of nodes that reach each other."""
    reached = {node: _reached(node, edges) for node in edges}
    groups = {
        tuple(sorted(other for other in edges if other in reached[node] and node in reached[other]))
        for node in edges
        if node in reached[node]
    }
    return [list(group) for group in sorted(groups)]


def _reached(start: str, edges: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = list(edges.get(start, ()))
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting.extend(edges.get(node, ()))
    return seen


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


def test_no_circle_of_files() -> None:
    assert (
        circles({module: {*imported_modules(path)} - {module} for module, path in MODULES.items()})
        == []
    )


def test_no_circle_of_folders() -> None:
    assert circles(MAY_IMPORT) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_imports_follow_the_folder_table(path: Path) -> None:
    folder = folder_of(module_of(path))
    assert folder in MAY_IMPORT, f"add {folder} to the table in tests/folders.py"
    for module in imported_modules(path):
        other = folder_of(module)
        assert other in MAY_IMPORT[folder] | {folder}, (
            f"{folder} may not import {other}; see tests/folders.py"
        )


def test_every_arrow_of_the_table_is_used() -> None:
    used: dict[str, set[str]] = {folder: set() for folder in MAY_IMPORT}
    for module, path in MODULES.items():
        used[folder_of(module)] |= {folder_of(other) for other in imported_modules(path)}
    unused = {
        (folder, other) for folder, others in MAY_IMPORT.items() for other in others - used[folder]
    }
    assert unused == set(), "remove these from tests/folders.py"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_outside_libraries_belong_to_their_packages(path: Path) -> None:
    package = path.relative_to(REPOSITORY).parts[0]
    for name in imports(path) - {*PACKAGES, *sys.stdlib_module_names}:
        assert package in SHARED_BY.get(name, set()), (
            f"{package} must not import {name}; see SHARED_BY"
        )


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_folder_holds_at_most_twelve_modules(folder: str) -> None:
    modules = [
        module
        for module, path in MODULES.items()
        if folder_of(module) == folder and path.name != "__init__.py"
    ]
    assert len(modules) <= 12, f"{folder} has {len(modules)} modules: {modules}"


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_folder_states_its_purpose_in_one_line(folder: str) -> None:
    purpose = purpose_of(folder)
    assert 20 <= len(purpose) <= 95, f"{folder}: {purpose!r}"
    assert purpose.endswith("."), f"{folder}: {purpose!r}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_module_says_what_it_does(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), (
        f"{path} opens with what it does and what it refuses to know"
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_files_stay_short(path: Path) -> None:
    assert path.read_text().count("\n") <= 500, f"{path} has two subjects: split it"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            count = len(node.args.args) + len(node.args.kwonlyargs)
            assert count <= 8, f"{path}: {node.name} has {count} parameters; a dataclass is missing"


@pytest.mark.parametrize("name", ["pickle", "joblib", "dill", "marshal", "shelve"])
def test_nothing_that_executes_what_it_reads_is_imported(name: str) -> None:
    assert [str(path) for path in FILES if name in imports(path)] == []
