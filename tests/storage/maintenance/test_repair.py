"""Every kind of damage to every kind of file: `audit --repair` ends in a store that audits clean,
or says what it cannot mend; and what is read afterwards is what was written, if perhaps less of it.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from storage import FeatureStore
from storage.__main__ import main
from storage.base.errors import IntegrityError
from storage.base.paths import Layout, VariantLayout
from storage.base.records import JSON
from storage.catalog.catalog import read_catalog
from storage.features import manifest_index
from storage.features.manifest_file import read_manifest
from storage.features.media_records import encode_media_record
from storage.maintenance.repair import repair
from tests.support.feature_samples import commit_tracks, make_store, make_track


def _media(layout: Layout, video_id: str, shard: int) -> None:
    record, file = layout.media_record(video_id, shard), layout.media_file(video_id, shard, ".mp4")
    content = f"the pictures of {video_id}".encode()
    fields: dict[str, JSON] = {
        "asked": "http://127.0.0.1/{id}",
        "state": "done",
        "suffix": ".mp4",
        "facts": {},
    }
    record.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    record.write_bytes(
        encode_media_record({**fields, "sha256": sha256, "size_bytes": len(content)})
    )


class Store:
    """A store of two shards with media, and where one file of each kind lies, and another of its
    kind.
    """

    def __init__(self, variant: VariantLayout) -> None:
        self.variant = variant
        self.folder = variant.folder.parents[1]
        layout = Layout(self.folder.parent, self.folder.name)
        last = [read_catalog(self.folder).shard_ids(shard)[-1] for shard in range(2)]
        records = [layout.media_record(video_id, shard) for shard, video_id in enumerate(last)]
        files = [layout.media_file(video_id, shard, ".mp4") for shard, video_id in enumerate(last)]
        self.truth = tracks(variant)
        manifests = [read_manifest(variant, shard) for shard in range(2)]
        self.in_first_parts = {
            i for one in manifests if one is not None for i in one.live_in(one.parts[0].file)
        }
        self.files: dict[str, tuple[Path, Path]] = {
            "part": (variant.part(0, 0), variant.part(1, 0)),
            "checksums": (
                variant.checksums("shard_000.p000.h5"),
                variant.checksums("shard_001.p000.h5"),
            ),
            "manifest": (variant.manifest(0), variant.manifest(1)),
            "index": (variant.index_file, variant.manifest(0)),
            "settings": (variant.settings_file, self.folder / "catalog.json"),
            "table": (self.folder / "videos.csv", self.folder / "users.csv"),
            "catalog": (self.folder / "catalog.json", variant.settings_file),
            "media record": (records[0], records[1]),
            "media": (files[0], files[1]),
        }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> VariantLayout:
    """What every test damages a copy of."""
    root = tmp_path_factory.mktemp("whole")
    variant = make_store(root, part_bytes=1500)
    layout = Layout(root, "sample")
    for shard in range(2):
        _media(layout, read_catalog(layout.folder).shard_ids(shard)[-1], shard)
    manifest_index.refresh_index(variant)
    return variant


@pytest.fixture
def store(whole: VariantLayout, tmp_path: Path) -> Store:
    copied = Path(shutil.copytree(whole.folder.parents[1], tmp_path / "sample"))
    return Store(
        VariantLayout(copied / "features" / whole.folder.name, whole.variant, whole.fingerprint)
    )


def tracks(variant: VariantLayout) -> dict[str, str]:
    """Id → digest of its rows as they are read now."""
    reader = FeatureStore(variant.folder.parents[1])[variant.folder.name]
    return {video_id: reader[video_id].track().digest() for video_id in reader}


def _flip(path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    content[2 * len(content) // 3] ^= 2
    path.write_bytes(content)


def _cut(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _delete(path: Path, other: Path) -> None:
    path.unlink()


def _empty(path: Path, other: Path) -> None:
    path.write_bytes(b"")


def _swap(path: Path, other: Path) -> None:
    mine, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(mine)


def _replace(path: Path, other: Path) -> None:
    shutil.copy(other, path)


DAMAGES = (_flip, _cut, _delete, _empty, _swap, _replace)
UNMENDABLE = {"settings", "table", "catalog"}
KEEPS_ALL = {"checksums", "index", "media record", "media"}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "kind",
    [
        "part",
        "checksums",
        "manifest",
        "index",
        "settings",
        "table",
        "catalog",
        "media record",
        "media",
    ],
)
def test_a_repair_ends_clean_or_says_what_it_cannot_mend(
    store: Store,
    kind: str,
    damage: Callable[[Path, Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, other = store.files[kind]
    damage(path, other)
    code = main(["audit", "--repair", "--media", str(store.folder)])
    said = capsys.readouterr()
    if kind in UNMENDABLE:
        # What a catalog says comes from the annotations alone, and settings from workflows.cfg
        # alone.
        assert code in (2, 5)
        assert path.name in said.out + said.err or (
            other.name in said.out + said.err and damage is _swap
        )
        return
    assert code == 0, said.out
    assert main(["audit", "--deep", "--media", str(store.folder)]) == 0
    found = tracks(store.variant)
    assert found.items() <= store.truth.items()
    if kind in KEEPS_ALL:
        assert found == store.truth
    elif kind == "manifest":
        # A manifest is rebuilt from its parts; the failures, which only it had, are tried again.
        assert found == store.truth
    else:
        assert store.truth.keys() - found.keys() <= store.in_first_parts


def test_a_rolled_back_manifest_and_a_stale_index_are_put_right(store: Store) -> None:
    catalog = read_catalog(store.folder)
    kept = {
        path: path.read_bytes() for path in (store.variant.manifest(0), store.variant.index_file)
    }
    again = make_track(catalog.shard_ids(0)[-1], 6, salt="again")
    commit_tracks(store.variant, [again])
    truth = store.truth | {again.video_id: again.digest()}
    store.variant.index_file.write_bytes(kept[store.variant.index_file])
    assert tracks(store.variant) == truth  # a stale index is never believed
    store.variant.manifest(0).write_bytes(kept[store.variant.manifest(0)])
    assert main(["audit", str(store.folder)]) == 5
    assert main(["audit", "--repair", str(store.folder)]) == 0
    assert tracks(store.variant) == truth


def test_a_shard_of_which_nothing_is_left_is_done_again(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in store.variant.folder.glob("shard_001.*"):
        path.unlink()
    with pytest.raises(IntegrityError, match="is lost"):
        tracks(store.variant)
    assert main(["audit", "--repair", str(store.folder)]) == 0
    assert "nothing is left of shard 1: the next run does its videos" in capsys.readouterr().out
    assert 0 < len(tracks(store.variant)) < len(store.truth)


def test_several_damages_at_once_are_mended_together(store: Store) -> None:
    for kind, damage in (("part", _flip), ("checksums", _swap), ("index", _cut), ("media", _empty)):
        damage(*store.files[kind])
    store.variant.manifest(1).unlink()
    assert main(["audit", "--repair", "--media", str(store.folder)]) == 0
    found = tracks(store.variant)
    assert found
    assert found.items() <= store.truth.items()


def test_a_folder_that_was_renamed_is_left_alone(tmp_path: Path) -> None:
    """Its parts are whole: setting them aside would lose what a rename brings back."""
    variant = make_store(tmp_path)
    written = {path.name: path.read_bytes() for path in variant.folder.glob("shard_*")}
    renamed = variant.folder.with_name("c3d-0123456789ab")
    variant.folder.rename(renamed)

    told = repair(variant.folder.parents[1], deep=True)

    assert any(f"Name it {variant.folder.name} again" in line for line in told), told
    assert {path.name: path.read_bytes() for path in renamed.glob("shard_*")} == written
    renamed.rename(variant.folder)
    assert main(["audit", "--deep", str(variant.folder.parents[1])]) == 0


@pytest.mark.parametrize("command", ["compact", "digest", "seal"])
@pytest.mark.parametrize("damage", ["swapped parts", "short part", "no part", "flipped manifest"])
def test_what_a_command_finds_damaged_names_the_command_that_mends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str, command: str
) -> None:
    variant = make_store(tmp_path)
    folder, part, other = variant.folder.parents[1], variant.part(0, 0), variant.part(1, 0)
    if damage == "swapped parts":
        first = part.read_bytes()
        part.write_bytes(other.read_bytes())
        other.write_bytes(first)
    elif damage == "short part":
        part.write_bytes(part.read_bytes()[:-1])
    elif damage == "no part":
        part.unlink()
    else:
        manifest = variant.manifest(0)
        manifest.write_bytes(manifest.read_bytes()[:-9] + b"*" + manifest.read_bytes()[-8:])

    code = main([command, str(folder)])

    told = capsys.readouterr().err
    if command == "compact" or damage == "flipped manifest":
        assert (code, f"python -m storage audit --repair {folder}" in told) == (5, True), told
        assert "PartHeader(" not in told
    else:  # these read accounts alone
        assert (code, told) == (0, "")
