"""Taking videos down: nothing is left, nothing else changes, and a kill anywhere can be finished."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from storage.__main__ import main
from storage.base.errors import IntegrityError, LookupFailed, SettingsError
from storage.base.fingerprint import fingerprint, readable_json
from storage.base.paths import Layout, video_stem
from storage.base.records import JSON, Link
from storage.catalog.catalog import read_catalog, write_catalog
from storage.catalog.forgotten import id_sha256, read_forgotten
from storage.export.record import exports_holding, record_begin, record_finish
from storage.features.manifest_file import read_manifest
from storage.features.media_records import encode_media_record
from storage.features.spool import SpooledVideos
from storage.features.store import FeatureStore, variant_layouts
from storage.files import atomic_write, lease_record
from storage.files.atomic_write import publish
from storage.files.checksummed_json import read_sealed
from storage.files.file_lock import lease
from storage.forget import audit_forgotten, forget, plan
from storage.scores import read_scores
from tests.support.feature_samples import killed_at
from tests.support.forgettable_store import (
    FAILED,
    GONE,
    IDS,
    OTHER,
    PUBLISHED,
    STAYS,
    TARGET,
    digests_without,
    files_with,
    make_forgettable,
    rows_of,
    traces_of,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)
SEED = int(os.environ.get("SEED", "20261201"))
KILLS = int(os.environ.get("KILLS", "20"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_forgettable(tmp_path_factory.mktemp("made")).root


@pytest.fixture
def layout(made: Path, tmp_path: Path) -> Layout:
    return copied(made, tmp_path)


@pytest.fixture(autouse=True)
def _seam_is_given_back() -> Iterator[None]:
    before = atomic_write.before_step
    yield
    atomic_write.before_step = before


@pytest.fixture(autouse=True)
def _disk_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill, unlike a power cut, loses nothing that was written and not synced."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda descriptor: None)


def copied(made: Path, root: Path) -> Layout:
    shutil.copytree(made, root, dirs_exist_ok=True)
    return Layout(root, "sample")


def take_down(layout: Layout, *video_ids: str) -> int:
    return main(["forget", str(layout.folder), *video_ids])


def audited(layout: Layout, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["audit", "--deep", str(layout.folder)])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_nothing_of_a_video_is_left_and_the_audit_proves_it(
    layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(files_with(layout, *traces_of(GONE))) > 20
    before = digests_without(layout, GONE)
    assert take_down(layout, GONE) == 0
    assert f"NOTE {PUBLISHED}, a published file, still names" in capsys.readouterr().out
    assert files_with(layout, *traces_of(GONE)) == []
    assert GONE not in json.dumps(read_sealed(layout.forgotten_file))
    assert digests_without(layout) == before
    code, output = audited(layout, capsys)
    assert code == 0
    assert "forgotten: 1 videos were taken down\n" in output
    assert f"published file: {layout.folder / PUBLISHED}" in output


def test_what_is_of_other_videos_stays(layout: Layout) -> None:
    take_down(layout, GONE)
    for variant in variant_layouts(layout.folder):
        assert list(SpooledVideos(variant.spool(0)).entries) == [STAYS]
        spooled = SpooledVideos(variant.spool(0)).track(STAYS)
        assert spooled.digest() == rows_of(STAYS, "spooled").digest()
        manifest = read_manifest(variant, 0)
        assert manifest is not None
        assert manifest.entries[FAILED].status.reason == "requested"
    for name in ("one.test", "two.test"):
        run = read_scores(layout, name)
        assert (list(run.tracks), list(run.absent)) == ([("bert", STAYS)], [("anna", TARGET)])
        assert run.tracks["bert", STAYS].scores.tolist() == pytest.approx(
            [0.25 + int(STAYS[-2:]), 0.75 + int(STAYS[-2:])]
        )
    kept = {path.name for path in layout.report.iterdir()}
    stem = video_stem(STAYS)
    assert kept == {"survival.json", "time.png", f"{stem}.0123.json", f"{stem}.0123.png"}
    assert (layout.cluster / "job.out").read_text() == f"begins {STAYS}\n"
    assert layout.in_flight(0).read_text() == f"{STAYS}\n"
    times = read_sealed(layout.shard_times("abc", 0))["videos"]
    assert isinstance(times, dict)
    assert sorted(times) == ["", STAYS]
    assert len(list(layout.sources.glob("*.npy"))) == len(IDS) - 1
    assert len(list((layout.folder / "videos").rglob("*.mp4"))) == len(IDS) - 1


def test_the_catalog_stays_valid_and_a_user_goes_with_the_last_target(layout: Layout) -> None:
    take_down(layout, GONE, TARGET)
    catalog = read_catalog(layout.folder, with_forgotten=True)
    assert {GONE, TARGET} & {video.video_id for video in catalog.videos} == set()
    assert [user.user_id for user in catalog.users] == ["bert", "carl"]  # anna has no target left
    assert Link("bert", STAYS, "target") in catalog.links
    assert {link.user_id for link in catalog.links} == {"bert", "carl"}
    # Marks of other videos are labels of those, by whomever.
    assert [row.annotator for row in catalog.annotations if row.video_id == STAYS] == [
        "anna",
        "bert",
    ]
    assert [row.video_id for row in catalog.groups] == [STAYS]
    assert catalog.origin == {"oddities": {"odd": {"count": 2, "examples": [f"2 {STAYS}"]}}}
    take_down(layout, OTHER)
    catalog = read_catalog(layout.folder, with_forgotten=True)
    assert [user.user_id for user in catalog.users] == ["bert"]  # carl has no link left
    assert (catalog.metadata, (layout.folder / "metadata.csv").exists()) == ((), False)


def test_parts_without_the_video_are_not_rewritten(layout: Layout) -> None:
    (variant, _) = variant_layouts(layout.folder)
    before = {path.name: path.read_bytes() for path in variant.folder.glob("*.h5")}
    held = {name for name, content in before.items() if GONE.encode() in content}
    assert 1 < len(held) < len(before)
    take_down(layout, GONE)
    after = {path.name: path.read_bytes() for path in variant.folder.glob("*.h5")}
    assert {name: before[name] for name in before.keys() - held}.items() <= after.items()
    assert held & after.keys() == set()


def test_two_at_once_are_the_same_as_one_after_the_other(made: Path, tmp_path: Path) -> None:
    at_once, in_turn = copied(made, tmp_path / "at once"), copied(made, tmp_path / "in turn")
    take_down(at_once, GONE, OTHER)
    take_down(in_turn, OTHER)
    take_down(in_turn, GONE)
    assert digests_without(at_once) == digests_without(in_turn)
    assert read_catalog(at_once.folder) == read_catalog(in_turn.folder)
    assert files_with(at_once, *traces_of(GONE), *traces_of(OTHER)) == []


def test_all_videos_of_a_shard_can_go(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    shard_0 = read_catalog(layout.folder).shard_ids(0)
    assert take_down(layout, *shard_0) == 0
    assert audited(layout, capsys)[0] == 0
    assert files_with(layout, *(video_id.encode() for video_id in shard_0)) == []


def test_a_dry_run_lists_the_same_and_changes_nothing(layout: Layout) -> None:
    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in layout.folder.rglob("*") if path.is_file()}

    before = contents()
    planned = list(plan(layout.folder, [GONE]))
    assert contents() == before
    removed = list(forget(layout.folder, [GONE]))
    assert [line.split(":")[0] for line in planned] == [line.split(":")[0] for line in removed]


def test_a_video_is_taken_down_with_its_options_in_any_order(
    layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    assert GONE.startswith("-")
    assert main(["forget", str(layout.folder), GONE, "--dry-run"]) == 0
    assert "would remove  catalog.json" in capsys.readouterr().out
    assert read_catalog(layout.folder).shard_ids(0)[0] == GONE


@pytest.mark.parametrize(
    "hostile", ["", "../../etc/passwd", "a/b", "x" * 65, "a\n", "%s", "*", "ä", "a b", "\x00"]
)
def test_a_hostile_id_is_refused(layout: Layout, hostile: str) -> None:
    with pytest.raises(SettingsError, match="a video id is 1 to 64"):
        next(forget(layout.folder, [GONE, hostile]))
    assert not layout.forgotten_file.exists()


def test_an_unknown_id_gets_near_ones_and_removes_nothing(
    layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(LookupFailed, match=rf"no video '{GONE}z'; near ids are {GONE}"):
        next(forget(layout.folder, [STAYS, f"{GONE}z"]))
    assert not layout.forgotten_file.exists()
    assert take_down(layout, f"{GONE}z") == 2
    assert "Nothing was removed" in capsys.readouterr().err
    assert main(["forget", str(layout.root / "nowhere"), GONE]) == 2
    assert not (layout.root / "nowhere").exists()


def test_a_running_build_or_take_down_refuses_it(
    layout: Layout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_record, "HEARTBEAT_SECONDS", 0.1)
    for held in (layout.lease(0), layout.lease(1), layout.forgetting_lease):
        with lease(held):
            assert take_down(layout, GONE) == 4
        assert f"{held} is held by" in capsys.readouterr().err
    assert not layout.forgotten_file.exists()


def test_a_damaged_part_of_the_shard_is_repaired_first(
    layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    (variant, _) = variant_layouts(layout.folder)
    part = variant.part(0, 1)
    part.write_bytes(part.read_bytes()[:-9])
    assert take_down(layout, GONE) == 5
    assert "audit --repair" in capsys.readouterr().err
    assert not layout.forgotten_file.exists()
    assert main(["audit", "--repair", str(layout.folder)]) == 0
    assert take_down(layout, GONE) == 0
    assert files_with(layout, *traces_of(GONE)) == []


def test_scores_that_cannot_be_read_are_removed_if_they_name_it(layout: Layout) -> None:
    record = layout.scores("one.test") / "run.json"
    record.write_bytes(record.read_bytes().replace(b'"model"', b'"modem"'))
    take_down(layout, GONE)
    assert list(layout.scores("one.test").iterdir()) == []
    assert list(read_scores(layout, "two.test").tracks) == [("bert", STAYS)]


def test_no_reader_and_no_writer_lets_it_come_back(
    made: Path, layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    """A backup of the whole store is copied over one from which a video was taken down."""
    take_down(layout, GONE)
    known = layout.forgotten_file.read_bytes()
    shutil.rmtree(layout.folder)
    copied(made, layout.root)
    catalog = read_catalog(layout.folder)
    layout.forgotten_file.write_bytes(known)
    assert GONE not in read_catalog(layout.folder).shard_ids(0)
    store = FeatureStore(layout.folder)
    assert all(GONE not in store[name].statuses for name in store.variants())
    assert all(GONE not in store[name] for name in store.variants())
    assert all(STAYS in store[name] for name in store.variants())
    with pytest.raises(SettingsError, match="1 videos of this catalog were taken down"):
        write_catalog(layout, catalog)
    code, output = audited(layout, capsys)
    assert code == 5
    for place in (
        "catalog.json",
        "shard_000.json",
        "index.bin",
        ".mp4",
        "run.json",
        "account.json",
    ):
        assert place in output, output
    assert "run `python -m storage forget" in output
    assert take_down(layout, GONE) == 0
    assert audited(layout, capsys)[0] == 0
    assert files_with(layout, *traces_of(GONE)) == []


@pytest.mark.parametrize(
    ("place", "content"),
    [
        ("videos/000/{stem}.mp4", "x"),
        ("videos/000/{stem}.json", "{{}}"),
        ("sources/{id}.mp4", "x"),
        ("report/{stem}.9.png", "x"),
        ("report/table.json", '{{"a": "{id}"}}'),
        ("runs/abc/log.jsonl", '{{"a": "{id}"}}\n'),
        ("features/unknown.bin", "abc{id}def"),
    ],
)
def test_the_audit_fails_if_anything_is_back(
    layout: Layout, capsys: pytest.CaptureFixture[str], place: str, content: str
) -> None:
    take_down(layout, GONE)
    names = {"stem": video_stem(GONE), "id": GONE}
    path = layout.folder / place.format(**names)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content.format(**names))
    code, output = audited(layout, capsys)
    assert code == 5
    assert f"forgotten video: {path}" in output


def test_an_altered_list_of_forgotten_videos_stops_everything(
    layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    take_down(layout, GONE)
    content = layout.forgotten_file.read_bytes()
    layout.forgotten_file.write_bytes(content.replace(id_sha256(GONE)[:8].encode(), b"00000000"))
    for read in (lambda: read_catalog(layout.folder), lambda: read_forgotten(layout)):
        with pytest.raises(IntegrityError, match="keeps videos that were taken down from coming"):
            read()
    assert audited(layout, capsys)[0] == 5


def test_exports_are_listed_and_name_the_video_no_more(
    layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = sorted(video.video_id for video in read_catalog(layout.folder).videos)
    held = record_begin(layout, tmp_path / "whole", "npy", ["c3d-0"], ids)
    record_begin(layout, tmp_path / "others", "npy", ["c3d-0"], ids[1:3])
    assert GONE not in ids[1:3]
    notes = [line for line in forget(layout.folder, [GONE]) if line.startswith("NOTE the export")]
    assert notes == [
        f"NOTE the export {tmp_path}/whole (npy, begun {held.begun}) holds them: delete it, or "
        "make it again"
    ]
    # The record still knows which export holds it, without its id.
    assert [one.path for one in exports_holding(layout, GONE)] == [str(tmp_path / "whole")]
    both = {one.path for one in exports_holding(layout, ids[1])}
    assert both == {str(tmp_path / "others"), str(tmp_path / "whole")}
    kept = "".join(path.read_text() for path in layout.export_ids_folder.iterdir())
    assert GONE not in kept
    assert audited(layout, capsys)[0] == 0
    finished = record_finish(layout, held)
    assert [one.finished for one in exports_holding(layout, GONE)] == [finished.finished]


def test_what_no_command_can_remove_is_said(layout: Layout) -> None:
    (layout.runs / "fit.seed0" / "model.safetensors").write_bytes(b"a network")
    table = read_catalog(layout.folder).segments
    settings: dict[str, JSON] = {"extractor": "c3d", "segments": table.description()}
    segments = layout.variant("c3d.segments", fingerprint(settings))
    publish(segments.settings_file, readable_json(settings), replace=False)
    notes = [line for line in forget(layout.folder, [GONE]) if line.startswith("NOTE")]
    assert any("model.safetensors may be trained on them" in note for note in notes)
    assert any(
        note.startswith(f"NOTE {segments.folder.name} has one row for each annotated segment")
        for note in notes
    )
    assert len(notes) == 3


def test_files_in_a_folder_of_the_user_are_counted(layout: Layout) -> None:
    record: dict[str, JSON] = {"asked": "folder", "state": "done", "suffix": ".mp4"}
    content = encode_media_record({**record, "size_bytes": 5, "sha256": "0" * 64})
    publish(layout.media_record(GONE, 0), content, replace=True)
    (layout.sources / f"{GONE}.figure.npy").unlink()
    notes = list(forget(layout.folder, [GONE]))
    assert "NOTE 1 of them came from a folder of media: their files there stay" in notes


def count_steps(layout: Layout) -> int:
    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    atomic_write.before_step = count
    take_down(layout, GONE, TARGET)
    atomic_write.before_step = lambda step, path: None
    return steps


def check_interrupted(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever reads does not see the video, and the audit says how to go on."""
    if not layout.forgotten_file.exists():
        return  # nothing has begun
    code, output = audited(layout, capsys)
    is_done = not len(read_forgotten(layout).unfinished)
    assert (code == 0) == is_done, output
    assert is_done or "storage forget" in output
    try:
        assert {GONE, TARGET}.isdisjoint(read_catalog(layout.folder).shard_ids(0))
    except IntegrityError:
        assert "A take-down was interrupted" in output
    store = FeatureStore(layout.folder)
    for name in store.variants():
        assert {GONE, TARGET}.isdisjoint(store[name].statuses)


