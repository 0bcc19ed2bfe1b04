"""`HighlightVideo`: a new video and some liked parts of others in; ranked highlights, a timeline
and a reel out.

The features are made as those the network was trained on, whose settings its checkpoint keeps, in a
catalog of these few videos alone. A `run` here is wiring: pipeline makes features, trainer answers,
pipeline cuts.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import luigi

from models.extractors.base.contract import random_seed
from pipeline.compute.devices import resolve_device
from pipeline.extraction.variant import Variant
from pipeline.extraction.variant_from_settings import variant_from_description
from pipeline.media.media_file import SUFFIXES, digest
from pipeline.media.reel import check_place, cut_reel
from pipeline.weights.weights_folder import WeightsFolder
from storage.base.errors import SettingsError
from storage.base.fingerprint import fingerprint
from storage.base.paths import Layout
from storage.base.records import JSON, Annotation, Link, User, Video
from storage.base.video_status import VideoStatus
from storage.catalog.catalog import Catalog, write_catalog
from storage.features.store import FeatureStore
from tasks.config.exit_codes import before_anything_starts
from tasks.config.luigi_sections import SECTIONS, CommaList
from tasks.config.settings import Settings, load
from tasks.execution import progress
from tasks.execution.catalogs import catalog_of
from tasks.execution.extract_shard import download_gate, extract_shard, shard_job
from tasks.execution.shutdown import ORDERS_TO_US
from tasks.features import refuse_other_clocks
from tasks.reporting import run_report

if TYPE_CHECKING:
    pass

PERSON = "you"
LONGEST_SECONDS = 86_400
_LIKED = re.compile(r"(.+):(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class LikedPart:
    """`[start, end)` seconds of a file."""

    file: Path
    start: float
    end: float


@dataclass(frozen=True)
class Request:
    """What the command line asks for, checked."""

    video: Path
    model: Path
    liked: tuple[LikedPart, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """The video first, each file once."""
        return tuple(dict.fromkeys([self.video, *(part.file for part in self.liked)]))

    def ids(self) -> Mapping[Path, str]:
        """File → an id: as much of its name as an id may hold, and the start of its sha256."""
        return {
            file: f"{re.sub('[^A-Za-z0-9_-]+', '-', file.stem)[:40]}-{digest(file)[:12]}"
            for file in self.files
        }

    def catalog(self) -> Catalog:
        """These videos, and one user who liked those parts."""
        ids = self.ids()
        marks = tuple(
            Annotation(ids[part.file], PERSON, part.start, part.end) for part in self.liked
        )
        roles = {ids[file]: "history" for file in self.files} | {ids[self.video]: "target"}
        made_of: JSON = [[mark.video_id, mark.start, mark.end] for mark in marks]
        return Catalog(
            name=f"video-{fingerprint([ids[self.video], made_of])}",
            videos=tuple(Video(video_id) for video_id in sorted(roles)),
            users=(User(PERSON, "test"),),
            links=tuple(Link(PERSON, video_id, role) for video_id, role in roles.items()),
            annotations=marks,
            shard_count=1,
            time_unit="seconds",
            origin={"reader": "HighlightVideo"},
        )


def parse_request(video: str, model: str, history: tuple[str, ...]) -> Request:
    """SettingsError with everything that is wrong: files that are not there, parts that are
    none.
    """
    faults, liked = [], []
    for text in history:
        match = _LIKED.fullmatch(text)
        if match is None or not float(match[2]) < float(match[3]):
            faults.append(
                f"--history takes FILE:START-END in seconds, with commas between; got {text!r}"
            )
        else:
            liked.append(LikedPart(Path(match[1]), float(match[2]), float(match[3])))
    request = Request(Path(video), Path(model), tuple(liked))
    faults += [
        f"there is no file {file}" for file in (*request.files, request.model) if not file.is_file()
    ]
    videos = (file for file in request.files if file.suffix.lower() not in SUFFIXES)
    faults += [
        f"{file} is no video by its name; those end in {' '.join(SUFFIXES)}" for file in videos
    ]
    if any(part.file == request.video for part in liked):
        faults.append(
            "--history is of other videos: what you like of this one is what the network is asked"
        )
    if faults:
        raise SettingsError(tuple(faults))
    return request


class HighlightVideo(luigi.Task):
    """The highlights of one video file for somebody who liked parts of others. Complete when the
    reel is there.
    """

    video = luigi.Parameter(description="the file")
    model = luigi.Parameter(description="a model.safetensors that `python -m trainer fit` made")
    history = CommaList(
        default=(), description="liked parts in seconds, as in other.mp4:12.5-17, third.mp4:3-8"
    )
    seconds = luigi.FloatParameter(
        default=30.0, description="the reel is at most so long, or its best segment alone"
    )
    reel = luigi.Parameter(
        default="", description="an .mp4 to write; by default it lies beside the timeline"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        luigi.Task.__init__(self, *args, **kwargs)
        before_anything_starts(self._check)

    def _check(self) -> None:
        if not 0 < self.seconds <= LONGEST_SECONDS:
            raise SettingsError(
                (f"--seconds is above 0, and at most {LONGEST_SECONDS}, got {self.seconds}",)
            )
        if self.reel:
            check_place(Path(self.reel))
        request = self.request()
        refuse_other_clocks(Layout(load("sample").layout.root, request.catalog().name))

    @property
    def settings(self) -> Settings:
        """All of `workflows.cfg`, checked: where data lies, how videos are decoded, which weights
        are here.
        """
        return load("sample")

    def request(self) -> Request:
        """What is asked for."""
        return parse_request(self.video, self.model, self.history)

    def place(self) -> Path:
        """The reel."""
        request = self.request()
        if self.reel:
            return Path(self.reel)
        name = f"reel-{fingerprint([digest(request.model), float(self.seconds)])}.mp4"
        return Layout(self.settings.layout.root, request.catalog().name).report / name

    def complete(self) -> bool:
        """Whether it was cut. Luigi asks before anything runs, and would pass over a finished task
        without a word.
        """
        is_there = self.place().is_file()
        if is_there:
            run_report.say(
                f"reel     {self.place()} (cut by an earlier run; its timeline lies beside it)"
            )
        return is_there

    def run(self) -> None:
        """Extract, predict, draw, cut, tell."""
        from trainer.inference.predict import UserHistory, predict
        from trainer.plots.prediction_report import format_prediction, save_prediction
        from trainer.training.fit import load_trained_model

        request, device = self.request(), resolve_device(self.settings.device)
        settings = settings_for(request, self.settings)
        with ORDERS_TO_US.drop_at_once():
            extract(settings, request)
        restored = load_trained_model(request.model, settings.layout.folder, device)
        person = UserHistory.of_user(PERSON) if request.liked else UserHistory()
        found = predict(restored, request.ids()[request.video], person)
        cut_reel(request.video, found.best(self.seconds), self.place())
        json_file, picture = save_prediction(
            found, settings.layout.folder, found.best_count(self.seconds)
        )
        for line in (
            *format_prediction(found, found.best_count(self.seconds)),
            f"json     {json_file}",
            f"picture  {picture}",
        ):
            run_report.say(line)
        run_report.say(f"reel     {self.place()}")
        run_report.say(f"length   {found.describe_length(self.seconds)}")


def settings_for(request: Request, settings: Settings) -> Settings:
    """The same machine and decoder, with a catalog of these videos and the features that the
    network reads.
    """
    from trainer.training.checkpoint import read_checkpoint

    catalog = request.catalog()
    layout = Layout(settings.layout.root, catalog.name)
    wanted = read_checkpoint(request.model).about["trained_on"]
    weights = WeightsFolder(layout.weights)
    variants = [_variant(name, described, weights) for name, described in wanted.items()]
    # Pictures cost little, and a timeline with them is easier to read.
    shown = [one for one in settings.variants if one.name == "frames" and "frames" not in wanted]
    write_catalog(layout, catalog)
    return dataclasses.replace(
        settings,
        layout=layout,
        source=dataclasses.replace(settings.source, template=str(_media(layout, request))),
        variants=(*variants, *shown),
    )


def _variant(name: str, described: Mapping[str, JSON], weights: WeightsFolder) -> Variant:
    """The variant of a description, with the files that `workflows.cfg` names for its extractor."""
    section: Any = SECTIONS.get(str(described.get("extractor")))
    chosen = section() if section else None
    configured = (
        {key: str(getattr(chosen, key)) for key, _ in section.get_params()} if section else {}
    )
    if configured.get("weights") and random_seed(configured["weights"]) is None:
        configured["weights"] = str(weights.resolve(configured["weights"]))
    return variant_from_description(
        name, described, configured=configured, converted=weights.converted
    )


def _media(layout: Layout, request: Request) -> Path:
    """A folder in which each file stands under its id."""
    folder = layout.sources
    folder.mkdir(parents=True, exist_ok=True)
    for file, video_id in request.ids().items():
        link = folder / f"{video_id}{file.suffix}"
        if not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(file.absolute())
    return folder


def extract(settings: Settings, request: Request) -> None:
    """The features of all files. SettingsError tells of those that give none."""
    job = shard_job(settings, catalog_of(settings), 0)
    if not job.is_complete():
        progress.PROGRESS.plan(dict.fromkeys(job.todo()))
        gate = download_gate(settings, progress.say)
        extract_shard(settings, job, on_video=_on_video, gate=gate, run_name="highlight")
        progress.PROGRESS.close()
    store, faults = FeatureStore(settings.layout.folder), []
    for variant in settings.variants:
        for file, video_id in request.ids().items():
            if video_id not in store[variant.full_name]:
                status = store[variant.full_name].statuses[video_id]
                faults.append(
                    f"{file} gives no {variant.name}: {status.state}:{status.reason} {status.detail}"
                )
    if faults:
        raise SettingsError(tuple(faults))


def _on_video(video_id: str, status: VideoStatus) -> None:
    progress.PROGRESS.video(0, video_id, status)
    ORDERS_TO_US.check()
