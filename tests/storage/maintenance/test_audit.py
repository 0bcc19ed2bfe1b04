from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from storage.__main__ import main
from storage.base.errors import LookupFailed
from storage.base.paths import Layout, VariantLayout
from storage.base.video_status import DONE
from storage.catalog.catalog import read_catalog
from storage.features.commit import commit
from storage.features.manifest import PROCESSORS, ManifestEntry, ShardManifest
from storage.features.manifest_file import read_manifest, write_manifest
from storage.features.store import FeatureStore
from storage.files.file_lock import lease
from storage.files.hdf5 import read_layout
from storage.files.lease_record import LeaseHolder
from storage.files.process_identity import current_process
from storage.maintenance.audit import AuditFinding, FindingKind, audit
from storage.maintenance.repair import repair
from tests.support.feature_samples import (
    PROVENANCE,
    SETTINGS,
    commit_tracks,
    make_store,
    make_track,
    variant_layout,
)

EQUATION = "12 ids = 9 done + 1 unavailable + 2 rejected + 0 pending + 0 quarantined"
SEED = 20240117


@pytest.fixture
def layout(tmp_path: Path) -> VariantLayout:
    return make_store(tmp_path)


def folder_of(layout: VariantLayout) -> Path:
    return layout.folder.parents[1]


def findings(layout: VariantLayout, *, deep: bool = False) -> tuple[AuditFinding, ...]:
    (report,) = audit(folder_of(layout), deep=deep)
    return report.findings


def contents(layout: VariantLayout) -> dict[str, bytes]:
    """All files but the index, which only tells what the manifests say."""
    return {
        path.name: path.read_bytes()
        for path in sorted(layout.folder.iterdir())
        if path != layout.index_file
    }


