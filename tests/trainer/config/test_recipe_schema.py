"""The JSON Schema of recipes: it takes every recipe, and refuses what loading one refuses."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.conftest import REPOSITORY
from trainer.config.recipe import recipe_names
from trainer.config.recipe_schema import recipe_schema


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = recipe_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_valid(validator: Draft202012Validator, name: str) -> None:
    recipe = tomllib.loads((REPOSITORY / "trainer/recipes" / f"{name}.toml").read_text())
    assert [error.message for error in validator.iter_errors(recipe)] == []


@pytest.mark.parametrize(
    "text",
    [
        "[model]\nname = 'phd_c'",
        "[model]\nname = 'phd_ca'\nlayerz = 3",
        "[training]\nepochs = 'many'",
        "[optimizer]\nname = 'adamw'",
        "[objective]\nname = 'hinge'\nmargins = 1.0",
        "[data]\nunits = 'clips'",
        "[small.training]\nepoch = 1",
        "stages = ['gradients']",
        "[start]\npooling = 'phd_c'",
        "gaps = 'none'",
        "sorce = 'me'",
    ],
)
def test_what_no_recipe_may_hold_is_refused(validator: Draft202012Validator, text: str) -> None:
    recipe: dict[str, Any] = tomllib.loads(text)
    assert not validator.is_valid(recipe)
