"""The prose of the product code: no riddles, no long lines, no function with many branches."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.code_figures import MANY_BRANCHES, branches, figures, functions_of
from tests.conftest import REPOSITORY
from tests.folders import FILES

RIDDLES = {
    r"(?<!there )(?<!There )\bis no\b": "say `is not` or `invalid`",
    r"\bin hand\b": "say `in progress`, `decoded in parallel` or what is meant",
    r"\b(told|tells?)\b(?!\()": "say `reports`, `prints`, `shows`",
    r"\b(nobody|somebody|whatever)\b": "name who or what",
    r"\bone a line\b": "say `one on each line`",
    r"\bas far as\b": "say the condition",
    r"\bRefuses to know\b": "see the import table",
    r"(^|\. )Knows [a-z]": "see the import table",
}
"""Pattern → what to write in its place."""
QUOTED = {"pipeline/download/error_mapping.py"}
"""Files that match the words of another program."""
DENSITY = 0.45
"""Branches per line, 90th percentile over functions of five lines or more."""


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Comments and texts of a file, each with its line; `Literal["nobody"]` values are no prose."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        is_prose = token.type == tokenize.COMMENT or (
            token.type == tokenize.STRING and " " in token.string
        )
        if is_prose:
            yield token.start[0], token.string


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_prose_has_no_riddles(path: Path) -> None:
    if str(path.relative_to(REPOSITORY)) in QUOTED:
        pytest.skip("it matches the words of yt-dlp")
    found = [
        f"{path}:{line + text[: match.start()].count(chr(10))}: {match[0]!r}: {advice}"
        for line, text in prose(path)
        for pattern, advice in RIDDLES.items()
        for match in re.finditer(pattern, text, re.MULTILINE)
    ]
    assert found == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_functions_have_few_branches(path: Path) -> None:
    found = {one.name: 1 + branches(one) for one in functions_of(path)}
    assert {name: count for name, count in found.items() if count > MANY_BRANCHES} == {}


def test_code_is_not_dense() -> None:
    measured = figures(REPOSITORY)
    assert measured.branches_per_line_p90 <= DENSITY
    assert measured.largest_folder[0] <= 12
