"""`python -m trainer table` with a network for each domain: what is trained once, what is asked,
what is averaged.
"""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from storage.base.paths import Layout
from storage.base.records import FeatureTrack
from storage.catalog.catalog import read_catalog, write_catalog
from storage.features.store import FeatureStore
from tests.support.annotated_stores import write_domains, write_tracks
from tests.support.published_annotations import published
from trainer.__main__ import DONE, main
from trainer.paper_tables.published import Row, Table, load_table, table_names
from trainer.paper_tables.render import render_table
from trainer.paper_tables.reproduce import BASELINE_SEEDS, TableRequest, reproduce
from trainer.synthetic.user_features import SyntheticUserSettings, Timing, synthesize_users

METRICS = {
    "ap_step:dog": "dog",
    "ap_step:skiing": "skiing",
    "ap_step": "average",
    "ap_step@columns": "of columns",
}
OWN = ("data.domain={domain}",)
ROWS = (
    Row("Chance", baseline="random"),
    Row("Oracle", baseline="oracle"),
    Row("Source-only", recipe="sl_module_wo_t", changes=("data.domain=surfing",), asked=OWN),
    Row(
        "Adapted",
        recipe="dl_vhd",
        changes=("data.source=surfing", *OWN),
        published={"ap_step:dog": 0.649},
    ),
    Row("Alone", recipe="lsvm", changes=OWN),
    Row("Unwritten", recipe="nobody_wrote_this", changes=OWN),
)
TABLE = Table(
    "made-2", "A table", "a test", METRICS, unit="share", domains=("dog", "skiing"), rows=ROWS
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_domains(tmp_path_factory.mktemp("domains"), absent=("dog01",))


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    order = TableRequest(TABLE, folder, seeds=2, is_small=True)
    lines = list(render_table(order, reproduce(order), "csv"))
    return {(row["system"], row["metric"]): row for row in csv.DictReader(lines)}


def test_a_network_is_trained_for_each_domain_and_one_for_all_that_share_it(
    folder: Path, found: dict[tuple[str, str], dict[str, str]]
) -> None:
    names = [path.name.partition("-")[0] for path in folder.glob("runs/*")]
    assert {name: names.count(name) for name in set(names)} == {
        "sl_module_wo_t": 2,
        "dl_vhd": 4,
        "lsvm": 4,
    }
    assert found["Source-only", "ap_step"]["seeds"] == "2"


def test_all_rows_are_over_the_same_videos(found: dict[tuple[str, str], dict[str, str]]) -> None:
    rows = [found[name, "ap_step"] for name in ("Chance", "Oracle", "Source-only", "Adapted")]
    assert len({row["ids_sha256"] for row in rows}) == 1
    assert {row["users"] for row in rows} == {"7"}
    assert (rows[-1]["users_dropped"], found["Adapted", "ap_step:dog"]["users_dropped"]) == (
        "1",
        "1",
    )
    assert found["Chance", "ap_step"]["seeds"] == str(BASELINE_SEEDS)
    assert {row["marks"] for row in rows[2:]} == {"planted:1 small widths on domains"}


def test_averages_are_of_domains_and_chance_lies_below(
    found: dict[tuple[str, str], dict[str, str]],
) -> None:
    for name in ("Chance", "Source-only", "Adapted"):
        of_each = [float(found[name, f"ap_step:{domain}"]["measured"]) for domain in TABLE.domains]
        assert float(found[name, "ap_step"]["measured"]) == pytest.approx(sum(of_each) / 2)
        assert found[name, "ap_step"]["measured"] == found[name, "ap_step@columns"]["measured"]
    chance, adapted, oracle = (
        float(found[name, "ap_step"]["measured"]) for name in ("Chance", "Adapted", "Oracle")
    )
    assert chance < adapted <= oracle == 1
    assert found["Adapted", "ap_step:dog"]["published"] == "0.649"


def test_a_domain_that_cannot_be_made_keeps_no_other_from_being_made(
    found: dict[tuple[str, str], dict[str, str]], tmp_path: Path
) -> None:
    store = write_domains(tmp_path, absent=[f"skiing{number:02d}" for number in range(0, 8, 2)])
    (half,) = reproduce(TableRequest(replace(TABLE, rows=(ROWS[4],)), store, is_small=True))
    assert set(half.intervals) == {"ap_step:dog"}
    assert half.why_not.startswith("not measured (skiing): ")
    assert "no video left in skiing" in half.why_not
    assert found["Unwritten", "ap_step"]["measured"] == ""
    assert "no recipe 'nobody_wrote_this'" in found["Unwritten", "ap_step"]["why_not"]


def test_a_domain_without_a_video_leaves_the_average_out(folder: Path) -> None:
    rows = (
        replace(ROWS[0]),
        replace(ROWS[4], changes=("data.domain={domain}", "data.grouping=umt")),
    )
    order = TableRequest(replace(TABLE, rows=rows), folder, is_small=True)
    chance, half = reproduce(order)
    assert set(chance.intervals) == set(METRICS)
    assert not half.intervals
    assert half.why_not.startswith(
        "not measured: domains has no train part of the split 'umt'; it has "
    )


def test_videos_of_one_domain_alone_give_no_average_of_domains(folder: Path) -> None:
    everything = TableRequest(replace(TABLE, rows=(ROWS[0],)), folder, is_small=True)
    dogs = frozenset(
        video.video_id for video in read_catalog(folder).videos if video.video_id.startswith("dog")
    )
    (whole,), (part,) = reproduce(everything), reproduce(replace(everything, among=dogs))
    assert set(part.intervals) == {"ap_step:dog"}
    assert part.intervals["ap_step:dog"] == whole.intervals["ap_step:dog"]


@pytest.mark.parametrize("name", [one for one in table_names() if load_table(one).unit == "count"])
def test_a_table_that_only_quotes_prints_its_numbers(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = Path(shutil.copytree(folder, tmp_path / "domains"))
    assert main(["table", name, str(own)]) == DONE
    assert "2520" in capsys.readouterr().out


TIMING = Timing(np.array([41.0, 62.0]), np.array([2.0, 4.0]), np.array([1, 2]), np.array([2, 3]))
PEOPLE = SyntheticUserSettings(
    seed=1, train_users=12, test_users=3, max_videos=3, noise=0.5, width=16, with_frames=True
)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another dataset, whose users marked what they like."""
    return synthesize_users(tmp_path_factory.mktemp("people"), PEOPLE, TIMING)


def lend_rows(people: Path, folder: Path) -> None:
    """Give a catalog rows of the same extractors, as many as its videos last."""
    store, catalog = FeatureStore(people), read_catalog(folder)
    for variant in ("yolov5", "keypoint_rcnn"):
        reader = store[variant]
        lender = max((reader[one] for one in reader.ids), key=lambda video: video.rows)
        tracks = []
        for video in catalog.videos:
            rows = min(lender.rows, 2 * (video.frames_most or 0) // 30)
            arrays = {name: lender[name][0:rows] for name in lender.arrays}
            tracks.append(FeatureTrack(video.video_id, lender.spans[:rows], arrays))
        write_tracks(folder.parent, catalog, tracks, variant, dict(reader.settings))


def test_a_network_of_another_dataset_is_asked_about_this_one(people: Path, tmp_path: Path) -> None:
    store = write_domains(tmp_path)
    lend_rows(people, store)
    row = next(row for row in load_table("mha-fusion-6").rows if row.name == "Ours")
    changes = ("data.targets=every", "data.holdout_users=3", "training.epochs=1")
    order = TableRequest(
        replace(TABLE, rows=(ROWS[0], row)), store, is_small=True, changes=changes, elsewhere=people
    )
    chance, ours = reproduce(order)
    assert set(ours.intervals) == set(METRICS)
    assert ours.marks[-1] == "trained on planted"
    assert chance.intervals["ap_step"].ids_sha256 == ours.intervals["ap_step"].ids_sha256
    assert not (store / "runs").exists()
    assert "--trained-on" in reproduce(replace(order, elsewhere=None))[1].why_not


def test_a_network_of_another_dataset_makes_summaries(
    people: Path, shared_data: Path, tmp_path: Path
) -> None:
    catalog = published("summe", shared_data).catalog
    write_catalog(Layout(tmp_path, "summe"), catalog)
    lend_rows(people, tmp_path / "summe")
    table = load_table("mha-fusion-2")
    changes = ("data.targets=every", "data.holdout_users=3", "training.epochs=1")
    order = TableRequest(
        table, tmp_path / "summe", is_small=True, changes=changes, elsewhere=people
    )
    found = {row.row.name: row.intervals["f_max"] for row in reproduce(order) if row.intervals}
    assert set(found) == {"(chance)", "(oracle)", "MHA+Fusion (Ours)"}
    assert found["MHA+Fusion (Ours)"].n == 25
    assert 0 < found["MHA+Fusion (Ours)"].mean < found["(oracle)"].mean
