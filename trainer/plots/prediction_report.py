"""A prediction for people: its lines, its picture and its JSON file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from storage.base.errors import LookupFailed
from storage.base.fingerprint import fingerprint, readable_json
from storage.base.paths import Layout, video_stem
from storage.base.records import FeatureTrack
from storage.features.store import FeatureStore
from storage.files.atomic_write import publish

if TYPE_CHECKING:
    from trainer.inference.predict import Prediction


def format_prediction(found: Prediction, top: int) -> Iterator[str]:
    """A line for each segment, in the order of time; the `top` best bear a star."""
    from trainer.plots.timeline import minutes_seconds

    whom = found.person or "anybody"
    yield f"{found.video_id} for {whom}, by {found.model}; {len(found.history)} liked parts are known"
    yield f"{'from':>7} {'to':>7} {'score':>12} {'rank':>5}"
    for (start, end), score, rank in zip(found.spans, found.scores, found.ranks, strict=True):
        times = f"{minutes_seconds(start):>7} {minutes_seconds(end):>7}"
        star = " *" if rank <= top else ""
        yield f"{times} {score:>12.5g} {rank:>5}{star}"
    yield from (f"NOTE     {note}" for note in found.notes)


def save_prediction(found: Prediction, folder: Path, top: int) -> tuple[Path, Path]:
    """JSON and PNG under `FOLDER/report/`, named after the video, the network and the history."""
    from trainer.plots.timeline import draw_timeline

    made_of = [
        found.checkpoint_sha256,
        found.person,
        [[c.video_id, c.start, c.end] for c in found.history],
    ]
    report = Layout(folder.absolute().parent, folder.absolute().name).report
    stem = report / f"{video_stem(found.video_id)}.{fingerprint(made_of)}"
    json_file, picture = stem.with_name(f"{stem.name}.json"), stem.with_name(f"{stem.name}.png")
    publish(json_file, readable_json(found.to_json()), replace=True)
    publish(
        picture,
        draw_timeline(found, top=top, pictures=pictures_of(folder, found.video_id)),
        replace=True,
    )
    return json_file, picture


def pictures_of(folder: Path, video_id: str) -> FeatureTrack | None:
    """The video's pictures, if the store has exactly one variant of them, and this video in it."""
    try:
        reader = FeatureStore(folder)["frames"]
        return reader[video_id].track() if video_id in reader else None
    except LookupFailed:
        return None
