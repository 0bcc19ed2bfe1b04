"""The table of datasets: every row reads, unknown names list the known ones."""

from __future__ import annotations

import pytest

from pipeline.catalogs.table import CATALOGS, catalog_spec
from storage.errors import LookupFailed


@pytest.mark.parametrize("name", CATALOGS)
def test_every_row_reads_its_files(name: str) -> None:
    row = b"youtubeId,start,duration,user_id,video_duration,is_last\nv,1,2,u,9,True\n"
    spec = catalog_spec(name)
    read = spec.read(dict.fromkeys(list(spec.files)[:1], row), name="mine", shard_count=5)
    assert (read.catalog.name, read.catalog.shard_count, len(read.catalog.annotations)) == ("mine", 5, 1)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(LookupFailed, match="no dataset is called 'pdh2'; known are phd2, sample"):
        catalog_spec("pdh2")
