"""The survival report of a whole catalog: from verdicts to `report/survival.json`, dated, and lines
for a person.

The only artefact that holds a date. What is counted, and how, lies in
`pipeline.diagnostics.availability`.
"""

from __future__ import annotations

from datetime import UTC, datetime

from pipeline.diagnostics.availability import availability_by_split, availability_report
from storage.base.fingerprint import readable_json
from storage.base.video_status import DONE, VideoStatus
from storage.catalog.catalog import Catalog
from storage.features.manifest_index import done_ids, read_summaries
from storage.files.atomic_write import publish
from tasks.config.settings import Settings

FILE = "survival.json"


def keep_survival(settings: Settings, catalog: Catalog) -> list[str]:
    """Publish the report of today and return its lines. A video counts as done once any extractor
    has its features.
    """
    rows = availability_by_split(catalog, _statuses(settings, catalog))
    content = readable_json(availability_report(rows, datetime.now(UTC).date()))
    publish(settings.layout.report / FILE, content, replace=True)
    return [f"  {row}" for row in rows]


def _statuses(settings: Settings, catalog: Catalog) -> dict[str, VideoStatus]:
    done: set[str] = set()
    others: dict[str, VideoStatus] = {}
    for variant in settings.variants_of(catalog):
        found = read_summaries(
            settings.layout.variant(variant.name, variant.fingerprint())
        ).values()
        done.update(done_ids(found))
        for video_id, status in (pair for one in found for pair in one.unfinished.items()):
            others.setdefault(video_id, status)
    return {**others, **dict.fromkeys(done, DONE)}