def test_a_kill_at_any_step_is_finished_by_the_same_command(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = copied(made, tmp_path / "whole")
    steps = count_steps(whole)
    assert steps > 100
    dice = random.Random(SEED)
    for place in sorted(dice.sample(range(steps), min(KILLS, steps))):
        layout = copied(made, tmp_path / f"killed{place}")
        assert killed_at(place, partial(take_down, layout, GONE, TARGET))
        check_interrupted(layout, capsys)
        assert take_down(layout, GONE, TARGET) == 0
        code, output = audited(layout, capsys)
        assert code == 0, output
        assert files_with(layout, *traces_of(GONE), *traces_of(TARGET)) == []
        assert digests_without(layout) == digests_without(whole)
        assert read_catalog(layout.folder) == read_catalog(whole.folder)
        shutil.rmtree(layout.root)


def test_kills_again_and_again_of_one_store_are_finished_too(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With other ids in between: what one call has left, another one finishes."""
    layout = copied(made, tmp_path)
    dice = random.Random(SEED)
    for video_ids in ((GONE,), (GONE, TARGET), (OTHER,), (OTHER, GONE)):
        killed_at(dice.randrange(10, 120), partial(take_down, layout, *video_ids))
        check_interrupted_any(layout, capsys)
    assert take_down(layout, OTHER) == 0
    code, output = audited(layout, capsys)
    assert code == 0, output
    begun = read_forgotten(layout)
    gone = [video_id for video_id in (GONE, TARGET, OTHER) if begun.matches(video_id)]
    assert {GONE, OTHER} <= set(gone)
    assert files_with(layout, *(one for video_id in gone for one in traces_of(video_id))) == []


def check_interrupted_any(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    code, output = audited(layout, capsys)
    assert code == 0 or "storage forget" in output


def test_a_disk_that_fails_at_a_step_is_finished_later(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = random.Random(SEED + 1)
    for place in dice.sample(range(10, 150), 6):
        layout = copied(made, tmp_path / f"failed{place}")
        steps = iter(range(10_000))

        def fail(step: object, path: Path, place: int = place, steps: object = steps) -> None:
            if next(steps) == place:  # type: ignore[call-overload]
                raise OSError(errno.EIO, "a broken disk", str(path))

        atomic_write.before_step = fail
        assert take_down(layout, GONE) == 4
        atomic_write.before_step = lambda step, path: None
        check_interrupted_any(layout, capsys)
        assert take_down(layout, GONE) == 0
        assert audited(layout, capsys)[0] == 0
        assert files_with(layout, *traces_of(GONE)) == []


def test_the_audit_is_silent_about_a_store_without_take_downs(layout: Layout) -> None:
    report = audit_forgotten(layout.folder, deep=True)
    assert (report.count, report.findings) == (0, ())
