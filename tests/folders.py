"""The folders of the product code, and which may import which. The table is read by tests and by
the drawing in the documentation.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from tests.conftest import REPOSITORY

PACKAGES = ("storage", "models", "pipeline", "trainer", "tasks")
FILES = sorted(path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py"))

MAY_IMPORT: dict[str, set[str]] = {
    "storage.base": set(),
    "storage.files": {"storage.base"},
    "storage.catalog": {"storage.base", "storage.files"},
    "storage.features": {"storage.base", "storage.files"},
    "storage.maintenance": {"storage.base", "storage.catalog", "storage.features", "storage.files"},
    "storage": {
        "storage.base",
        "storage.catalog",
        "storage.features",
        "storage.files",
        "storage.maintenance",
    },
    "models": set(),
    "models.extractors.base": {"models"},
    "models.weights": {"models"},
    "models.extractors.c3d": {"models", "models.extractors.base", "models.weights"},
    "models.extractors.jpeg_frames": {"models", "models.extractors.base"},
    "models.extractors.keypoint_rcnn": {"models", "models.extractors.base", "models.weights"},
    "models.extractors.tased": {"models", "models.extractors.base", "models.weights"},
    "models.extractors.yolov5": {"models", "models.extractors.base", "models.weights"},
    "models.extractors": {
        "models",
        "models.extractors.base",
        "models.extractors.c3d",
        "models.extractors.jpeg_frames",
        "models.extractors.keypoint_rcnn",
        "models.extractors.tased",
        "models.extractors.yolov5",
        "models.weights",
    },
    "models.extractors.golden": {"models.extractors.base"},
    "models.highlight.base": {"models", "models.extractors.keypoint_rcnn"},
    "models.highlight.generic": {
        "models",
        "models.extractors.base",
        "models.extractors.c3d",
        "models.extractors.keypoint_rcnn",
        "models.extractors.tased",
        "models.highlight.base",
    },
    "models.highlight.personalized": {
        "models",
        "models.extractors.keypoint_rcnn",
        "models.highlight.base",
        "models.highlight.generic",
    },
    "models.highlight": {
        "models",
        "models.highlight.base",
        "models.highlight.generic",
        "models.highlight.personalized",
    },
    "pipeline.child_processes": {"storage.base"},
    "pipeline.media.container": {"storage.base"},
    "pipeline.media": {
        "pipeline.media.container",
        "storage.base",
        "storage.features",
        "storage.files",
    },
    "pipeline.decoding.backends": {
        "models.extractors.base",
        "pipeline.media",
        "pipeline.media.container",
        "storage.base",
    },
    "pipeline.sampling": {"models.extractors.base", "storage.base", "storage.catalog"},
    "pipeline.decoding": {
        "models.extractors.base",
        "pipeline.decoding.backends",
        "pipeline.media",
        "pipeline.media.container",
        "pipeline.sampling",
        "storage.base",
    },
    "pipeline.compute": {"models.extractors.base", "storage.base"},
    "pipeline.decoding.worker": {
        "models.extractors.base",
        "pipeline.child_processes",
        "pipeline.decoding",
        "pipeline.media",
        "pipeline.media.container",
        "pipeline.sampling",
        "storage.base",
    },
    "pipeline.download.access": {"storage.base", "storage.files"},
    "pipeline.download.folder": {"pipeline.download.access", "pipeline.media", "storage.base"},
    "pipeline.download.http": {"storage.base", "storage.files"},
    "pipeline.download": {
        "pipeline.child_processes",
        "pipeline.download.access",
        "pipeline.download.folder",
        "pipeline.download.http",
        "pipeline.media",
        "pipeline.media.container",
        "storage.base",
        "storage.files",
    },
    "pipeline.weights": {
        "models.extractors",
        "models.extractors.base",
        "models.weights",
        "pipeline.child_processes",
        "pipeline.download.http",
        "storage.base",
        "storage.files",
    },
    "pipeline.extraction": {
        "models.extractors",
        "models.extractors.base",
        "pipeline.child_processes",
        "pipeline.compute",
        "pipeline.decoding",
        "pipeline.decoding.worker",
        "pipeline.media",
        "pipeline.sampling",
        "pipeline.weights",
        "storage.base",
        "storage.catalog",
        "storage.features",
        "storage.files",
    },
    "pipeline.diagnostics": {
        "models.extractors",
        "models.extractors.base",
        "models.extractors.golden",
        "pipeline.compute",
        "pipeline.decoding",
        "pipeline.decoding.worker",
        "pipeline.download",
        "pipeline.download.access",
        "pipeline.download.folder",
        "pipeline.extraction",
        "pipeline.media",
        "pipeline.weights",
        "storage.base",
        "storage.catalog",
        "storage.features",
        "storage.files",
    },
    "pipeline.cli": {
        "models",
        "models.extractors",
        "models.extractors.golden",
        "models.weights",
        "pipeline.child_processes",
        "pipeline.decoding",
        "pipeline.diagnostics",
        "pipeline.download.access",
        "pipeline.download.folder",
        "pipeline.media",
        "pipeline.weights",
        "storage.base",
        "storage.catalog",
        "storage.features",
        "storage.files",
    },
    "pipeline": {"pipeline.cli", "storage", "storage.base"},
    "pipeline.datasets.parsing": {
        "pipeline.download.http",
        "storage.base",
        "storage.catalog",
        "storage.files",
    },
    "pipeline.datasets.readers": {"pipeline.datasets.parsing", "storage.base", "storage.catalog"},
    "pipeline.datasets": {
        "models",
        "pipeline.datasets.parsing",
        "pipeline.datasets.readers",
        "storage.base",
    },
    "pipeline.synthetic": {"pipeline.datasets.readers", "storage.base", "storage.files"},
    "trainer": {"storage", "storage.base"},
    "trainer.base": set(),
    "trainer.data.sources": {
        "models",
        "models.highlight.base",
        "storage.base",
        "storage.features",
        "storage.files",
    },
    "trainer.losses.set_based": {
        "models",
        "models.highlight.base",
        "models.highlight.generic",
        "trainer.base",
    },
    "trainer.losses": {
        "models",
        "models.highlight.base",
        "models.highlight.generic",
        "models.highlight.personalized",
        "trainer.base",
        "trainer.losses.set_based",
    },
    "trainer.config": {
        "models",
        "models.highlight",
        "models.highlight.base",
        "storage.base",
        "trainer.data.sources",
        "trainer.losses",
        "trainer.losses.set_based",
    },
    "trainer.metrics": {"storage.base"},
    "trainer.data.labels": {
        "models.highlight.base",
        "storage.base",
        "storage.catalog",
        "storage.features",
        "trainer.data.sources",
        "trainer.metrics",
    },
    "trainer.data": {
        "models",
        "models.highlight.base",
        "storage.base",
        "storage.catalog",
        "trainer.base",
        "trainer.data.labels",
        "trainer.data.sources",
    },
    "trainer.evaluation": {
        "models.highlight.base",
        "storage",
        "storage.base",
        "storage.catalog",
        "storage.features",
        "trainer.data",
        "trainer.data.labels",
        "trainer.data.sources",
        "trainer.metrics",
    },
    "trainer.training": {
        "models",
        "models.extractors.tased",
        "models.highlight",
        "models.highlight.base",
        "models.highlight.personalized",
        "storage",
        "storage.base",
        "storage.features",
        "storage.files",
        "trainer.base",
        "trainer.config",
        "trainer.data",
        "trainer.data.labels",
        "trainer.data.sources",
        "trainer.evaluation",
        "trainer.losses",
        "trainer.losses.set_based",
    },
    "trainer.inference": {
        "models.highlight.base",
        "models.highlight.generic",
        "storage",
        "storage.base",
        "storage.catalog",
        "trainer.config",
        "trainer.data",
        "trainer.data.sources",
        "trainer.evaluation",
        "trainer.losses",
        "trainer.metrics",
        "trainer.training",
    },
    "trainer.paper_tables": {
        "storage",
        "storage.base",
        "storage.catalog",
        "storage.files",
        "trainer.base",
        "trainer.config",
        "trainer.data",
        "trainer.data.labels",
        "trainer.evaluation",
        "trainer.inference",
        "trainer.metrics",
        "trainer.training",
    },
    "trainer.plots": {
        "storage.base",
        "storage.catalog",
        "storage.features",
        "storage.files",
        "trainer.evaluation",
        "trainer.inference",
        "trainer.metrics",
    },
    "trainer.synthetic": {
        "storage.base",
        "storage.catalog",
        "storage.features",
        "storage.files",
        "trainer.data.sources",
    },
    "trainer.cli": {
        "storage",
        "storage.base",
        "storage.catalog",
        "storage.features",
        "storage.files",
        "trainer.base",
        "trainer.config",
        "trainer.data.labels",
        "trainer.evaluation",
        "trainer.inference",
        "trainer.paper_tables",
        "trainer.plots",
        "trainer.synthetic",
        "trainer.training",
    },
    "tasks.config": {
        "models",
        "models.extractors",
        "models.extractors.base",
        "pipeline.datasets",
        "pipeline.decoding",
        "pipeline.download.access",
        "pipeline.extraction",
        "pipeline.media",
        "pipeline.synthetic",
        "pipeline.weights",
        "storage.base",
        "storage.catalog",
    },
    "tasks.execution": {
        "pipeline.child_processes",
        "pipeline.compute",
        "pipeline.datasets",
        "pipeline.datasets.parsing",
        "pipeline.decoding",
        "pipeline.decoding.worker",
        "pipeline.diagnostics",
        "pipeline.download",
        "pipeline.download.access",
        "pipeline.download.folder",
        "pipeline.extraction",
        "pipeline.sampling",
        "storage.base",
        "storage.catalog",
        "storage.features",
        "storage.files",
        "tasks.config",
    },
    "tasks.reporting": {
        "models.extractors.base",
        "pipeline.diagnostics",
        "pipeline.extraction",
        "storage.base",
        "storage.catalog",
        "storage.features",
        "storage.files",
        "tasks.config",
        "tasks.execution",
        "trainer.plots",
    },
    "tasks": {
        "models.extractors.base",
        "pipeline.compute",
        "pipeline.datasets",
        "pipeline.diagnostics",
        "pipeline.extraction",
        "pipeline.media",
        "pipeline.weights",
        "storage",
        "storage.base",
        "storage.catalog",
        "storage.features",
        "storage.files",
        "tasks.config",
        "tasks.execution",
        "tasks.reporting",
        "trainer.config",
        "trainer.inference",
        "trainer.paper_tables",
        "trainer.plots",
        "trainer.training",
    },
}
"""Folder → the folders it may import from, besides itself. There is no circle: see
`test_no_circle_of_folders`.
"""


def module_of(path: Path) -> str:
    """`pipeline/media/probe.py` → `pipeline.media.probe`; an `__init__.py` → its folder."""
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def folder_of(module: str) -> str:
    """The folder of a module, in dots; that of an `__init__.py` is the folder itself."""
    is_folder = MODULES[module].name == "__init__.py"
    return module if is_folder else module.rpartition(".")[0]


@cache
def imported_modules(path: Path) -> frozenset[str]:
    """Every module of ours that a file imports, wherever the import stands in it."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full_name = f"{node.module}.{alias.name}"
                if full_name in MODULES:
                    modules.add(full_name)
                elif node.module in MODULES:
                    modules.add(node.module)
    return frozenset(modules)


def purpose_of(folder: str) -> str:
    """The first line of the docstring of a folder's `__init__.py`."""
    docstring = ast.get_docstring(ast.parse(MODULES[folder].read_text())) or ""
    return docstring.partition("\n")[0]
