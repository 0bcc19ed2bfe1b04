"""Every script in `examples/` runs on a small store, and prints what it promises."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.support.videos import coded_video
from trainer.__main__ import main

EXAMPLES = {
    "read_store.py": "videos with features",
    "read_with_h5py.py": "spans in seconds",
    "train_loop.py": "epoch 2: loss",
    "score_by_hand.py": "mean average precision of",
    "train_windows.py": "epoch 2: loss",
    "features_of_a_file.py": "3 rows of yolov5",
    "store_to_pandas.py": "annotated ['seconds'] by split:",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("examples")
    small = ["--train-users", "6", "--test-users", "3", "--max-videos", "4"]
    assert main(["plant", str(root), *small]) == 0
    return root / "planted"


def test_every_example_is_listed_and_tested() -> None:
    scripts = {path.name for path in (REPOSITORY / "examples").glob("*.py")}
    page = (REPOSITORY / "examples" / "README.md").read_text()
    assert scripts == set(EXAMPLES)
    assert all(f"`{name}`" in page for name in scripts)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(
    name: str, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = REPOSITORY / "examples" / name
    if name == "store_to_pandas.py":
        pytest.importorskip("pandas", reason="needs the extra `export`")
    if name == "features_of_a_file.py":
        store = coded_video(store / "clip.mp4", 24)  # 2.4 seconds
    monkeypatch.setattr(sys, "argv", [str(script), str(store)])
    runpy.run_path(str(script), run_name="__main__")
    assert EXAMPLES[name] in capsys.readouterr().out
