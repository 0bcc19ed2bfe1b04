"""Published tables as data: each can be read, adds up as its paper says it does, and tells where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.errors import LookupFailed, SettingsError
from tests.conftest import REPOSITORY
from trainer.published import Row, Table, load_table, table_names
from trainer.recipe import recipe_names


def published(table: str, row: str, metric: str = "ap") -> float:
    return next(found for found in load_table(table).rows if found.name == row).published[metric]


@pytest.mark.parametrize("name", table_names())
def test_a_table_reads_and_its_numbers_are_in_their_unit(name: str) -> None:
    table = load_table(name)
    assert table.source
    numbers = [value for row in table.rows for value in row.published.values()]
    low, high = (2, 100) if table.unit == "percent" else (0.05, 1)
    assert all(low < number < high for number in numbers)
    assert all(
        table.number(number) == f"{number:.{len(table.number(numbers[0]).partition('.')[2])}f}" for number in numbers
    )


def test_every_recipe_of_a_paper_is_in_some_table() -> None:
    made = {row.recipe for name in table_names() for row in load_table(name).rows}
    assert set(recipe_names()) - made == {"video2gif_l1"}


def test_a_figure_is_one_row_for_each_size_of_history() -> None:
    rows = [row for row in load_table("phd-gifs-fig7").rows if row.recipe == "phd_ca"]
    assert [row.asked for row in rows] == [(f"data.history_videos={k}",) for k in range(21)]


@pytest.mark.parametrize(("metric", "percent"), [("ap", 5.2), ("nmsd", -4.3), ("recall_at_5", 8)])
def test_phd_gifs_gains_are_those_of_its_text(metric: str, percent: float) -> None:
    ours, generic = (published("phd-gifs-1", row, metric) for row in ("Ours (CA + SVM-D)", "Video2GIF (ours)"))
    assert 100 * (ours / generic - 1) == pytest.approx(percent, abs=0.1)


def test_pr_nets_gains_are_those_of_its_text_but_for_one_that_is_noted() -> None:
    gains = {row: 100 * (18.66 / published("pr-net-1", row) - 1) for row in ("FCSN", "A-VHD", "Video2GIF")}
    assert gains["FCSN"] == pytest.approx(23.17, abs=0.01)
    assert gains["A-VHD"] == pytest.approx(12, abs=0.2)
    assert gains["Video2GIF"] == pytest.approx(26.5, abs=0.05)
    assert any("28.24 %" in note for note in load_table("pr-net-1").notes)


@pytest.mark.parametrize("name", ["mha-fusion-6", "mha-fusion-7"])
def test_a_printed_mean_that_is_none_is_noted(name: str) -> None:
    for row in load_table(name).rows:
        values = [value for metric, value in row.published.items() if metric != "mean"]
        mean = sum(values) / len(values)
        is_off = abs(mean - row.published["mean"]) > 0.00501
        assert is_off == ("the mean of the" in row.note), row.name
        assert not is_off or row.note.endswith(f"{mean:.3f}")


def test_an_unknown_table_lists_those_there_are() -> None:
    with pytest.raises(LookupFailed, match=r"no table 'phd-gifs-9'; there are mha-fusion-1, "):
        load_table("phd-gifs-9")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "exactly one of recipe, baseline and quoted"),
        ({"recipe": "phd_ca", "baseline": "random"}, "exactly one of recipe, baseline and quoted"),
        ({"recipe": "phd_cb"}, "names no recipe there is: 'phd_cb'"),
        ({"baseline": "luck"}, "names no baseline there is: 'luck'"),
    ],
)
def test_a_row_is_made_in_one_way(fields: dict[str, str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Row("a row", **fields)  # type: ignore[arg-type]


def test_numbers_are_printed_in_the_tables_own_unit() -> None:
    percent, share = (Table("t", "t", "t", {"ap": "mAP"}, unit) for unit in ("percent", "share"))
    assert (percent.number(16.68), percent.measured(0.16684)) == ("16.68", "16.68")
    assert (share.number(0.228), share.measured(0.22847)) == ("0.228", "0.228")


def test_a_row_is_compared_with_rows_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = (
        'title = "t"\nsource = "s"\n[metrics]\nap = "mAP"\n[[rows]]\nname = "a"\nbaseline = "random"\nagainst = ["b"]\n'
    )
    (tmp_path / "made.toml").write_text(table)
    monkeypatch.setattr("trainer.published._folder", lambda: tmp_path)
    with pytest.raises(SettingsError, match="made compares rows with b, which it does not have"):
        load_table("made")


PAPERS = {"phd-gifs": "phd_gifs", "pr-net": "pr_net", "mha-fusion": "mha_fusion"}
OURS = ("planted", "planted-pr-net", "sample-large")


def test_a_table_without_a_paper_publishes_nothing() -> None:
    assert not any(row.published for name in OURS for row in load_table(name).rows)


@pytest.mark.parametrize("name", [name for name in table_names() if name not in OURS])
def test_every_number_stands_in_the_paper(name: str) -> None:
    paper = REPOSITORY.parent / "shared" / "papers" / f"{PAPERS[name.rpartition('-')[0]]}.txt"
    if not paper.is_file():
        pytest.skip(f"LOUD SKIP: the paper's text is not at {paper}; its numbers were compared with nothing")
    text, table = paper.read_text(), load_table(name)
    assert [n for row in table.rows for n in row.published.values() if table.number(n) not in text] == []
