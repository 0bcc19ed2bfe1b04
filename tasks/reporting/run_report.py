"""The report at the end of a run: the status of every video, what is missing and why, a picture.

It reads manifests and the catalog and computes nothing else. A person judges the run by its lines.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.extractors.base.contract import random_seed
from pipeline.extraction.variant import Variant
from storage.base.errors import ExtractorFailed, IntegrityError
from storage.base.fingerprint import readable_json
from storage.base.paths import Layout, VariantLayout
from storage.base.records import JSON
from storage.base.video_status import REASONS, State, VideoStatus
from storage.catalog.catalog import Catalog
from storage.features import manifest_index
from storage.features.manifest_index import ShardSummary
from storage.files import atomic_write
from tasks.config.exit_codes import RunIncomplete
from tasks.config.settings import Settings
from tasks.execution.catalogs import load_catalog
from tasks.execution.progress import print_line
from tasks.reporting import timing
from tasks.reporting.availability import save_availability
from tasks.reporting.data_quality import QualityNotes, quality_notes
from tasks.reporting.label_quality import label_lines
from trainer.plots.picture_record import OVERVIEW_CODE, RecordedPicture

WAITING = (State.PENDING, State.QUARANTINED)
NON_FINITE, TOO_SHORT = "non_finite", "too_short"
EXAMPLES = 3
REPORT_FILE = "account.json"
PICTURE_FILE = "features.png"


@dataclass(frozen=True)
class VariantSummary:
    """The videos of one variant, over the shards of a run."""

    name: str
    """The variant's full name."""
    weights: str
    ids: int
    states: Mapping[State, int]
    reasons: Mapping[str, Sequence[str]]
    """Reason → sorted ids."""
    notes: QualityNotes
    rows: int
    size_bytes: int

    @property
    def equation(self) -> str:
        """`12 ids = 9 done + ...`: the sum that must be right."""
        terms = [f"{self.states.get(state, 0)} {state}" for state in State]
        return f"{self.ids} ids = {' + '.join(terms)}"

    def waiting(self) -> int:
        """Number of videos for which another try may help."""
        return sum(self.states.get(state, 0) for state in WAITING)

    @property
    def common_reason(self) -> str:
        """The one reason why no video is done; empty if one is, or if there are several reasons.

        Videos without a file and videos too short for a row say nothing about the extractor.
        """
        if self.states.get(State.DONE, 0):
            return ""
        reasons = [
            reason
            for reason in self.reasons
            if REASONS[reason].state is not State.UNAVAILABLE and reason != TOO_SHORT
        ]
        return reasons[0] if len(reasons) == 1 else ""

    @property
    def has_random_weights(self) -> bool:
        """Whether the features show only that the pipeline works."""
        return bool(self.weights) and random_seed(self.weights) is not None

    def record(self) -> dict[str, JSON]:
        """Its entry in `account.json`."""
        return {
            "ids": self.ids,
            "states": {str(state): self.states.get(state, 0) for state in State},
            "reasons": {reason: list(ids) for reason, ids in self.reasons.items()},
            "rows": self.rows,
            "size_bytes": self.size_bytes,
            "weights": self.weights if self.has_random_weights else "",
        }


@dataclass(frozen=True)
class _PictureSource:
    """What the picture of a run shows."""

    pictures: str
    """Full name of a variant with JPEG images."""
    clips: str
    """Full name of a variant whose features become colours."""
    array: str
    """The array with these features."""

    @classmethod
    def of(cls, variants: Sequence[Variant]) -> _PictureSource | None:
        """The first of each kind; None if no variant has images, or none has a plain array."""
        images: str | None = None
        colours: tuple[str, str] | None = None
        for variant in variants:
            if "jpeg" in variant.arrays:
                images = images or variant.full_name
            for array in _plain_arrays(variant):
                colours = colours or (variant.full_name, array)
        if images is None or colours is None:
            return None
        clips, array = colours
        return cls(images, clips, array)


def _plain_arrays(variant: Variant) -> list[str]:
    """Names of the arrays with one value of fixed shape for each row."""
    return [name for name, spec in variant.arrays.items() if not spec.ragged]


