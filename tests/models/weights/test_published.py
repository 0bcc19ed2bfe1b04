"""The rows of published weights are complete, and claim no more than is known."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import pytest

from models.extractors.registry import EXTRACTORS
from models.weights.published import PUBLISHED_WEIGHTS


@pytest.mark.parametrize("name", PUBLISHED_WEIGHTS)
def test_a_row_is_complete(name: str) -> None:
    row = PUBLISHED_WEIGHTS[name]
    assert row.extractor in EXTRACTORS
    assert row.purpose
    assert row.licence
    assert row.citation
    assert urlsplit(row.origin).scheme in ("http", "https")
    path = PurePosixPath(name)
    assert not path.is_absolute()
    assert ".." not in path.parts
    assert row.sha256 is None or re.fullmatch("[0-9a-f]{64}", row.sha256)
    if row.direct:
        assert PurePosixPath(urlsplit(row.origin).path).name == path.name


def test_what_binds_is_asked_about() -> None:
    binding = {
        name
        for name, row in PUBLISHED_WEIGHTS.items()
        if re.search("GPL|NC |no commercial", row.licence)
    }
    assert binding == {name for name, row in PUBLISHED_WEIGHTS.items() if row.asks_first}
    assert {name for name in binding if name.startswith(("v5.0/", "v6.0/", "v7.0/"))} == {
        f"{release}/yolov5{size}.pt" for release in ("v5.0", "v6.0", "v7.0") for size in "nsmlx"
    } - {"v5.0/yolov5n.pt"}


def test_published_weights_are_of_networks() -> None:
    """A network may have none: users then name a file of their own."""
    published = {row.extractor for row in PUBLISHED_WEIGHTS.values()}
    assert published <= {name for name, spec in EXTRACTORS.items() if spec.needs_weights}


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(KeyError, match=r"choose one of .*c3d\.pickle"):
        PUBLISHED_WEIGHTS["c4d.pickle"]
