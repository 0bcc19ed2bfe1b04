"""PHD2's tables: the published counts, every oddity by name, no row lost, no id altered, no order
kept.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets.parsing.parsed_dataset import ParsedDataset
from pipeline.datasets.readers.phd2 import read_phd2, read_phd2_catalog
from storage.base.errors import SettingsError
from storage.base.paths import Layout
from storage.base.records import JSON, Annotation, Link, User, Video
from storage.catalog.catalog import write_catalog

HEADER = "youtubeId,start,duration,user_id,video_duration,is_last"
GOOD = "goodvideo_1,204.39,7.08,12999,314.0,True"


def table(*rows: str) -> bytes:
    return "\n".join((HEADER, *rows, "")).encode()


def survey(*rows: str) -> ParsedDataset:
    return read_phd2({"test": table(*rows)}, name="phd2")


def account(survey: ParsedDataset, split: str = "test") -> dict[str, JSON]:
    sources = cast(dict[str, dict[str, JSON]], survey.catalog.origin["sources"])
    return {key: value for key, value in sources[split].items() if key != "sorted_rows_sha256"}


def found(survey: ParsedDataset) -> dict[str, list[str]]:
    return {oddity: list(cases) for oddity, cases in survey.oddities.items() if cases}


def test_the_published_test_set(shared_data: Path) -> None:
    published = read_phd2({"test": shared_data / "phd2" / "testing.csv"}, name="phd2")
    catalog = published.catalog
    counts = {"rows": 20_488, "annotations": 20_488, "duplicates": 0, "dropped": 0}
    assert account(published) == counts
    assert (len(catalog.users), len(catalog.videos), len(catalog.links)) == (850, 10_222, 10_320)
    targets = {(link.user_id, link.video_id) for link in catalog.links if link.role == "target"}
    assert len(targets) == 850
    assert sum((row.annotator, row.video_id) in targets for row in catalog.annotations) == 1_621
    sizes = {oddity: len(cases) for oddity, cases in found(published).items()}
    # "210 rows end > 1 s after the stated duration" counts -1 as a duration: 209 unknown + 1.
    assert sizes == {
        "duration_unknown": 209,
        "ends_1s_after_duration": 1,
        "ends_after_duration": 9,
        "few_videos": 18,
        "id_starts_with_dash": 154,
        "several_gifs_of_a_video": 3_312,
    }


def test_one_row_is_one_annotation_kept_as_published() -> None:
    catalog = read_phd2_catalog(
        {"train": table("-ab_cdefghi,3.0,400.0,0042,-1.0,False"), "test": table(GOOD)}
    )
    assert catalog.annotations == (
        Annotation("-ab_cdefghi", "0042", 3.0, 403.0),
        Annotation("goodvideo_1", "12999", 204.39, 204.39 + 7.08),
    )
    assert catalog.videos == (Video("-ab_cdefghi", None), Video("goodvideo_1", 314.0))
    assert catalog.users == (User("0042", "train"), User("12999", "test"))
    assert catalog.links == (
        Link("0042", "-ab_cdefghi", "history"),
        Link("12999", "goodvideo_1", "target"),
    )


SPELLINGS = {
    "bom": b"\xef\xbb\xbf" + table(GOOD),
    "crlf": table(GOOD).replace(b"\n", b"\r\n"),
    "old mac": table(GOOD).replace(b"\n", b"\r"),
    "quotes": table('"goodvideo_1","204.39",7.08,"12999",314.0,"True"'),
    "quoted header": table(GOOD).replace(b"user_id", b'"user_id"'),
    "other order": b"is_last,user_id,start,duration,youtubeId,video_duration\nTrue,12999,204.39,7.08,goodvideo_1,314.0",
    "another column": table(GOOD).replace(b"\n", b",x\n"),
    "blanks and case": table("goodvideo_1, 204.39,7.08 ,12999,314,TRUE"),
    "empty lines": table("", GOOD, "", ""),
}


@pytest.mark.parametrize("content", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_spellings_of_the_same_table(content: bytes) -> None:
    plain, spelled = survey(GOOD), read_phd2({"test": content}, name="phd2")
    assert spelled.catalog.annotations == plain.catalog.annotations
    assert (spelled.catalog.videos, spelled.catalog.links) == (
        plain.catalog.videos,
        plain.catalog.links,
    )
    assert account(spelled) == {"rows": 1, "annotations": 1, "duplicates": 0, "dropped": 0}


UNUSABLE = [
    ("a b,1,2,u,9,True", "bad_video_id"),
    ("../../etc,1,2,u,9,True", "bad_video_id"),
    (",1,2,u,9,True", "bad_video_id"),
    ("v" * 65 + ",1,2,u,9,True", "bad_video_id"),
    ("v,1,2,,9,True", "bad_user_id"),
    ("v,1,2,u\x07,9,True", "bad_user_id"),
    ("v,1,2,u,9,yes", "bad_role"),
    ("v,1,2,u,9,", "bad_role"),
    ("v,nan,2,u,9,True", "bad_times"),
    ("v,1,inf,u,9,True", "bad_times"),
    ("v,1e308,1e309,u,9,True", "bad_times"),
    ("v,1_0,2,u,9,True", "bad_times"),
    ("v,0x10,2,u,9,True", "bad_times"),
    ("v,,2,u,9,True", "bad_times"),
    ("v,-0.5,2,u,9,True", "bad_times"),
    ("v,1,0,u,9,True", "empty_interval"),
    ("v,1,-2,u,9,True", "empty_interval"),
    ("v,1e17,1,u,9,True", "empty_interval"),  # 1e17 + 1 == 1e17
    ("v,1,2,u,9", "unreadable_row"),
    ("v,1,2,u,9,True,True", "unreadable_row"),
    ('"v,1,2,u,9,True', "unreadable_row"),
]


@pytest.mark.parametrize(("row", "reason"), UNUSABLE)
def test_an_unusable_row_is_listed_with_its_reason(row: str, reason: str) -> None:
    read = survey(row, GOOD)
    assert found(read)[f"dropped:{reason}"] == [row]
    assert account(read) == {"rows": 2, "annotations": 1, "duplicates": 0, "dropped": 1}
    assert [video.video_id for video in read.catalog.videos] == ["goodvideo_1"]


ODD = [
    (["v,1,2,u,9,False", "v,1.0,2.0,u,9.0,False"], {"duplicate_row": ["v,1.0,2.0,u,9.0,False"]}),
    (["v,1,2,u,-1.0,False"], {"duration_unknown": ["v,1,2,u,-1.0,False"]}),
    (["v,1,2,u,NaN,False"], {"duration_unusable": ["v,1,2,u,NaN,False"]}),
    (["v,1,2,u,0,False"], {"duration_unusable": ["v,1,2,u,0,False"]}),
    (["v,1,2,u,2.5,False"], {"ends_after_duration": ["v,1,2,u,2.5,False"]}),
    (["v,1,2,u,3,False"], {}),  # 1 + 2 = 3: it ends where the video does
    (["-v,1,2,u,9,False"], {"id_starts_with_dash": ["-v"]}),
    (["v,1,2,u,9,False", "v,4,2,u,9,False"], {"several_gifs_of_a_video": ["u v"]}),
    (["v,1,2,u,9,False", "v,4,2,w,10,False"], {"durations_differ": ["v"]}),
    (["v,1,2,u,9,False", "v,4,2,w,-1,False"], {"duration_unknown": ["v,4,2,w,-1,False"]}),
    (
        ["v,1,2,u,9,True", "v,4,2,u,9,False"],
        {"history_and_target": ["u v"], "several_gifs_of_a_video": ["u v"]},
    ),
    (["v,1,2,u,9,True", "w,1,2,u,9,True"], {"several_targets": ["u"], "no_history": ["u"]}),
]
USER_COUNTS = ("few_videos", "no_history", "no_target")


@pytest.mark.parametrize(("rows", "expected"), ODD)
def test_an_oddity_is_named_and_kept(rows: list[str], expected: dict[str, list[str]]) -> None:
    read = survey(*rows)
    assert {
        k: v for k, v in found(read).items() if k not in USER_COUNTS or k in expected
    } == expected
    assert account(read)["dropped"] == 0


def test_users_the_paper_did_not_mean() -> None:
    five = [f"v{number},1,2,five,9,{number == 4}" for number in range(5)]
    read = survey(*five, "v0,1,2,one,9,True", "v1,1,2,hopeless,9,False")
    assert found(read) == {
        "few_videos": ["hopeless", "one"],
        "no_history": ["one"],
        "no_target": ["hopeless"],
    }


def test_the_longest_of_differing_durations_is_kept() -> None:
    catalog = survey("v,1,2,u,9,False", "v,4,2,w,10,False", "v,4,2,x,-1,False").catalog
    assert catalog.videos == (Video("v", 10.0),)


def test_a_user_of_both_splits_stays_a_test_user() -> None:
    shared_user = "v,1,2,both,9,False"
    read = read_phd2(
        {"train": table(shared_user, "v,1,2,u,9,True"), "test": table("w,1,2,both,9,True")},
        name="phd2",
    )
    assert read.catalog.users == (User("both", "test"), User("u", "train"))
    assert found(read)["dropped:user_in_two_splits"] == [shared_user]
    assert account(read, "train") == {"rows": 2, "annotations": 1, "duplicates": 0, "dropped": 1}


def test_a_video_of_both_splits_is_listed() -> None:
    read = read_phd2(
        {"train": table("v,1,2,a,9,False"), "test": table("v,1,2,b,9,False")}, name="phd2"
    )
    assert found(read)["video_in_two_splits"] == ["v"]


def test_order_of_rows_does_not_reach_the_disk(tmp_path: Path) -> None:
    rows = [
        GOOD,
        "v,1,2,u,9,False",
        "v,1.0,2,u,9,False",
        *(row for row, _ in UNUSABLE),
        *ODD[10][0],
        *ODD[8][0],
    ]
    written = []
    for folder, order in (
        ("a", rows),
        ("b", rows[::-1]),
        ("c", random.Random(3).sample(rows, len(rows))),
    ):
        layout = Layout(tmp_path / folder, "phd2")
        write_catalog(layout, survey(*order).catalog)
        written.append({path.name: path.read_bytes() for path in layout.folder.iterdir()})
    assert written[0] == written[1] == written[2]


cells = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=8)
cases = st.sampled_from(["1", "2.5", "-1", "nan", "", "True", "False", "abc", '"', ","])


@given(st.lists(st.lists(cells | cases, min_size=5, max_size=7).map(",".join), max_size=12))
def test_no_row_is_lost_whatever_it_holds(rows: list[str]) -> None:
    counts = account(survey(*rows, GOOD))
    total = sum(cast(int, counts[fate]) for fate in ("annotations", "duplicates", "dropped"))
    assert counts["rows"] == total == sum(bool(row) for row in rows) + 1


@given(
    st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    st.sampled_from(["007", "1e5", "nan", "None", "é", "-1", " 7"]),
)
def test_ids_are_text(video_id: str, user_id: str) -> None:
    catalog = survey(f"{video_id},1,2,{user_id},9,True").catalog
    assert (catalog.videos[0].video_id, catalog.users[0].user_id) == (video_id, user_id)
    assert catalog.links == (Link(user_id, video_id, "target"),)


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({}, "splits train and test; got sources for neither"),
        ({"validation": table(GOOD)}, r"splits train and test; got sources for \['validation'\]"),
        ({"test": b""}, "the test table of PHD2 is empty"),
        (
            {"test": b"<!doctype html>\n"},
            "lacks the columns youtubeId, start, .*starts with '<!doctype html>'",
        ),
        (
            {"train": b"version https://git-lfs.github.com/spec/v1\n"},
            "the train table of PHD2 lacks the columns",
        ),
        (
            {
                "test": b"youtubeId,start,start,duration,user_id,video_duration,is_last\nv,1,2,2,u,9,True\n"
            },
            "several columns start",
        ),
        ({"test": b"\xff\xfe"}, "is not UTF-8"),
        ({"test": Path("/no/such/testing.csv")}, "cannot be read: .*No such file"),
        ({"test": table("v,nan,2,u,9,True")}, "none of the 1 rows of PHD2 is usable"),
    ],
)
def test_what_is_no_phd2_table_is_refused(sources: dict[str, bytes | Path], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_phd2_catalog(sources)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (["v,1,2,u,9,1"], "2 bad_role (is_last is True or False; got '1')"),
        (
            [
                "https://www.youtube.com/watch?v=aaaaaaaaaaa,1,2,u,9,True",
                "youtu.be/aaaaaaaaaaa,1,2,u,9,True",
            ],
            "2 bad_video_id (youtubeId is 1 to 64 of A-Z a-z 0-9 _ -; got "
            "'https://www.youtube.com/watch?v=aaaaaaaaaaa', which is an address: write only the id); 1 bad_role",
        ),
        (
            ["v,0:10,2,u,9,True"],
            "1 bad_times (start and duration are numbers of seconds, start at least 0; got",
        ),
        (["v,5,0,u,9,True"], "1 empty_interval (duration is above 0; got '5,0')"),
        (
            ["v,1,2,,9,True"],
            "1 bad_user_id (user_id is 1 to 128 characters that can be printed; got '')",
        ),
        (
            ["v;1;2;u;9;True"],
            "1 unreadable_row (a row has as many cells as the header, and quotes that are",
        ),
    ],
)
def test_a_table_without_a_usable_row_says_why(rows: list[str], told: str) -> None:
    with pytest.raises(SettingsError) as error:
        survey(*rows, "w,1,2,u,9,yes")
    assert f"none of the {len(rows) + 1} rows of PHD2 is usable: " in str(error.value)
    assert told in str(error.value)
    assert "bad_role (is_last is True or False; got " in str(error.value)


def test_a_table_of_a_header_alone_says_so() -> None:
    with pytest.raises(
        SettingsError, match=r"the tables of PHD2 \(test\) have a header and no row"
    ):
        survey()


def test_users_that_may_be_one_are_told_and_kept_apart() -> None:
    users = [
        "7",
        "7.0",
        "007",
        "ann",
        "Ann ",
        "70",
        "0.70",
        "12345678901234567890123456789012",
        "1e1",
        "x",
    ]
    read = survey(*(f"v{place},1,2,{user},9,True" for place, user in enumerate(users)))
    assert found(read)["user_in_several_spellings"] == ["007 = 7 = 7.0", "Ann  = ann"]
    assert {user.user_id for user in read.catalog.users} == set(users)
