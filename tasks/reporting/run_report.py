"""The account at the end of a run: every id in exactly one state, what is missing and why, and a
picture.

Reads sidecars and the catalog; computes nothing else. What is printed here is what a person judges
the run by.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.extractors.base.contract import random_seed
from pipeline.extraction.variant import Variant
from storage.base.errors import IntegrityError
from storage.base.fingerprint import readable_json
from storage.base.records import JSON
from storage.base.video_status import REASONS, State
from storage.catalog.catalog import Catalog
from storage.features import manifest_index
from storage.files import atomic_write
from tasks.config.exit_codes import RunIncomplete
from tasks.config.settings import Settings
from tasks.execution.catalogs import catalog_of
from tasks.reporting import timing
from tasks.reporting.availability import keep_survival
from tasks.reporting.data_quality import remarks_on

WAITING = (State.PENDING, State.QUARANTINED)
EXAMPLES = 3


@dataclass(frozen=True)
class Tally:
    """One variant's account over the shards of a run."""

    name: str
    """The variant's full name."""
    weights: str
    ids: int
    states: Mapping[State, int]
    reasons: Mapping[str, Sequence[str]]
    """Reason → sorted ids."""
    losses: Mapping[str, str]
    """Id of a done video that is damaged → what was lost of it."""
    choices: Mapping[str, str]
    """Id of a done video whose file holds several films → which was read."""
    rescaled: Mapping[str, str]
    """Id of a done video with another number of frames than was annotated → the counts."""
    files: Mapping[str, str]
    """Id of a done video for which a folder has several files, or had another before → which was
    read.
    """
    rows: int
    size_bytes: int

    @property
    def equation(self) -> str:
        """`12 ids = 9 done + ...`: what must add up."""
        return f"{self.ids} ids = " + " + ".join(
            f"{self.states.get(state, 0)} {state}" for state in State
        )

    def waiting(self) -> int:
        """Videos that another try may help."""
        return sum(self.states.get(state, 0) for state in WAITING)


def account(settings: Settings, shards: Sequence[int], run_name: str) -> None:
    """Print and keep the account of these shards, and draw the picture.

    Raises IntegrityError if the states do not add up to the ids, RunIncomplete if videos wait for a
    retry.
    """
    catalog = catalog_of(settings)
    for variant in settings.variants_of(catalog):
        manifest_index.refresh_index(settings.layout.variant(variant.name, variant.fingerprint()))
    tallies = [
        tally(settings, catalog, variant, shards) for variant in settings.variants_of(catalog)
    ]
    whole = len(shards) == catalog.shard_count
    scope = (
        f"{catalog.shard_count} shards"
        if whole
        else f"{len(shards)} of {catalog.shard_count} shards"
    )
    say(f"\n{catalog.name}: {len(catalog.videos)} videos, {len(catalog.users)} users, {scope}")
    for line in _lines(tallies):
        say(line)
    picture = draw(settings, catalog)
    atomic_write.publish(
        settings.layout.report / "account.json", readable_json(_kept(tallies, shards)), replace=True
    )
    if whole:
        say("survival of the videos, per split:")
        for line in keep_survival(settings, catalog):
            say(line)
    for line in timing.account(settings.layout, run_name):
        say(line)
    say(f"store    {settings.layout.folder}")
    if picture is not None:
        say(f"picture  {picture}")
    waiting = max(one.waiting() for one in tallies)
    if waiting:
        raise RunIncomplete(
            f"{waiting} of {tallies[0].ids} videos wait for a retry: see the reasons above."
        )


