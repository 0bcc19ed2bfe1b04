from __future__ import annotations

import json

import pytest

from storage.base.records import JSON
from trainer.view.http_rules import (
    ByteRange,
    RangeNotSatisfiable,
    is_own_host,
    is_token,
    new_token,
    parse_range,
    safe_json,
)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-0", (0, 1)),
        ("bytes=10-", (10, 100)),
        ("bytes=90-1000", (90, 100)),
        ("bytes=-1", (99, 100)),
        ("bytes=-1000", (0, 100)),
        # Not a range of this form: the whole file, as RFC 9110 allows.
        ("bytes=-", None),
        ("bytes=5-4", None),
        ("bytes=0-1,5-6", None),
        ("items=0-1", None),
        ("bytes=a-b", None),
        ("bytes=1e3-", None),
        ("bytes=" + "9" * 400 + "-", None),
    ],
)
def test_ranges(header: str | None, expected: tuple[int, int] | None) -> None:
    wanted = parse_range(header, 100)
    assert wanted == (None if expected is None else ByteRange(*expected))


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_behind_the_end_is_refused(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        parse_range(header, 100)


def test_an_empty_file_has_no_range() -> None:
    with pytest.raises(RangeNotSatisfiable):
        parse_range("bytes=0-", 0)


@pytest.mark.parametrize(
    ("hosts", "is_own"),
    [
        (["127.0.0.1:8000"], True),
        (["localhost:8000"], True),
        (["LOCALHOST:8000"], True),
        (["127.0.0.1:8001"], False),
        (["127.0.0.1"], False),
        (["attacker.example:8000"], False),
        (["127.0.0.1:8000.attacker.example"], False),
        (["127.0.0.1:8000", "attacker.example"], False),
        ([], False),
    ],
)
def test_hosts(hosts: list[str], is_own: bool) -> None:
    assert is_own_host(hosts, 8000) is is_own


def test_tokens() -> None:
    one, other = new_token(), new_token()
    assert one != other
    assert len(one) >= 32
    assert is_token(one, one)
    assert not is_token(other, one)
    assert not is_token("", one)
    assert not is_token("é\udc80", one)


def test_json_may_stand_in_a_script_element() -> None:
    content: JSON = {"title": "</script><!--<script>& \u2028\u2029 é", "n": [1, 2.5, None]}
    text = safe_json(content)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == content
    with pytest.raises(ValueError, match="JSON compliant"):
        safe_json(float("nan"))
