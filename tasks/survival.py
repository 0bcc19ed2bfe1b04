"""The survival report of a whole catalog: from verdicts to `report/survival.json`, dated, and lines for a person.

The only artefact that holds a date. What is counted, and how, lies in `pipeline.survival`.
"""

from __future__ import annotations

from datetime import UTC, datetime

from pipeline.survival import report, survival
from storage.atomic import publish
from storage.catalog import Catalog
from storage.fingerprint import readable
from storage.index import summaries
from storage.verdicts import State, Verdict
from tasks.settings import Settings

FILE = "survival.json"


def keep_survival(settings: Settings, catalog: Catalog) -> list[str]:
    """Publish the report of today and return its lines. A video counts as done once any extractor has its features."""
    rows = survival(catalog, _verdicts(settings, catalog))
    content = readable(report(rows, datetime.now(UTC).date()))
    publish(settings.layout.report / FILE, content, replace=True)
    return [f"  {row}" for row in rows]


def _verdicts(settings: Settings, catalog: Catalog) -> dict[str, Verdict]:
    verdicts: dict[str, Verdict] = {}
    for variant in settings.variants_of(catalog):
        layout = settings.layout.variant(variant.name, variant.fingerprint())
        for found in summaries(layout).values():
            for video_id, verdict in found.verdicts.items():
                if video_id not in verdicts or verdict.state is State.DONE:
                    verdicts[video_id] = verdict
    return verdicts
