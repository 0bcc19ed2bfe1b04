"""Oddities are counted in the catalog and listed in full beside it."""

from __future__ import annotations

from pathlib import Path

from pipeline.datasets.parsing.parsed_dataset import summarize_oddities, write_oddities


def test_the_catalog_shows_the_first_twenty() -> None:
    ids = [f"v{number:02d}" for number in range(30)]
    assert summarize_oddities({"odd": ids[::-1], "none": []}) == {
        "odd": {"count": 30, "examples": ids[:20]},
        "none": {"count": 0, "examples": []},
    }


def test_the_full_list_is_sorted_csv(tmp_path: Path) -> None:
    write_oddities(tmp_path / "oddities.csv", {"b": ["y", "x,1"], "a": ["=1+1"], "none": []})
    assert (tmp_path / "oddities.csv").read_bytes() == b'oddity,case\na,=1+1\nb,"x,1"\nb,y\n'