def report_run(settings: Settings, shards: Sequence[int], run_name: str) -> None:
    """Print and save the report of these shards, and draw the picture.

    Raises IntegrityError if the states do not add up to the ids, ExtractorFailed if a variant gave
    no finite row at all, RunIncomplete if videos wait for a retry.
    """
    layout = settings.layout
    catalog = load_catalog(layout)
    variants = settings.variants_of(catalog)
    variant_layouts = [_layout_of(layout, variant) for variant in variants]
    for variant_layout in variant_layouts:
        manifest_index.refresh_index(variant_layout)
    summaries = [summarize_variant(layout, catalog, variant, shards) for variant in variants]
    is_whole = len(shards) == catalog.shard_count
    scope = f"{catalog.shard_count} shards"
    if not is_whole:
        scope = f"{len(shards)} of {scope}"
    users = f"{len(catalog.users)} users"
    print_line(f"\n{catalog.name}: {len(catalog.videos)} videos, {users}, {scope}")
    for line in (*_summary_lines(summaries), *_label_lines(catalog, summaries)):
        print_line(line)
    picture = _save_and_draw(layout, variants, summaries, shards)
    if is_whole:
        print_line("survival of the videos, per split:")
        for line in save_availability(layout, catalog, variant_layouts):
            print_line(line)
    for line in timing.report_times(layout, run_name):
        print_line(line)
    print_line(f"store    {layout.folder}")
    if picture is not None:
        print_line(f"picture  {picture}")
    _raise_if_nothing_finite(summaries)
    _raise_if_waiting(summaries)


def _label_lines(catalog: Catalog, summaries: Sequence[VariantSummary]) -> Iterator[str]:
    return label_lines(catalog, [summary.notes for summary in summaries])


def _raise_if_nothing_finite(summaries: Sequence[VariantSummary]) -> None:
    failed = [summary for summary in summaries if summary.common_reason == NON_FINITE]
    if failed:
        names = ", ".join(summary.name for summary in failed)
        raise ExtractorFailed(
            f"{names}: every video that gave rows was rejected, because they are NaN or infinite. "
            "Check the weights and the precision, or correct the extractor; then run again with "
            f"--retry {NON_FINITE}."
        )


def _raise_if_waiting(summaries: Sequence[VariantSummary]) -> None:
    waiting = max(summary.waiting() for summary in summaries)
    if waiting:
        raise RunIncomplete(
            f"{waiting} of {summaries[0].ids} videos wait for a retry: see the reasons above."
        )


def _layout_of(layout: Layout, variant: Variant) -> VariantLayout:
    return layout.variant(variant.name, variant.fingerprint())


def summarize_variant(
    layout: Layout, catalog: Catalog, variant: Variant, shards: Iterable[int]
) -> VariantSummary:
    """Count the statuses of one variant.

    Raises IntegrityError unless every id has exactly one status.
    """
    variant_layout = _layout_of(layout, variant)
    shards = list(shards)
    of_all_shards = manifest_index.read_summaries(variant_layout)
    found = {shard: of_all_shards[shard] for shard in shards if shard in of_all_shards}
    ids = [video_id for shard in shards for video_id in catalog.shard_ids(shard)]
    done = frozenset(manifest_index.done_ids(found.values()))
    unfinished_ids = [video_id for video_id in ids if video_id not in done]
    statuses = _statuses(unfinished_ids, found.values(), variant_layout)
    states = Counter(status.state for status in statuses.values())
    states[State.DONE] += len(ids) - len(unfinished_ids)
    return VariantSummary(
        name=variant.full_name,
        weights=variant.weights,
        ids=len(ids),
        states=states,
        reasons=_ids_by_reason(statuses),
        notes=quality_notes(layout.report, variant_layout, found),
        rows=sum(int(summary.rows.sum()) for summary in found.values()),
        size_bytes=sum(_size_bytes(summary) for summary in found.values()),
    )


def _statuses(
    video_ids: Sequence[str], summaries: Iterable[ShardSummary], layout: VariantLayout
) -> dict[str, VideoStatus]:
    """Id of an unfinished video → its status. Raises IntegrityError if one has none."""
    known: dict[str, VideoStatus] = {}
    for summary in summaries:
        known |= summary.unfinished
    without = [video_id for video_id in video_ids if video_id not in known]
    if without:
        raise IntegrityError(
            layout.folder, f"{len(without)} ids have no status, the first is {without[0]}"
        )
    return {video_id: known[video_id] for video_id in video_ids}


def _ids_by_reason(statuses: Mapping[str, VideoStatus]) -> dict[str, list[str]]:
    ids_of: dict[str, list[str]] = {}
    for video_id, status in sorted(statuses.items()):
        ids_of.setdefault(status.reason, []).append(video_id)
    return ids_of


def _size_bytes(summary: ShardSummary) -> int:
    return sum(part.size_bytes for part in summary.parts)


