"""Names of others become ids by one rule, and no two share an id."""

from __future__ import annotations

import pytest

from storage.base.records import VIDEO_ID
from storage.ingest.names import id_of, ids_of


@pytest.mark.parametrize(
    ("name", "video_id"),
    [
        ("16WT8mzB-bM", "16WT8mzB-bM"),
        ("RoripwjYFp8_360.0_510.0", "RoripwjYFp8_360_0_510_0"),
        ("../../etc/passwd", "______etc_passwd"),
        ("a b", "a_b"),
        ("-rf", "-rf"),
        ("naïve", "na_ve"),
    ],
)
def test_a_name_becomes_an_id(name: str, video_id: str) -> None:
    assert id_of(name) == video_id
    assert VIDEO_ID.fullmatch(video_id)


@pytest.mark.parametrize("name", ["", "x" * 65, "nul\0", "half\udc80"])
def test_a_name_that_cannot_be_kept_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="its name"):
        id_of(name)


def test_names_that_would_share_an_id_are_all_refused() -> None:
    ids, refused = ids_of(["a.b", "a_b", "c"])
    assert ids == {"c": "c"}
    assert refused == {
        "a.b": "2 files would become the id a_b",
        "a_b": "2 files would become the id a_b",
    }
