"""Nothing that executes what it reads: every import and call in the code is held against a list,
which is empty.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.folders import FILES

MODULES = {
    "pickle",
    "cPickle",
    "joblib",
    "dill",
    "cloudpickle",
    "marshal",
    "shelve",
    "jsonpickle",
    "runpy",
    "code",
}
CALLS = {"eval", "exec", "compile", "__import__"}
METHODS = {
    "torch.load", "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter", "np.load", "numpy.load",
    "yaml.load", "yaml.unsafe_load", "os.system", "os.popen", "tempfile.mktemp", "pd.read_pickle",
    "np.core.multiarray._reconstruct", "importlib.import_module",
}  # fmt: skip
ALLOWED = {
    ("models/extractors/c3d/mean_volume.py", "np.load", "allow_pickle=False"),
    ("storage/files/external_arrays.py", "np.load", "allow_pickle=False"),
    ("storage/export/forms/numpy_files.py", "np.load", "allow_pickle=False"),
    ("storage/export/forms/webdataset.py", "np.load", "allow_pickle=False"),
    ("storage/ingest/feature_files.py", "np.load", "allow_pickle=False"),
}
"""(file, call, what must stand in it)."""


def uses(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """What is imported or called that could run what it reads: its name, and the source of the
    call.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
            )
            yield from ((name, "") for name in names if name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.Call):
            name, text = ast.unparse(node.func), ast.unparse(node)
            shell = any(word.arg == "shell" for word in node.keywords)
            if (
                name in CALLS | METHODS
                or shell
                or "allow_pickle=True" in text
                or "verify=False" in text
            ):
                yield name, text


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_the_code_runs_nothing_that_it_reads(path: Path) -> None:
    file = path.relative_to(REPOSITORY).as_posix()
    for name, text in uses(ast.parse(path.read_text())):
        assert any((file, name) == allowed[:2] and allowed[2] in text for allowed in ALLOWED), (
            f"{file}: {text or name}"
        )


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from pickle import loads", "import torch\ntorch.load('x', weights_only=True)", "eval('1')",
        "import numpy as np\nnp.load('x', allow_pickle=True)", "subprocess.run('x', shell=True)", "os.system('x')",
        "import joblib", "yaml.load('x')", "requests.get('x', verify=False)",
    ],
)  # fmt: skip
def test_the_test_sees_them(line: str) -> None:
    assert list(uses(ast.parse(line)))