def tally(settings: Settings, catalog: Catalog, variant: Variant, shards: Iterable[int]) -> Tally:
    """Count one variant's verdicts. Raises IntegrityError unless every id has exactly one."""
    layout = settings.layout.variant(variant.name, variant.fingerprint())
    everything = manifest_index.read_summaries(layout)
    found = {shard: everything[shard] for shard in shards if shard in everything}
    ids = [video_id for shard in shards for video_id in catalog.shard_ids(shard)]
    done = frozenset(manifest_index.done_ids(found.values()))
    others = {
        video_id: status for one in found.values() for video_id, status in one.unfinished.items()
    }
    left = [video_id for video_id in ids if video_id not in done]
    if without := [video_id for video_id in left if video_id not in others]:
        raise IntegrityError(
            layout.folder, f"{len(without)} ids have no verdict, the first is {without[0]}"
        )
    reasons: dict[str, list[str]] = {}
    for video_id in sorted(left):
        reasons.setdefault(others[video_id].reason, []).append(video_id)
    remarks = remarks_on(settings.layout.report, layout, found)
    return Tally(
        name=variant.full_name,
        weights=variant.weights,
        ids=len(ids),
        states=Counter(others[video_id].state for video_id in left)
        + Counter({State.DONE: len(ids) - len(left)}),
        reasons=reasons,
        losses=remarks.losses,
        choices=remarks.choices,
        rescaled=remarks.rescaled,
        files=remarks.files,
        rows=sum(int(one.rows.sum()) for one in found.values()),
        size_bytes=sum(part.size_bytes for one in found.values() for part in one.parts),
    )


def _lines(tallies: Sequence[Tally]) -> Iterator[str]:
    for one in tallies:
        yield f"  {one.name:<24} {one.equation}"
        yield f"  {'':<24} {one.rows:,} rows, {one.size_bytes / 1e6:,.1f} MB"
    for reason, ids in _all_reasons(tallies).items():
        row = REASONS[reason]
        more = f" and {len(ids) - EXAMPLES} more" if len(ids) > EXAMPLES else ""
        yield f"  {row.state}:{reason}  {', '.join(ids[:EXAMPLES])}{more}"
        yield f"      {row.meaning}; {row.advice}"
    yield from _named(
        "damaged", {video_id: loss for one in tallies for video_id, loss in one.losses.items()}
    )
    choices = {video_id: told for one in tallies for video_id, told in one.choices.items()}
    yield from _named("of several films in one file", choices)
    rescaled = {video_id: told for one in tallies for video_id, told in one.rescaled.items()}
    yield from _named("with annotated frame numbers scaled to the file's duration", rescaled)
    files = {video_id: told for one in tallies for video_id, told in one.files.items()}
    yield from _named("with several files in the folder, or another one before", files)
    for one in tallies:
        if one.weights and random_seed(one.weights) is not None:
            yield f"  NOTE {one.name} ran with {one.weights} weights: good for trying the pipeline, not for results"


def _named(what: str, told: Mapping[str, str]) -> Iterator[str]:
    if told:
        yield f"  done, but {what}: {len(told)}"
        yield from (
            f"      {video_id}: {line}" for video_id, line in sorted(told.items())[:EXAMPLES]
        )


def _all_reasons(tallies: Sequence[Tally]) -> dict[str, list[str]]:
    names = sorted({reason for one in tallies for reason in one.reasons})
    return {
        name: sorted({i for one in tallies for i in one.reasons.get(name, ())}) for name in names
    }


def _kept(tallies: Sequence[Tally], shards: Sequence[int]) -> dict[str, JSON]:
    return {
        "shards": list(shards),
        "variants": {
            one.name: {
                "ids": one.ids,
                "states": {str(state): one.states.get(state, 0) for state in State},
                "reasons": {reason: list(ids) for reason, ids in one.reasons.items()},
                "rows": one.rows,
                "size_bytes": one.size_bytes,
                "weights": one.weights if random_seed(one.weights or "file") is not None else "",
            }
            for one in tallies
        },
    }


def draw(settings: Settings, catalog: Catalog) -> Path | None:
    """The picture of what was built; None where no variant keeps pictures or none keeps a plain
    feature.
    """
    variants = settings.variants_of(catalog)
    pictures = next((one.full_name for one in variants if "jpeg" in one.arrays), None)
    plain = [
        (one, name) for one in variants for name, spec in one.arrays.items() if not spec.ragged
    ]
    if pictures is None or not plain:
        return None
    from trainer.plots.store_overview import draw_overview  # matplotlib takes a second to import

    variant, array = plain[0]
    into = settings.layout.report / "features.png"
    return draw_overview(
        settings.layout.folder, pictures=pictures, clips=variant.full_name, array=array, into=into
    )


def say(line: str) -> None:
    """One line on stdout."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