def test_a_sound_store_adds_up(layout: VariantLayout, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--deep", str(folder_of(layout))]) == 0
    assert capsys.readouterr().out == f"{layout.folder.name}: {EQUATION}\n"
    assert (
        len(list(layout.folder.glob("*.h5"))) > 3
    )  # the other tests need several parts in both shards


def test_an_unfinished_store_is_not_wrong(
    layout: VariantLayout, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = read_catalog(folder_of(layout))
    for path in layout.folder.glob("shard_001*"):
        path.unlink()
    left = catalog.shard_ids(1)
    assert main(["audit", str(folder_of(layout))]) == 0
    assert f"+ {len(left)} without a status" in capsys.readouterr().out
    shutil.rmtree(layout.folder.parent)
    assert main(["audit", str(folder_of(layout))]) == 0
    assert capsys.readouterr().out == "no features yet\n"


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_no_flipped_bit_is_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dice, layout = random.Random(SEED), make_store(tmp_path, part_bytes=1500)
    files = sorted(path for path in layout.folder.iterdir() if path.suffix in (".h5", ".json"))
    places = [(path, dice.randrange(8 * path.stat().st_size)) for path in files for _ in range(20)]
    places += [
        (path, 8 * byte) for path in files if path.suffix == ".h5" for byte in range(0, 96, 12)
    ]
    assert len(places) >= 120
    silent = []
    for path, bit in places:
        flip(path, bit)
        if main(["audit", "--deep", str(folder_of(layout))]) != 5:
            silent.append((path.name, bit))
        flip(path, bit)
    capsys.readouterr()
    assert silent == [], f"seed {SEED}"
    assert main(["audit", "--deep", str(folder_of(layout))]) == 0


def test_no_truncation_is_silent_even_without_reading_everything(layout: VariantLayout) -> None:
    for path in (layout.part(0, 0), layout.manifest(0)):
        whole = path.read_bytes()
        size = len(whole)
        cuts = [
            0,
            1,
            8,
            40,
            96,
            512,
            size // 4,
            size // 2,
            3 * size // 4,
            size - 64,
            size - 8,
            size - 1,
        ]
        for cut in cuts:
            path.write_bytes(whole[:cut])
            (finding,) = [
                item
                for item in findings(layout)
                if item.is_violation and item.kind is not FindingKind.ORPHAN
            ]
            assert finding.path == path
        path.write_bytes(whole)
    assert findings(layout) == ()


def _swap_shards(layout: VariantLayout) -> None:
    shutil.copy(layout.part(0, 0), layout.part(1, 0))


def _swap_parts(layout: VariantLayout) -> None:
    shutil.copy(layout.part(0, 0), layout.part(0, 1))


def _swap_manifests(layout: VariantLayout) -> None:
    shutil.copy(layout.manifest(0), layout.manifest(1))


def _whole_shard_renamed(layout: VariantLayout) -> None:
    for path in sorted(layout.folder.glob("shard_000*")):
        shutil.copy(path, layout.folder / path.name.replace("shard_000", "shard_001"))


def _yesterdays_manifest(layout: VariantLayout) -> None:
    before = layout.manifest(0).read_bytes()
    retried = read_catalog(folder_of(layout)).shard_ids(0)[-1]
    commit_tracks(layout, [make_track(retried, 2, salt="retried")])
    layout.manifest(0).write_bytes(before)


def _manifest_of_another_store(layout: VariantLayout) -> None:
    other = make_store(layout.folder.parents[2] / "other")
    settings = {**SETTINGS, "extra": 1}
    finer = variant_layout(other.folder.parents[2], settings)
    commit_tracks(finer, [make_track(read_catalog(folder_of(layout)).shard_ids(0)[-1], 3)])
    shutil.copy(finer.manifest(0), layout.manifest(0))


def _ids_of_another_shard(layout: VariantLayout) -> None:
    commit_tracks(
        layout, [make_track(read_catalog(folder_of(layout)).shard_ids(1)[-1], 3)], shard=0
    )


@pytest.mark.parametrize(
    ("tamper", "kind", "message"),
    [
        (_swap_shards, FindingKind.PART, "manifest says|not what was written"),
        (_swap_parts, FindingKind.PART, "manifest says|not what was written"),
        (_swap_manifests, FindingKind.MANIFEST, "copied here"),
        (_whole_shard_renamed, FindingKind.MANIFEST, "copied here"),
        (_yesterdays_manifest, FindingKind.ORPHAN, "is not in the manifest"),
        (_manifest_of_another_store, FindingKind.MANIFEST, "copied here"),
        (_ids_of_another_shard, FindingKind.MISPLACED, "does not put in shard 0"),
        (lambda layout: layout.part(0, 0).unlink(), FindingKind.PART, "is missing"),
        (
            lambda layout: layout.manifest(0).unlink(),
            FindingKind.MANIFEST,
            r"is lost, but \d parts",
        ),
        (
            lambda layout: layout.settings_file.write_bytes(b"{}"),
            FindingKind.SETTINGS,
            "has the fingerprint",
        ),
        (
            lambda layout: layout.part(9, 0).write_bytes(b"x"),
            FindingKind.MANIFEST,
            "is lost, but 1 parts",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_swaps_and_rollbacks_are_found_without_reading_every_byte(
    layout: VariantLayout,
    tamper: Callable[[VariantLayout], object],
    kind: FindingKind,
    message: str,
) -> None:
    tamper(layout)
    found = findings(layout)
    assert kind in {finding.kind for finding in found if finding.is_violation}
    with pytest.raises(AssertionError, match=message):
        raise AssertionError("\n".join(map(str, found)))
    assert main(["audit", str(folder_of(layout))]) == 5


def test_leftovers_are_told_but_nothing_is_wrong(
    layout: VariantLayout, capsys: pytest.CaptureFixture[str]
) -> None:
    me = current_process()
    dead = (
        layout.folder
        / f".shard_000.json.tmp-{me.host_tag}-{me.boot_tag}-{me.namespace}-{me.pid}-1-00000000"
    )
    earlier = (
        layout.folder / f".shard_000.json.tmp-{me.host_tag}-ffffffff-{me.namespace}-7-1-00000000"
    )
    live = layout.folder / f".shard_000.json.tmp-{me.token}-00000000"
    foreign = layout.folder / "notes.txt"
    for path in (dead, earlier, live, foreign):
        path.write_bytes(b"x")
    assert main(["audit", str(folder_of(layout))]) == 0
    out = capsys.readouterr().out
    assert f"process {me.pid}, which is dead" in out
    assert "process 7 of another boot; repair removes it while no process builds" in out
    assert "notes.txt: is not a file of a store" in out
    assert live.name not in out
    lease_file = Layout(folder_of(layout).parent, folder_of(layout).name).lease(0)
    lease_file.parent.mkdir()
    lease_file.write_bytes(
        LeaseHolder("elsewhere", replace(me, host_tag="ffffffff"), "0" * 16).to_bytes()
    )
    assert main(["audit", "--repair", str(folder_of(layout))]) == 0
    assert [path.exists() for path in (dead, earlier, live, foreign)] == [False, True, True, True]
    lease_file.unlink()
    assert main(["audit", "--repair", str(folder_of(layout))]) == 0
    assert [path.exists() for path in (dead, earlier, live, foreign)] == [False, False, True, True]


def done_only(root: Path) -> VariantLayout:
    """A store whose ids are all done, so that its parts know everything."""
    layout = make_store(root)
    catalog = read_catalog(folder_of(layout))
    for shard in range(2):
        layout.manifest(shard).unlink()
        for path in layout.folder.glob(f"shard_{shard:03d}.p*.h5"):
            path.unlink()
        tracks = [
            make_track(video_id, 3 + int(video_id[1:])) for video_id in catalog.shard_ids(shard)
        ]
        commit_tracks(layout, tracks[:2], shard=shard, part_bytes=400)
        commit_tracks(layout, tracks[1:], shard=shard, part_bytes=400)
        commit_tracks(layout, [make_track(tracks[0].video_id, 5, salt="retried")], shard=shard)
    return layout


@pytest.mark.parametrize("damage", ["lose", "flip", "cut", "swap"])
def test_a_lost_or_damaged_manifest_is_rebuilt_to_the_byte(tmp_path: Path, damage: str) -> None:
    layout = done_only(tmp_path)
    before = contents(layout)
    path = layout.manifest(0)
    if damage == "lose":
        path.unlink()
    elif damage == "flip":
        flip(path, 4001)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        shutil.copy(layout.manifest(1), path)
    assert main(["audit", "--repair", str(folder_of(layout))]) == 0
    aside = [] if damage == "lose" else [f"{path.name}.damaged"]
    assert {
        name: content for name, content in contents(layout).items() if name not in aside
    } == before
    assert sorted(layout.folder.glob("*.damaged")) == [layout.folder / name for name in aside]


@pytest.mark.parametrize("damage", ["lose", "flip", "cut"])
def test_the_ids_of_a_damaged_part_and_no_others_are_done_again(
    layout: VariantLayout, damage: str
) -> None:
    manifest = read_manifest(layout, 0)
    assert manifest is not None
    path, before = layout.part(0, 0), FeatureStore(folder_of(layout))["c3d"].digest()
    lost = manifest.live_in(path.name)
    if damage == "lose":
        path.unlink()
    elif damage == "flip":
        flip(path, 8 * (path.stat().st_size - 20))
    else:
        path.write_bytes(path.read_bytes()[:-1])
    assert main(["audit", "--deep", "--repair", str(folder_of(layout))]) == 0
    mended = read_manifest(layout, 0)
    assert mended is not None
    assert sorted(manifest.entries.keys() - mended.entries.keys()) == lost
    assert len(list(layout.folder.glob("*.damaged"))) == (damage != "lose")
    tracks = [make_track(video_id, 3 + int(video_id[1:])) for video_id in lost]
    commit_tracks(layout, tracks, part_bytes=400)
    assert FeatureStore(folder_of(layout), verify=True)["c3d"].digest() == before


def test_a_rolled_back_manifest_takes_its_newest_part_in_again(layout: VariantLayout) -> None:
    _yesterdays_manifest(layout)
    retried = read_catalog(folder_of(layout)).shard_ids(0)[-1]
    told = repair(folder_of(layout), deep=False)
    assert any("took in shard_000.p" in line and "1 of its 1 videos" in line for line in told)
    assert FeatureStore(folder_of(layout))["c3d"][retried].rows == 2
    assert findings(layout, deep=True) == ()


def test_an_orphan_whose_rows_are_elsewhere_is_removed_and_a_broken_one_set_aside(
    layout: VariantLayout,
) -> None:
    before = contents(layout)
    shutil.copy(layout.part(0, 0), layout.part(0, 7))
    layout.part(0, 8).write_bytes(b"no part at all")
    shutil.copy(layout.part(1, 0), layout.part(0, 9))
    told = repair(folder_of(layout), deep=False)
    assert [line.split(":")[0] for line in told if line.startswith("removed")] == [
        "removed shard_000.p007.h5"
    ]
    after = contents(layout)
    assert sorted(after.keys() - before.keys()) == [
        "shard_000.p008.h5.damaged",
        "shard_000.p009.h5.damaged",
    ]
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(
    "table", ["arrays/pool5", "arrays/boxes/values", "spans", "records", "digests", "ids"]
)
def test_a_part_that_is_not_as_it_was_written_is_not_taken_in(tmp_path: Path, table: str) -> None:
    layout = done_only(tmp_path)
    flip(
        layout.part(0, 0), 8 * (read_layout(layout.part(0, 0)).extents[table].offset_bytes + 2) + 1
    )
    layout.manifest(0).unlink()
    told = "\n".join(repair(folder_of(layout), deep=False))
    assert "set shard_000.p000.h5 aside" in told
    assert "shard_000.p000.h5 cannot be taken in" in told
    assert all(report.is_clean for report in audit(folder_of(layout), deep=True))


def test_repair_and_compact_wait_for_nobody(
    layout: VariantLayout, capsys: pytest.CaptureFixture[str]
) -> None:
    layout.part(0, 0).unlink()
    with lease(Layout(layout.folder.parents[2], "sample").lease(0)):
        assert main(["audit", "--repair", str(folder_of(layout))]) == 4
        assert main(["compact", str(folder_of(layout))]) == 4
    assert "Let it finish" in capsys.readouterr().err


def test_compact_and_digest_from_the_command_line(
    layout: VariantLayout, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["digest", str(folder_of(layout))]) == 0
    digest = capsys.readouterr().out
    assert digest.endswith(f"  {layout.folder.name}\n")
    assert main(["compact", str(folder_of(layout))]) == 0
    assert "parts, now 1" in capsys.readouterr().out
    assert len(list(layout.folder.glob("*.h5"))) == 2
    assert main(["digest", str(folder_of(layout))]) == 0
    assert capsys.readouterr().out == digest
    assert main(["audit", "--deep", str(folder_of(layout))]) == 0


def test_a_damaged_catalog_is_a_violation_and_no_traceback(
    layout: VariantLayout, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder_of(layout) / "videos.csv").write_bytes(b"video_id\n")
    assert main(["audit", str(folder_of(layout))]) == 5
    assert "videos.csv" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["mend", str(folder_of(layout))])
    assert caught.value.code == 2


def test_a_half_done_compaction_is_finished_by_repair(layout: VariantLayout) -> None:
    before = FeatureStore(folder_of(layout))["c3d"].digest()
    old = {path.name: path.read_bytes() for path in layout.folder.glob("*.h5")}
    assert main(["compact", str(folder_of(layout))]) == 0
    for name, content in old.items():
        (layout.folder / name).write_bytes(content)
    assert main(["audit", "--repair", str(folder_of(layout))]) == 0
    assert len(list(layout.folder.glob("*.h5"))) == 2
    assert FeatureStore(folder_of(layout))["c3d"].digest() == before


def test_repair_refuses_a_catalog_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LookupFailed, match=r"no catalog\.json in"):
        repair(tmp_path / "nothing", deep=False)


def test_an_entry_committed_as_done_keeps_its_facts_through_a_rebuild(tmp_path: Path) -> None:
    layout = make_store(tmp_path)
    video_id = read_catalog(folder_of(layout)).shard_ids(1)[-1]
    track = make_track(video_id, 4, salt="facts")
    entry = ManifestEntry(
        DONE, attempts=7, facts={"source": {"sha256": "ab"}, "losses": [1, None, 2.5]}
    )
    commit(
        layout,
        "sample",
        1,
        entries={video_id: entry},
        tracks=[track],
        max_part_bytes=10**6,
        provenance=PROVENANCE,
    )
    kept = read_manifest(layout, 1)
    layout.manifest(1).unlink()
    repair(folder_of(layout), deep=False)
    rebuilt = read_manifest(layout, 1)
    assert kept is not None
    assert rebuilt is not None
    assert rebuilt.entries[video_id] == kept.entries[video_id]
    assert rebuilt.entries[video_id].attempts == 7


def test_rows_made_on_unlike_processors_are_told_and_are_not_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = make_store(tmp_path)
    kinds = {
        0: ["one processor: avx2", "other processor: avx512f"],
        1: ["other processor: avx512f"],
    }
    for shard, told in kinds.items():
        write_manifest(
            layout, replace(read_known(layout, shard), provenance={PROCESSORS: list(told)})
        )
    assert main(["audit", str(folder_of(layout))]) == 0
    (note,) = [line for line in capsys.readouterr().out.splitlines() if "NOTE" in line]
    assert "rows were made on 2 kinds of processor" in note
    assert note.endswith("one processor: avx2 (shards 0); other processor: avx512f (shards 0, 1)")
    write_manifest(
        layout,
        replace(read_known(layout, 0), provenance={PROCESSORS: ["other processor: avx512f"]}),
    )
    assert main(["audit", str(folder_of(layout))]) == 0
    assert "NOTE" not in capsys.readouterr().out


def read_known(layout: VariantLayout, shard: int) -> ShardManifest:
    manifest = read_manifest(layout, shard)
    assert manifest is not None
    return manifest
