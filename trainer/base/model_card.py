"""`README.md` beside a trained network: a card for people, from what its checkpoint records.

Nothing in it comes from a video; names of catalogs and users' settings are quoted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

LICENCE = (
    "No licence is given with this file. The network is made from the features below, and those "
    "from videos and weights that have terms of their own."
)


def model_card(about: Mapping[str, Any]) -> str:
    """The card's text; `about` is that of the checkpoint."""
    return "\n\n".join(_blocks(about)) + "\n"


def _blocks(about: Mapping[str, Any]) -> Iterator[str]:
    recipe = about["recipe"]
    yield f"# {about['recipe_name']}, trained on {_code(about['catalog'])}"
    yield from (f"**{_plain(mark)}**" for mark in _marks(about))
    yield _table(
        {
            "model": recipe.get("model", {}).get("name", ""),
            "objective": recipe.get("objective", {}).get("name", ""),
            "source": recipe.get("source", ""),
            "seed": about["seed"],
            "epochs": about.get("epochs", ""),
            "best epoch": about.get("best_epoch", ""),
            "made with": ", ".join(map(" ".join, about["versions"].items())),
        }
    )
    yield "## Features it reads"
    yield "\n".join(_features(about))
    yield "## What the source leaves open, and how it is filled here"
    yield _list(recipe.get("gaps", ()))
    yield "## Notes"
    yield _list(about["notes"])
    yield "## Licence"
    yield LICENCE
    yield "`model.safetensors` has all of this in its header, with the whole recipe."


def _marks(about: Mapping[str, Any]) -> Iterator[str]:
    """Why its numbers are not a result."""
    for note in about["notes"]:
        if "random:" in note or "no result" in note:
            yield note
    if about["is_small"]:
        yield "small widths: a trial, not a result"


def _list(texts: Iterable[str]) -> str:
    return "\n".join(f"- {_plain(text)}" for text in texts) or "None."


def _features(about: Mapping[str, Any]) -> Iterator[str]:
    for name, description in about["trained_on"].items():
        weights = description.get("weights") or "none"
        extractor = description.get("extractor", "")
        yield f"- {_code(name)}: extractor {_code(extractor)}, weights {_code(weights)}"


def _table(rows: Mapping[str, object]) -> str:
    shown = [f"| {name} | {_plain(str(value))} |" for name, value in rows.items() if value != ""]
    return "\n".join(["| | |", "|-|-|", *shown])


def _code(text: object) -> str:
    # A backtick would end the code, and a name from outside could go on as markup.
    return f"`{str(text).replace('`', '')}`"


def _plain(text: str) -> str:
    """Text on one line without markup: what Markdown would read as such is quoted as JSON does."""
    one_line = " ".join(text.split())
    if any(character in one_line for character in "<>[]|`"):
        return _code(json.dumps(one_line, ensure_ascii=False)[1:-1].replace("|", "/"))
    return one_line
