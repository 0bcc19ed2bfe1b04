"""The page of recipe settings is whole, and the recipes of the guide load."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from models.highlight.registry import HIGHLIGHT_MODELS
from tests.conftest import REPOSITORY
from trainer.config.recipe import OptimizerSettings, TrainingSettings, load_recipe
from trainer.config.recipe_reference import page
from trainer.data.sources.settings import DataSettings
from trainer.losses.registry import DOMAIN_OBJECTIVES, OBJECTIVES

GUIDE = (REPOSITORY / "docs" / "how-to" / "add-a-recipe.md").read_text()
RECIPES = [
    text
    for text in re.findall(r"^```toml\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    if "extends" in text or "[model]" in text
]


def test_every_model_objective_and_setting_is_listed() -> None:
    text = "\n\n".join(page())
    for name in (*HIGHLIGHT_MODELS, *OBJECTIVES, *DOMAIN_OBJECTIVES):
        assert f"\n### `{name}`\n" in text
    for kind in (DataSettings, OptimizerSettings, TrainingSettings):
        for field in dataclasses.fields(kind):
            assert f"\n- `{field.name}` (" in text
    assert "- `power` (a whole number, default `1`)" in text


@pytest.mark.parametrize("number", range(len(RECIPES)))
def test_a_recipe_of_the_guide_loads(tmp_path: Path, number: int) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(RECIPES[number])
    assert load_recipe(str(file)).objective == "hinge"


def test_the_guide_has_a_recipe_from_ours_and_one_from_nothing() -> None:
    assert len(RECIPES) == 2
