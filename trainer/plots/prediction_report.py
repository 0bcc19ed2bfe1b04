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


def format_prediction(prediction: Prediction, top: int) -> Iterator[str]:
    """A line for each segment, in the order of time; the `top` best have a star."""
    from trainer.plots.timeline import minutes_seconds

    person = prediction.person or "no user"
    n_clips = len(prediction.history)
    yield f"{prediction.video_id} for {person}, by {prediction.model}; history of {n_clips} clips"
    yield f"{'from':>7} {'to':>7} {'score':>12} {'rank':>5}"
    for (start, end), score, rank in zip(
        prediction.spans, prediction.scores, prediction.ranks, strict=True
    ):
        times = f"{minutes_seconds(start):>7} {minutes_seconds(end):>7}"
        star = " *" if rank <= top else ""
        yield f"{times} {score:>12.5g} {rank:>5}{star}"
    for note in prediction.notes:
        yield f"NOTE     {note}"


def save_prediction(prediction: Prediction, folder: Path, top: int) -> tuple[Path, Path]:
    """JSON and PNG under `FOLDER/report/`, named after the video, the network and the history."""
    from trainer.plots.timeline import draw_timeline

    history = [[clip.video_id, clip.start, clip.end] for clip in prediction.history]
    # Another network, user or history is another file; the same again replaces the file.
    made_of = [prediction.checkpoint_sha256, prediction.person, history]
    name = f"{video_stem(prediction.video_id)}.{fingerprint(made_of)}"
    report = Layout(folder.absolute().parent, folder.absolute().name).report
    json_file, picture = report / f"{name}.json", report / f"{name}.png"
    publish(json_file, readable_json(prediction.to_json()), replace=True)
    pictures = pictures_of(folder, prediction.video_id)
    publish(picture, draw_timeline(prediction, top=top, pictures=pictures), replace=True)
    return json_file, picture


def pictures_of(folder: Path, video_id: str) -> FeatureTrack | None:
    """The video's pictures; None unless a single `frames` variant of the store has them."""
    try:
        reader = FeatureStore(folder)["frames"]
        return reader[video_id].track() if video_id in reader else None
    except LookupFailed:
        return None
