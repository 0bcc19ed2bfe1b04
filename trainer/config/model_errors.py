"""Errors of a network's own code as settings errors: one sentence, and its place in a plug-in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from models.highlight.base.output_check import OutputFault
from models.highlight.registry import HIGHLIGHT_MODELS
from models.plugin_errors import EXPECTED, describe, place_in_package
from storage.base.errors import SettingsError
from trainer.config.recipe import Recipe


@contextmanager
def explain_model_errors(recipe: Recipe) -> Iterator[None]:
    """Inside, an output that breaks the contract, or an error in a plug-in, is a SettingsError.

    Errors in code of ours pass: they are bugs, whose traceback is needed.
    """
    model = recipe.spec.name
    try:
        yield
    except OutputFault as error:
        raise SettingsError((f"recipe {recipe.name}, model {model}: {error}",)) from error
    except EXPECTED as error:
        place = place_in_package(error, HIGHLIGHT_MODELS.plugin_package(model))
        if not place:
            raise
        raise SettingsError(
            (f"recipe {recipe.name}, model {model}: {describe(error)} ({place})",)
        ) from error


@contextmanager
def explain_objective_errors(recipe: Recipe) -> Iterator[None]:
    """Inside, an objective that does not suit the model or the data raises SettingsError."""
    try:
        yield
    except OutputFault:
        raise
    except KeyError as error:
        raise SettingsError(
            (
                f"recipe {recipe.name}: the objective {recipe.objective} needs the part "
                f"{error.args[0]!r} in the Scores of the model {recipe.spec.name}, which does not "
                "return it; choose another objective, or return it in Scores.parts",
            )
        ) from error
    except ValueError as error:
        raise SettingsError((f"recipe {recipe.name}: {error}",)) from error