def _summary_lines(summaries: Sequence[VariantSummary]) -> Iterator[str]:
    for summary in summaries:
        yield f"  {summary.name:<24} {summary.equation}"
        yield f"  {'':<24} {summary.rows:,} rows, {summary.size_bytes / 1e6:,.1f} MB"
    for reason, ids in _all_reasons(summaries).items():
        yield from _reason_lines(reason, ids)
    notes = [summary.notes for summary in summaries]
    yield from _note_lines("damaged", [one.losses for one in notes])
    yield from _note_lines("of several films in one file", [one.choices for one in notes])
    yield from _note_lines(
        "with annotated frame numbers scaled to the file's duration",
        [one.rescaled for one in notes],
    )
    yield from _note_lines(
        "with several files in the folder, or another one before", [one.files for one in notes]
    )
    for summary in summaries:
        yield from _variant_notes(summary)


def _variant_notes(summary: VariantSummary) -> Iterator[str]:
    reason = summary.common_reason
    if reason:
        yield (
            f"  NOTE {summary.name} has no video: all {len(summary.reasons[reason])} that could "
            f"be tried failed for one reason, {reason}"
        )
    if summary.has_random_weights:
        yield (
            f"  NOTE {summary.name} ran with {summary.weights} weights: "
            "good for trying the pipeline, not for results"
        )


def _reason_lines(reason: str, ids: Sequence[str]) -> Iterator[str]:
    row = REASONS[reason]
    shown = ", ".join(ids[:EXAMPLES])
    if len(ids) > EXAMPLES:
        shown += f" and {len(ids) - EXAMPLES} more"
    yield f"  {row.state}:{reason}  {shown}"
    yield f"      {row.meaning}; {row.advice}"


def _note_lines(kind: str, notes_of_variants: Iterable[Mapping[str, str]]) -> Iterator[str]:
    """The notes of one kind: their number, and the first few."""
    notes: dict[str, str] = {}
    for of_variant in notes_of_variants:
        notes |= of_variant
    if not notes:
        return
    yield f"  done, but {kind}: {len(notes)}"
    for video_id, note in sorted(notes.items())[:EXAMPLES]:
        yield f"      {video_id}: {note}"


def _all_reasons(summaries: Sequence[VariantSummary]) -> dict[str, list[str]]:
    """Reason → ids that have it in at least one variant; both sorted."""
    ids_of: dict[str, set[str]] = {}
    for summary in summaries:
        for reason, ids in summary.reasons.items():
            ids_of.setdefault(reason, set()).update(ids)
    return {reason: sorted(ids) for reason, ids in sorted(ids_of.items())}


def _save_and_draw(
    layout: Layout,
    variants: Sequence[Variant],
    summaries: Sequence[VariantSummary],
    shards: Sequence[int],
) -> Path | None:
    """Save the report, and draw the picture unless it shows these features already.

    Returns the picture; None if these variants have none.
    """
    report = readable_json(
        {
            "shards": list(shards),
            "variants": {summary.name: summary.record() for summary in summaries},
        }
    )
    atomic_write.publish_if_changed(layout.report / REPORT_FILE, report)
    source = _PictureSource.of(variants)
    return draw_features(layout, variants, source) if source else None


def draw_features(layout: Layout, variants: Sequence[Variant], source: _PictureSource) -> Path:
    """Draw a picture of the features in the catalog's report folder, unless it shows them."""
    path = layout.report / PICTURE_FILE
    picture = RecordedPicture(path, _shown(layout, variants, source), OVERVIEW_CODE)
    picture.draw_if_changed(lambda: _draw(layout, source, path))
    return path


def _shown(layout: Layout, variants: Sequence[Variant], source: _PictureSource) -> dict[str, JSON]:
    """Digests of the rows and the catalog that the picture shows."""
    shown: dict[str, JSON] = {"pictures": source.pictures, "clips": source.clips}
    shown["array"] = source.array
    for variant in variants:
        name = variant.full_name
        if name in (source.pictures, source.clips):
            summaries = manifest_index.read_summaries(_layout_of(layout, variant)).values()
            shown[name] = manifest_index.logical_digest_of(summaries)
    # The catalog names the sha256 of its tables; videos that were taken down are left out of it.
    for file in (layout.catalog_file, layout.forgotten_file):
        if file.exists():
            shown[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return shown


def _draw(layout: Layout, source: _PictureSource, into: Path) -> None:
    from trainer.plots.store_overview import draw_overview  # matplotlib takes a second to import

    draw_overview(
        layout.folder,
        pictures=source.pictures,
        clips=source.clips,
        array=source.array,
        into=into,
    )
