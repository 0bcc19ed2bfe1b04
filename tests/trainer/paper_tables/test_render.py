"""`python -m trainer table`: published beside measured, marked, accounted for, kept; and nothing is
done twice.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from storage.scores import score_run_names
from trainer.__main__ import DONE, WRONG_USE, main
from trainer.paper_tables.published import Row, Table, load_table
from trainer.paper_tables.render import is_report_current, render_table, save_report
from trainer.paper_tables.reproduce import BASELINE_SEEDS, NOTHING_MEASURED, TableRequest, reproduce
from trainer.synthetic.user_features import SyntheticUserSettings, Timing, synthesize_users

TIMING = Timing(
    np.array([41.0, 62.0, 83.0]), np.array([2.0, 4.0, 6.0]), np.array([1, 2]), np.array([2, 3])
)
PLANTED = SyntheticUserSettings(
    seed=3, train_users=12, test_users=4, max_videos=3, noise=0.5, width=16, lost_share=0.1
)
"""With this seed, networks of one or two small epochs rank well enough that fusing them with
another has a weight.
"""
CHANGES = ("data.targets=every", "data.holdout_users=3", "training.epochs=1")
METRICS = {"ap": "mAP", "nmsd": "nMSD"}
ROWS = (
    Row("Random", baseline="random", published={"ap": 12.97}),
    Row(
        "SVM",
        group="Generic",
        recipe="highlight_svm",
        published={"ap": 14.47, "nmsd": 45.55},
        note="a misprint",
    ),
    Row("CA", recipe="phd_ca", published={"ap": 16.58}, against=("Random", "SVM", "Objects")),
    Row("CA, k = 1", recipe="phd_ca", asked=("data.history_videos=1",)),
    Row("Objects", recipe="mha_fusion_objects"),
    Row("Copied", quoted="from elsewhere", published={"ap": 1.0}),
)
TABLE = Table("made-1", "A table", "a test", METRICS, notes=("on others",), rows=ROWS)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize_users(tmp_path_factory.mktemp("planted"), PLANTED, TIMING)


@pytest.fixture
def folder(planted: Path, tmp_path: Path) -> Path:
    """The planted store, with runs, scores and reports of this test alone."""
    return Path(shutil.copytree(planted, tmp_path / planted.name))


def order(folder: Path, **fields: object) -> TableRequest:
    return replace(TableRequest(TABLE, folder, seeds=2, is_small=True, changes=CHANGES), **fields)  # type: ignore[arg-type]


def records(lines: Sequence[str]) -> dict[tuple[str, str], dict[str, str]]:
    return {
        (row["system"], row["metric"]): row for row in csv.DictReader(lines) if not row["more_than"]
    }


def written(folder: Path) -> dict[Path, int]:
    kept = (*folder.glob("runs/*/model.safetensors"), *folder.glob("scores/*/*"))
    return {path: path.stat().st_mtime_ns for path in kept}


def test_published_stands_beside_measured_with_users_seeds_and_marks(folder: Path) -> None:
    asked = order(folder)
    found = records(list(render_table(asked, reproduce(asked), "csv")))
    assert list(found) == [(row.name, metric) for row in ROWS for metric in METRICS]
    svm, random = found["SVM", "ap"], found["Random", "ap"]
    assert (svm["published"], svm["made_by"], svm["seeds"]) == ("14.47", "highlight_svm", "2")
    assert float(svm["low"]) <= float(svm["measured"]) <= float(svm["high"]) <= 100
    assert svm["marks"] == "planted:3 small widths on planted"
    assert random["marks"] == "planted:3 on planted"
    assert random["seeds"] == str(BASELINE_SEEDS)
    assert (
        len({found[name, "ap"]["ids_sha256"] for name in ("Random", "SVM", "CA", "CA, k = 1")}) == 1
    )
    assert int(svm["users"]) + int(svm["users_dropped"]) == PLANTED.test_users
    assert found["CA", "ap"]["measured"] != found["CA, k = 1", "ap"]["measured"]


def test_rows_that_are_not_made_say_why(folder: Path) -> None:
    asked = order(folder)
    rows = reproduce(asked)
    found = records(list(render_table(asked, rows, "csv")))
    assert found["Objects", "ap"]["measured"] == found["Copied", "ap"]["measured"] == ""
    assert "yolov5" in found["Objects", "ap"]["why_not"]
    assert found["Copied", "ap"]["why_not"] == "from elsewhere"
    text = "\n".join(render_table(asked, rows, "text"))
    assert "quoted from elsewhere (Copied)" in text
    assert "published: on others" in text
    assert "published: a misprint (SVM)" in text
    assert "gap: the price C" in text
    assert "validation users are holdout-3" in text


def test_every_number_bears_its_marks_in_its_cell(folder: Path) -> None:
    asked = order(folder, seeds=1)
    rows = reproduce(asked)
    lines = [
        line
        for line in render_table(asked, rows, "markdown")
        if line.startswith("| ") and "| system |" not in line
    ]
    measured = [cells[4].strip() for cells in (line.split("|") for line in lines)]
    assert len(measured) == (len(ROWS) + len(ROWS[2].against)) * len(METRICS)
    words = ("quoted", "not measured", "not compared: not the same users")
    assert all("(planted:3, " in cell or cell in words for cell in measured)
    assert sum("planted" in cell for cell in measured) == (4 + 2) * len(METRICS)


def test_a_row_is_compared_with_others_user_by_user(folder: Path) -> None:
    asked = order(folder)
    rows = reproduce(asked)
    lines = list(csv.DictReader(render_table(asked, rows, "csv")))
    found = {(line["more_than"], line["metric"]): line for line in lines if line["system"] == "CA"}
    for other in ("Random", "SVM"):
        gain, means = found[other, "ap"], records(list(render_table(asked, rows, "csv")))
        wanted = float(means["CA", "ap"]["measured"]) - float(means[other, "ap"]["measured"])
        assert float(gain["measured"]) == pytest.approx(wanted)
        assert gain["published"] == ""
        assert float(gain["low"]) <= wanted <= float(gain["high"])
    assert (found["Objects", "ap"]["measured"], found["Objects", "ap"]["why_not"]) == (
        "",
        "not the same users",
    )
    shown = next(
        line
        for line in render_table(asked, rows, "text")
        if line.startswith("CA") and "SVM" in line
    )
    assert f"{float(found['SVM', 'ap']['measured']):.2f} (planted:3, " in shown


def test_some_users_can_be_judged_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    everybody = {row.row.name: row for row in reproduce(order(folder, seeds=1))}
    ids = everybody["SVM"].evaluations[0].ids
    alone = order(folder, seeds=1, among=frozenset(ids[:1]))
    rows = {row.row.name: row for row in reproduce(alone)}
    for name in ("Random", "SVM", "CA"):
        whole, part = everybody[name].evaluations[0], rows[name].evaluations[0]
        assert part.ids == ids[:1]
        assert [*part.values["ap"]] == [*whole.values["ap"][:1]]
    more = rows["CA"].intervals["ap"].mean - rows["SVM"].intervals["ap"].mean
    assert rows["CA"].gains["SVM"]["ap"].mean == pytest.approx(more)
    assert "those of 1 chosen ids among test users" in "\n".join(
        render_table(alone, list(rows.values()), "text")
    )
    save_report(alone, list(rows.values()))
    assert is_report_current(alone)
    assert not is_report_current(order(folder, seeds=1))
    train = order(folder, seeds=1, among=frozenset({"00001"}))
    assert {
        row.why_not for row in reproduce(train) if not row.row.quoted and row.row.name != "Objects"
    } == {NOTHING_MEASURED}
    (folder / "ids.txt").write_text("nobody\n")
    assert main(["table", "pr-net-1", str(folder), "--among", str(folder / "ids.txt")]) == WRONG_USE
    assert "it has no nobody" in capsys.readouterr().err
    (folder / "ids.txt").write_text("\n")
    assert main(["table", "pr-net-1", str(folder), "--among", str(folder / "ids.txt")]) == WRONG_USE
    assert "is empty" in capsys.readouterr().err
    assert main(["table", "pr-net-1", str(folder), "--among", str(folder / "no.txt")]) == WRONG_USE


def test_a_second_time_does_nothing_and_says_the_same(folder: Path) -> None:
    asked = order(folder)
    assert not is_report_current(asked)
    first = reproduce(asked)
    save_report(asked, first)
    assert is_report_current(asked)
    assert not is_report_current(order(folder, seeds=1))
    before = written(folder)
    assert reproduce(asked) == first
    assert written(folder) == before
    assert len(list(folder.glob("runs/*"))) == 4
    assert len(list(folder.glob("scores/*"))) == 6


def test_the_command_keeps_what_it_prints(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = [word for change in CHANGES for word in ("--set", change)]
    assert (
        main(["table", "pr-net-1", str(folder), "--small", "--format", "markdown", *changes])
        == DONE
    )
    printed = capsys.readouterr().out
    (report,) = (folder / "report").glob("pr-net-1.1-seeds.small.*.md")
    assert report.read_text() == printed
    assert len(score_run_names(TableRequest(load_table("pr-net-1"), folder).layout)) == 6


def test_the_command_lists_tables_and_refuses_what_is_none(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["table"]) == DONE
    assert "PHD-GIFs, Table 1" in capsys.readouterr().out
    assert main(["table", "phd-gifs-1"]) == WRONG_USE
    assert "needs a FOLDER" in capsys.readouterr().err
    assert main(["table", "phd-gifs-9", str(folder)]) == WRONG_USE
    assert main(["table", "phd-gifs-1", str(folder), "--seeds", "0"]) == WRONG_USE


def test_rows_over_other_users_are_told_apart(folder: Path) -> None:
    asked = order(folder, seeds=1)
    rows = reproduce(asked)
    assert "not all rows are over the same users" not in "\n".join(
        render_table(asked, rows, "text")
    )
    found = {metric: replace(one, ids_sha256="0" * 64) for metric, one in rows[1].intervals.items()}
    other = [rows[0], replace(rows[1], intervals=found), *rows[2:]]
    assert "not all rows are over the same users" in "\n".join(render_table(asked, other, "text"))
