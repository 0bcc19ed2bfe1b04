"""A model of another distribution trains and scores, and its checkpoint says whose code it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.support.plugins import install
from trainer.__main__ import main
from trainer.training.checkpoint import read_checkpoint

GUIDE = (REPOSITORY / "docs" / "how-to" / "add-a-model.md").read_text()


def blocks(language: str) -> list[str]:
    """The code blocks of the guide: those of a language, or those without one."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def test_the_guide_to_a_model_of_ones_own_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = blocks("python")
    (recipe,) = (text for text in blocks("") if "[model]" in text)
    site = tmp_path / "site"
    points = "linear = vh_linear_of_the_guide:SPEC"
    install(site, "my-linear", "3", "video_highlights.models", points, vh_linear_of_the_guide=code)
    monkeypatch.syspath_prepend(str(site))
    (tmp_path / "linear.toml").write_text(recipe)
    store = tmp_path / "store"
    small = ["--train-users", "6", "--test-users", "3", "--max-videos", "4"]
    assert main(["plant", str(store), *small]) == 0
    assert main(["fit", str(tmp_path / "linear.toml"), str(store / "planted")]) == 0
    (model,) = store.glob("planted/runs/linear-*/model.safetensors")
    plugin = read_checkpoint(model).about["plugin"]
    assert (plugin["distribution"], plugin["version"]) == ("my-linear", "3")
    assert main(["score", str(model), str(store / "planted")]) == 0
    assert "recall_at_5" in capsys.readouterr().out
