"""The README says what is so: its tree, its table of reasons and exit codes, its two commands."""

from __future__ import annotations

import re
from pathlib import Path

from storage.base.video_status import REASONS, State
from tasks.config.exit_codes import Exit
from tasks.config.settings import load
from tests.conftest import REPOSITORY
from tests.draw_folders import DRAWING, drawing, folder_table

README = (REPOSITORY / "README.md").read_text()


def reasons_table() -> str:
    """The table of the README, from the table of the code."""
    lines = [
        "| state | reason | what it means | what to do |",
        "|-|-|-|-|",
        "| done | | has features | |",
    ]
    for state in State:
        rows = [(name, row) for name, row in REASONS.items() if row.state is state]
        lines += [f"| {state} | `{name}` | {row.meaning} | {row.advice} |" for name, row in rows]
    return "\n".join(lines)


def test_the_folders_stand_in_the_readme() -> None:
    assert folder_table() in README, "run `python -m tests.draw_folders`, which rewrites it"


def test_the_drawing_of_the_folders_is_current() -> None:
    assert (REPOSITORY / DRAWING).read_text() == drawing(), "run `python -m tests.draw_folders`"


def test_every_reason_is_explained() -> None:
    assert reasons_table() in README, f"put this table into the README:\n{reasons_table()}"


def test_every_exit_code_is_explained() -> None:
    listed = re.findall(r"^\| (\d) \| ", README, flags=re.MULTILINE)
    assert [int(code) for code in listed] == sorted(Exit)


def test_what_the_readme_points_at_is_there() -> None:
    headings = {
        "#" + heading.lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    }
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert target in headings or (REPOSITORY / target).exists(), target
    for target in set(
        re.findall(r"`((?:docs|models|pipeline|trainer|benchmarks)/[\w/.]+\.(?:py|md))`", README)
    ):
        assert (REPOSITORY / target).exists() or "NAME" in target, target


def test_make_runs_exactly_the_front_door() -> None:
    recipe = Path(REPOSITORY / "Makefile").read_text().split("\nfeatures:")[1].splitlines()[1]
    assert recipe.endswith("&& luigi --module tasks BuildPHD2Features")


def test_fingerprints_are_those_that_the_sample_gets() -> None:
    made = {f"{variant.name}-{variant.fingerprint()}" for variant in load("sample").variants}
    told = {
        word
        for word in re.findall(r"\b[a-z0-9_]+-[0-9a-f]{12}\b", README)
        if "0123456789ab" not in word
    }
    assert told == made
