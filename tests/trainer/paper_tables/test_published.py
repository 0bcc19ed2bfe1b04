"""Published tables as data: each can be read, adds up as its paper says it does, and tells where it
does not.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.base.errors import LookupFailed, SettingsError
from tests.conftest import REPOSITORY
from trainer.config.recipe import recipe_names
from trainer.paper_tables.domain_cells import row_cells
from trainer.paper_tables.published import Row, Table, load_table, table_names


def published(table: str, row: str, metric: str = "ap") -> float:
    return next(found for found in load_table(table).rows if found.name == row).published[metric]


@pytest.mark.parametrize("name", table_names())
def test_a_table_reads_and_its_numbers_are_in_their_unit(name: str) -> None:
    table = load_table(name)
    assert table.source
    numbers = [value for row in table.rows for value in row.published.values()]
    low, high = {"percent": (2, 100), "share": (0.05, 1), "count": (50, 10_000)}[table.unit]
    assert all(low < number <= high for number in numbers)
    printed = [
        value
        for row in table.rows
        for key, value in row.published.items()
        if not key.endswith("@columns")
    ]
    numbers = printed or [0.0]
    assert all(
        table.number(number) == f"{number:.{len(table.number(numbers[0]).partition('.')[2])}f}"
        for number in numbers
    )


def test_every_recipe_of_a_paper_is_in_some_table_and_every_row_has_a_recipe_there_is() -> None:
    made = {row.recipe for name in table_names() for row in load_table(name).rows if row.recipe}
    assert set(recipe_names()) - made == {"video2gif_l1"}
    assert made <= set(recipe_names())


@pytest.mark.parametrize("name", [name for name in table_names() if load_table(name).domains])
def test_rows_of_domains_load_with_all_they_change(name: str) -> None:
    table = load_table(name)
    for row in table.rows:
        if row.recipe:
            made = row_cells(table, row, (), small=False)
            assert [cell.domain for cell in made] == list(table.domains)
            asked = [
                cell.data_changes or (f"data.domain={cell.recipe.data.domain}",) for cell in made
            ]
            assert asked == [(f"data.domain={domain}",) for domain in table.domains]


def test_a_figure_is_one_row_for_each_size_of_history() -> None:
    rows = [row for row in load_table("phd-gifs-fig7").rows if row.recipe == "phd_ca"]
    assert [row.asked for row in rows] == [(f"data.history_videos={k}",) for k in range(21)]


@pytest.mark.parametrize(("metric", "percent"), [("ap", 5.2), ("nmsd", -4.3), ("recall_at_5", 8)])
def test_phd_gifs_gains_are_those_of_its_text(metric: str, percent: float) -> None:
    ours, generic = (
        published("phd-gifs-1", row, metric) for row in ("Ours (CA + SVM-D)", "Video2GIF (ours)")
    )
    assert 100 * (ours / generic - 1) == pytest.approx(percent, abs=0.1)


def test_pr_nets_gains_are_those_of_its_text_but_for_one_that_is_noted() -> None:
    gains = {
        row: 100 * (18.66 / published("pr-net-1", row) - 1)
        for row in ("FCSN", "A-VHD", "Video2GIF")
    }
    assert gains["FCSN"] == pytest.approx(23.17, abs=0.01)
    assert gains["A-VHD"] == pytest.approx(12, abs=0.2)
    assert gains["Video2GIF"] == pytest.approx(26.5, abs=0.05)
    assert any("28.24 %" in note for note in load_table("pr-net-1").notes)


AVERAGED = [
    name
    for name in table_names()
    if any(key.endswith("@columns") for key in load_table(name).metrics)
]


@pytest.mark.parametrize("name", AVERAGED)
def test_a_printed_mean_that_is_none_is_noted_and_the_true_one_stands_beside_it(name: str) -> None:
    table = load_table(name)
    (key,) = [metric for metric in table.metrics if metric.endswith("@columns")]
    metric = key.removesuffix("@columns")
    for row in table.rows:
        if not row.published:
            continue
        values = [row.published[f"{metric}:{domain}"] for domain in table.domains]
        mean, printed = sum(values) / len(values), row.published[metric]
        assert row.published[key] == pytest.approx(mean)
        # Rounding, and with three digits what another rounding of the columns would explain.
        is_off = abs(mean - printed) > (0.00501 if table.digits == 2 else 0.00102)
        assert is_off == ("the mean of the" in row.note), row.name
        assert not is_off or row.note.endswith(f"{mean:.3f}")


def test_pld_vhd_and_mha_fusion_show_their_averages_both_ways() -> None:
    ours = next(row for row in load_table("pld-vhd-1").rows if row.name == "PLD-VHD")
    assert (ours.published["ap_step"], round(ours.published["ap_step@columns"], 3)) == (
        0.730,
        0.717,
    )
    ours = next(row for row in load_table("mha-fusion-6").rows if row.name == "Ours")
    assert (ours.published["ap_step"], round(ours.published["ap_step@columns"], 3)) == (0.62, 0.642)


def test_an_unknown_table_lists_those_there_are() -> None:
    with pytest.raises(LookupFailed, match=r"no table 'phd-gifs-9'; there are mha-fusion-1, "):
        load_table("phd-gifs-9")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "exactly one of recipe, baseline and quoted"),
        ({"recipe": "phd_ca", "baseline": "random"}, "exactly one of recipe, baseline and quoted"),
        ({"baseline": "luck"}, "names an unknown baseline: 'luck'"),
    ],
)
def test_a_row_is_made_in_one_way(fields: dict[str, str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Row("a row", **fields)  # type: ignore[arg-type]


def test_numbers_are_printed_in_the_tables_own_unit() -> None:
    percent, share = (Table("t", "t", "t", {"ap": "mAP"}, unit) for unit in ("percent", "share"))
    assert (percent.number(16.68), percent.measured(0.16684)) == ("16.68", "16.68")
    assert (share.number(0.228), share.measured(0.22847)) == ("0.228", "0.228")


def test_a_row_is_compared_with_rows_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = (
        'title = "t"\nsource = "s"\n[metrics]\nap = "mAP"\n'
        '[[rows]]\nname = "a"\nbaseline = "random"\nagainst = ["b"]\n'
    )
    (tmp_path / "made.toml").write_text(table)
    monkeypatch.setattr("trainer.paper_tables.published._folder", lambda: tmp_path)
    with pytest.raises(SettingsError, match="made compares rows with b, which it does not have"):
        load_table("made")


PAPERS = {
    "phd-gifs": "phd_gifs",
    "pr-net": "pr_net",
    "mha-fusion": "mha_fusion",
    "set-learning": "set_learning_dl_vhd",
    "pld-vhd": "pld_vhd",
}
OURS = {
    "planted",
    "planted-a-vhd",
    "planted-category",
    "planted-mha-fusion",
    "planted-pld-vhd",
    "sample-large",
}


def test_a_table_without_a_paper_publishes_nothing() -> None:
    assert not any(row.published for name in OURS for row in load_table(name).rows)


@pytest.mark.parametrize("name", [name for name in table_names() if name not in OURS])
def test_every_number_stands_in_the_paper(name: str) -> None:
    file = next(file for prefix, file in PAPERS.items() if name.startswith(prefix))
    paper = REPOSITORY.parent / "shared" / "papers" / f"{file}.txt"
    if not paper.is_file():
        pytest.skip(
            f"LOUD SKIP: the paper's text is not at {paper}; its numbers were compared with nothing"
        )
    text, table = paper.read_text(), load_table(name)
    printed = [
        n for row in table.rows for key, n in row.published.items() if not key.endswith("@columns")
    ]
    words = set(text.split())  # a number may be printed with fewer digits than the table's others
    assert [n for n in printed if table.number(n) not in text and f"{n:.2f}" not in words] == []
