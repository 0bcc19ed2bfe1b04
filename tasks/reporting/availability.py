"""The dated availability report of a catalog: `report/survival.json`, and lines for a person.

It is the only file with a date. `pipeline.diagnostics.availability` defines what is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from pipeline.diagnostics.availability import availability_by_split, availability_report
from storage.base.fingerprint import readable_json
from storage.base.paths import Layout, VariantLayout
from storage.base.video_status import DONE, VideoStatus
from storage.catalog.catalog import Catalog
from storage.features.manifest_index import done_ids, read_summaries
from storage.files.atomic_write import publish_if_changed

FILE = "survival.json"


def save_availability(
    layout: Layout, catalog: Catalog, variants: Sequence[VariantLayout]
) -> list[str]:
    """Publish the report of today and return its lines.

    A video counts as done if at least one of the variants has its features.
    """
    rows = availability_by_split(catalog, _statuses(variants))
    content = readable_json(availability_report(rows, datetime.now(UTC).date()))
    publish_if_changed(layout.report / FILE, content)
    return [f"  {row}" for row in rows]


def _statuses(variants: Sequence[VariantLayout]) -> dict[str, VideoStatus]:
    done: set[str] = set()
    unfinished: dict[str, VideoStatus] = {}
    for variant in variants:
        summaries = read_summaries(variant).values()
        done.update(done_ids(summaries))
        for summary in summaries:
            for video_id, status in summary.unfinished.items():
                unfinished.setdefault(video_id, status)
    return {**unfinished, **dict.fromkeys(done, DONE)}
