"""`python -m trainer recipes`: the recipes that come with the project, or a schema for editors."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

from trainer.config.recipe import load_recipe, recipe_names
from trainer.config.recipe_schema import recipe_schema


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--schema", action="store_true", help="print a JSON Schema of a recipe instead"
    )


def run(options: argparse.Namespace) -> Iterator[str]:
    """Yield one line for each recipe: its name, model, objective and source."""
    if options.schema:
        yield json.dumps(recipe_schema(), indent=1)
        return
    for name in recipe_names():
        recipe = load_recipe(name)
        yield f"{name:<28} {recipe.spec.name:<28} {recipe.source}"
