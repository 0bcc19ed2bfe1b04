from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from storage.base.paths import (
    Layout,
    id_in_name,
    parse_variant,
    part_number,
    shard_and_number,
    video_stem,
)

LAYOUT = Layout(Path("data"), "phd2")
VARIANT = LAYOUT.variant("c3d.segments", "0123456789ab")


def test_every_file_has_its_place() -> None:
    stem = f"v_-x.{hashlib.sha256(b'-x').hexdigest()[:6]}"
    places = {
        LAYOUT.catalog_file: "catalog.json",
        LAYOUT.table("videos"): "videos.csv",
        LAYOUT.media_record("-x", 12): f"videos/012/{stem}.json",
        LAYOUT.media_file("-x", 12, ".mp4"): f"videos/012/{stem}.mp4",
        LAYOUT.lease(12): "leases/shard_012.lease",
        VARIANT.settings_file: "features/c3d.segments-0123456789ab/settings.json",
        VARIANT.manifest(12): "features/c3d.segments-0123456789ab/shard_012.json",
        VARIANT.part(12, 3): "features/c3d.segments-0123456789ab/shard_012.p003.h5",
        VARIANT.spool(12): "features/c3d.segments-0123456789ab/spool/012",
    }
    for path, expected in places.items():
        assert path == Path("data/phd2") / expected


def test_ids_that_differ_only_in_case_differ_on_every_file_system() -> None:
    assert video_stem("aB").lower() != video_stem("Ab").lower()
    assert not video_stem("-x").startswith("-")


@pytest.mark.parametrize("video_id", ["", "../x", "a/b", "x" * 65])
def test_no_bad_id_becomes_a_name(video_id: str) -> None:
    with pytest.raises(ValueError, match="a video id is"):
        video_stem(video_id)


@pytest.mark.parametrize("variant", ["", "C3D", "c3d-x", "../c3d", "c3d.", ".c3d"])
def test_no_bad_variant_becomes_a_folder(variant: str) -> None:
    with pytest.raises(ValueError, match="a variant is named like"):
        LAYOUT.variant(variant, "0123456789ab")


@pytest.mark.parametrize(("shard", "number"), [(0, 0), (12, 3), (1234, 5678)])
def test_names_of_shards_and_parts_read_back(shard: int, number: int) -> None:
    assert shard_and_number(VARIANT.part(shard, number).name) == (shard, number)
    assert shard_and_number(VARIANT.manifest(shard).name) == (shard, None)
    assert part_number(VARIANT.part(shard, number).name) == number
    assert part_number(VARIANT.manifest(shard).name) == -1


@pytest.mark.parametrize(
    "name", ["shard_1.json", "shard_001.h5", "shard_001.p001.h5.damaged", "x", "shard_001.json\n"]
)
def test_other_names_are_nobodys(name: str) -> None:
    assert shard_and_number(name) is None
    assert part_number(name) == -1


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        (VARIANT.folder.name, ("c3d.segments", "0123456789ab")),
        ("c3d-0123456789ab", ("c3d", "0123456789ab")),
        ("c3d-0123456789AB", None),
        ("c3d", None),
        ("c3d-0123456789ab.old", None),
    ],
)
def test_names_of_variants_read_back(name: str, parsed: tuple[str, str] | None) -> None:
    assert parse_variant(name) == parsed


@pytest.mark.parametrize("video_id", ["-QzmFfX1c4m", "v_a", "a", "x" * 64])
def test_the_id_is_found_in_every_name_made_of_its_stem(video_id: str) -> None:
    stem = video_stem(video_id)
    for name in (f"{stem}.mp4", f"{stem}.json.damaged", f".{stem}.mp4.tmp-1-2", f"{stem}.01.png"):
        assert id_in_name(name) == video_id
    assert id_in_name(f"{stem[:-1]}x.mp4") is None
    assert id_in_name("features.png") is None
