"""`provenance.json` of an export: where its rows come from, and how they were made and written."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from storage.base.fingerprint import canonical_json, ids_sha256
from storage.base.records import JSON
from storage.export.forms.contract import ExportPlan
from storage.export.ids_table import CSV_RULE, WrittenCounts
from storage.export.source import clips
from storage.export.source.selection import VariantChoice
from storage.features.manifest import digest_of_lines
from storage.features.part_reader import ArrayFormat
from storage.features.time_origin import MEANINGS

FORMAT = "video-highlights export"
FORMAT_VERSION = 1
AS_STORED = "One row for each stored row, with its own span."
NOT_KNOWN = "not recorded in the store"
NOT_STATED = "not stated"
"""What an imported variant says where nothing was stated."""
_MADE_UP = ("random:", "planted:")


@dataclass(frozen=True)
class Statement:
    """What the user states about the data; empty where nothing is stated."""

    citation: str = ""
    licence: str = ""


@dataclass(frozen=True)
class WrittenFiles:
    """The data files of an export."""

    files: int
    size_bytes: int
    sums_sha256: str
    """sha256 of `SHA256SUMS`, which lists every file but itself and `provenance.json`."""


def marks_of(plan: ExportPlan) -> list[str]:
    """Why these features are not a result about real videos; empty if nothing says so."""
    marks = []
    for variant in plan.selection.variants:
        weights = str(variant.reader.settings.get("weights", ""))
        if weights.startswith(_MADE_UP):
            kind = "random weights" if weights.startswith("random:") else "planted rows"
            marks.append(f"{variant.name} is {weights} ({kind}): not a result about real videos")
    origin = plan.selection.catalog.origin
    made_up = [str(origin.get(key, "")) for key in ("reader", "planted")]
    if any(text.startswith(_MADE_UP) for text in made_up) or "sample" in made_up[0]:
        marks.append(f"the catalog {plan.selection.catalog.name} is made up, not collected")
    elif plan.selection.catalog.name in ("sample", "sample-large"):
        marks.append("the catalog is this project's sample: drawn videos, not collected ones")
    return marks


def provenance(
    plan: ExportPlan,
    form: str,
    written: Mapping[tuple[str, str], WrittenCounts],
    *,
    files: WrittenFiles,
    libraries: Sequence[str],
    statement: Statement,
    made: str,
) -> dict[str, JSON]:
    """Everything that is known about an export. `made` is the time in UTC."""
    selection = plan.selection
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "form": form,
        "made": made,
        "catalog": {"name": selection.catalog.name, "origin": _origin(selection.catalog.origin)},
        "selection": {
            "rule": selection.rule,
            "ids": len(selection.ids),
            "ids_sha256": ids_sha256(selection.ids),
        },
        "clips": {
            "clip_seconds": plan.clip_seconds,
            "rule": clips.RULE if plan.clip_seconds else AS_STORED,
        },
        "variants": {
            variant.name: _variant(plan, variant, written) for variant in selection.variants
        },
        "variants_not_exported": dict(selection.left_out),
        "marks": list(marks_of(plan)),
        "citation": statement.citation or NOT_KNOWN,
        "licence": statement.licence or _recorded_licence(plan) or NOT_KNOWN,
        "ids_csv": CSV_RULE,
        "files": files.files,
        "size_bytes": files.size_bytes,
        "sha256sums_sha256": files.sums_sha256,
        "versions": versions(libraries),
    }


def _recorded_licence(plan: ExportPlan) -> str:
    """What those who imported rows stated, for each variant; empty if nothing was stated."""
    found: dict[str, None] = {}
    for variant in plan.selection.variants:
        for record in variant.reader.provenance.values():
            licence = record.get("licence_as_stated", NOT_STATED)
            if licence != NOT_STATED:
                found[f"{variant.name}: {licence}"] = None
    return "; ".join(found)


def _origin(origin: Mapping[str, JSON]) -> JSON:
    # The oddities name users and videos that were not selected.
    return {key: value for key, value in origin.items() if key != "oddities"}


def _variant(
    plan: ExportPlan, variant: VariantChoice, written: Mapping[tuple[str, str], WrittenCounts]
) -> dict[str, JSON]:
    reader = variant.reader
    done = plan.selection.done_ids(variant)
    counts = [written[variant.name, video_id] for video_id in done]
    origins = sorted(reader.time_origins)
    return {
        "fingerprint": reader.fingerprint,
        "settings": dict(reader.settings),
        "weights": str(reader.settings.get("weights", "")),
        "logical_digest": reader.digest(),
        "logical_digest_of_exported": exported_digest(plan, variant),
        "time_origin": [f"{origin}: {MEANINGS[origin]}" for origin in origins],
        "videos": len(done),
        "rows_stored": sum(one.rows_stored for one in counts),
        "rows_written": sum(one.rows_written for one in counts),
        "clips_filled": sum(one.clips_filled for one in counts),
        "arrays": {name: _form(array) for name, array in variant.arrays.items()},
        "arrays_not_exported": dict(variant.skipped),
        "made_by": _distinct(reader.provenance.values()),
    }


def exported_digest(plan: ExportPlan, variant: VariantChoice) -> str:
    """The logical digest of the exported videos, over all their stored arrays.

    It is that of the whole variant if all of its videos are exported.
    """
    entries = {
        video_id: entry.digest
        for manifest in variant.reader.manifests.values()
        for video_id, entry in manifest.entries.items()
        if entry.is_done
    }
    done = plan.selection.done_ids(variant)
    return digest_of_lines((video_id, entries[video_id]) for video_id in done)


def _form(array: ArrayFormat) -> JSON:
    return {
        "stored_dtype": array.dtype.name,
        "item_shape": list(array.item_shape),
        "ragged": array.ragged,
    }


def _distinct(records: Iterable[Mapping[str, JSON]]) -> list[JSON]:
    found: dict[bytes, JSON] = {canonical_json(record): dict(record) for record in records}
    return [found[key] for key in sorted(found)]


def versions(libraries: Sequence[str]) -> dict[str, JSON]:
    """Version of Python, of this project and of the libraries."""
    found: dict[str, JSON] = {"python": platform.python_version()}
    for name in ("video-highlights", "numpy", "h5py", *libraries):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed as a package"
    return found
