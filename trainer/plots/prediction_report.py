"""Reports a prediction as text, as a picture, and as a JSON file."""

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
    """A line for each segment, in the order of time; the `top` best have a star."""
    from trainer.plots.timeline import minutes_seconds

    person = found.person or "no user"
    yield f"{found.video_id} for {person}, by {found.model}; history of {len(found.history)} clips"
    yield f"{'from':>7} {'to':>7} {'score':>12} {'rank':>5}"
    for (start, end), score, rank in zip(found.spans, found.scores, found.ranks, strict=True):
        times = f"{minutes_seconds(start):>7} {minutes_seconds(end):>7}"
        star = " *" if rank <= top else ""
        yield f"{times} {score:>12.5g} {rank:>5}{star}"
    for note in found.notes:
        yield f"NOTE     {note}"


def save_prediction(found: Prediction, folder: Path, top: int) -> tuple[Path, Path]:
    """JSON and PNG under `FOLDER/report/`, named after the video, the network and the history."""
    from trainer.plots.timeline import draw_timeline

    history = [[clip.video_id, clip.start, clip.end] for clip in found.history]
    # Another network, user or history is another file; the same again replaces the file.
    made_of = [found.checkpoint_sha256, found.person, history]
    name = f"{video_stem(found.video_id)}.{fingerprint(made_of)}"
    report = Layout(folder.absolute().parent, folder.absolute().name).report
    json_file, picture = report / f"{name}.json", report / f"{name}.png"
    publish(json_file, readable_json(found.to_json()), replace=True)
    pictures = pictures_of(folder, found.video_id)
    publish(picture, draw_timeline(found, top=top, pictures=pictures), replace=True)
    return json_file, picture


def pictures_of(folder: Path, video_id: str) -> FeatureTrack | None:
    """The video's pictures; None unless a single `frames` variant of the store has them."""
    try:
        reader = FeatureStore(folder)["frames"]
        return reader[video_id].track() if video_id in reader else None
    except LookupFailed:
        return None
