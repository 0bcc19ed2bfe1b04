"""`HighlightVideo`: ranks the segments of a new video for a user who liked clips of other videos.

It writes the ranking, a timeline and a reel. The features are those that the network was trained
on, as its checkpoint describes them, in a catalog of these few videos only.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import luigi

from models.extractors.base.contract import random_seed
from pipeline.compute.devices import resolve_device
from pipeline.extraction.variant import Variant
from pipeline.extraction.variant_from_settings import variant_from_description
from pipeline.media.media_file import SUFFIXES, digest
from pipeline.weights.weights_folder import WeightsFolder
from storage.base.errors import SettingsError
from storage.base.fingerprint import fingerprint
from storage.base.paths import Layout
from storage.base.records import JSON, Annotation, Link, User, Video
from storage.base.video_status import VideoStatus
from storage.catalog.catalog import Catalog, write_catalog
from storage.features.store import FeatureStore
from tasks.config.exit_codes import check_before_start
from tasks.config.luigi_sections import CommaList, plugin_section
from tasks.config.settings import Settings, load_settings
from tasks.execution import progress
from tasks.execution.catalogs import load_catalog
from tasks.execution.extract_shard import extract_shard, shard_job
from tasks.execution.shutdown import SHUTDOWN
from tasks.execution.video_sources import VideoSources
from tasks.features import check_time_origins

USER_ID = "you"
MAX_REEL_SECONDS = 86_400
_LIKED_CLIP = re.compile(r"(.+):(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)")
_NOT_IN_AN_ID = re.compile("[^A-Za-z0-9_-]+")


@dataclass(frozen=True)
class LikedClip:
    """`[start, end)` seconds of a file."""

    file: Path
    start: float
    end: float


@dataclass(frozen=True)
class HighlightRequest:
    """The checked options of the command line."""

    video: Path
    model: Path
    liked: tuple[LikedClip, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """The video first, then the files of the liked clips, each once."""
        return tuple(dict.fromkeys([self.video, *(clip.file for clip in self.liked)]))

    def ids(self) -> Mapping[Path, str]:
        """File → its id: the valid characters of its name, and the start of its sha256."""
        ids = {}
        for file in self.files:
            name = _NOT_IN_AN_ID.sub("-", file.stem)[:40]
            ids[file] = f"{name}-{digest(file)[:12]}"
        return ids

    def catalog(self) -> Catalog:
        """A catalog of these videos, with one user who liked these clips."""
        ids = self.ids()
        annotations = tuple(
            Annotation(ids[clip.file], USER_ID, clip.start, clip.end) for clip in self.liked
        )
        roles = {ids[file]: "history" for file in self.files} | {ids[self.video]: "target"}
        clips: JSON = [[clip.video_id, clip.start, clip.end] for clip in annotations]
        return Catalog(
            name=f"video-{fingerprint([ids[self.video], clips])}",
            videos=tuple(Video(video_id) for video_id in sorted(roles)),
            users=(User(USER_ID, "test"),),
            links=tuple(Link(USER_ID, video_id, role) for video_id, role in roles.items()),
            annotations=annotations,
            shard_count=1,
            time_unit="seconds",
            origin={"reader": "HighlightVideo"},
        )


def parse_request(video: str, model: str, history: tuple[str, ...]) -> HighlightRequest:
    """Check the options. Raises SettingsError with all faults: absent files, invalid clips."""
    faults, liked = [], []
    for text in history:
        clip = _parse_clip(text)
        if clip is None:
            faults.append(
                f"--history takes FILE:START-END in seconds, with commas between; got {text!r}"
            )
        else:
            liked.append(clip)
    request = HighlightRequest(Path(video), Path(model), tuple(liked))
    faults += _request_faults(request)
    if faults:
        raise SettingsError(tuple(faults))
    return request


def _parse_clip(text: str) -> LikedClip | None:
    match = _LIKED_CLIP.fullmatch(text)
    if match is None:
        return None
    clip = LikedClip(Path(match[1]), float(match[2]), float(match[3]))
    return clip if clip.start < clip.end else None


def _request_faults(request: HighlightRequest) -> Iterator[str]:
    for file in (*request.files, request.model):
        if not file.is_file():
            yield f"there is no file {file}"
    yield from _name_faults(request.files)
    liked_files = {clip.file for clip in request.liked}
    if request.video in liked_files:
        yield "--history takes clips of other videos, not of the one whose highlights are wanted"


def _name_faults(files: Iterable[Path]) -> Iterator[str]:
    suffixes = " ".join(SUFFIXES)
    for file in files:
        if file.suffix.lower() not in SUFFIXES:
            yield f"{file} is not a video by its name; videos end in {suffixes}"


class HighlightVideo(luigi.Task):
    """Finds the highlights of one video file for a user who liked clips of other videos.

    Complete when the reel is there.
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
        check_before_start(self._check)

    def _check(self) -> None:
        if not 0 < self.seconds <= MAX_REEL_SECONDS:
            raise SettingsError(
                (f"--seconds must be above 0, and at most {MAX_REEL_SECONDS}; got {self.seconds}",)
            )
        if self.reel:
            from pipeline.media.reel import check_place  # brings PyAV, which help does not need

            check_place(Path(self.reel))
        check_time_origins(self._layout(self.request()))

    def _layout(self, request: HighlightRequest) -> Layout:
        return Layout(self.settings.layout.root, request.catalog().name)

    @property
    def settings(self) -> Settings:
        """All of `workflows.cfg`, checked: data folder, decoding and weights apply here too."""
        return load_settings("sample")

    def request(self) -> HighlightRequest:
        """The checked options of this task."""
        return parse_request(self.video, self.model, self.history)

    def reel_path(self) -> Path:
        """Where the reel is written."""
        if self.reel:
            return Path(self.reel)
        request = self.request()
        name = f"reel-{fingerprint([digest(request.model), float(self.seconds)])}.mp4"
        return self._layout(request).report / name

    def complete(self) -> bool:
        """Whether the reel is there; if so, print where."""
        # Luigi asks this before anything runs, and prints nothing about a finished task.
        reel = self.reel_path()
        if not reel.is_file():
            return False
        progress.print_line(f"reel     {reel} (cut by an earlier run; its timeline lies beside it)")
        return True

    def run(self) -> None:
        """Extract features, rank the segments, draw the timeline, cut the reel, print results."""
        from pipeline.media.reel import cut_reel
        from trainer.inference.predict import UserHistory, predict
        from trainer.plots.prediction_report import format_prediction, save_prediction
        from trainer.training.fit import load_trained_model

        request, device = self.request(), resolve_device(self.settings.device)
        settings = highlight_settings(request, self.settings)
        folder = settings.layout.folder
        with SHUTDOWN.interruptible():
            extract_features(settings, request)
        model = load_trained_model(request.model, folder, device)
        history = UserHistory.of_user(USER_ID) if request.liked else UserHistory()
        prediction = predict(model, request.ids()[request.video], history)
        reel = self.reel_path()
        cut_reel(request.video, prediction.best(self.seconds), reel)
        best_count = prediction.best_count(self.seconds)
        json_file, picture = save_prediction(prediction, folder, best_count)
        for line in format_prediction(prediction, best_count):
            progress.print_line(line)
        progress.print_line(f"json     {json_file}")
        progress.print_line(f"picture  {picture}")
        progress.print_line(f"reel     {reel}")
        progress.print_line(f"length   {prediction.describe_length(self.seconds)}")


def highlight_settings(request: HighlightRequest, settings: Settings) -> Settings:
    """`settings` for a catalog of these videos and the features that the network reads.

    Writes the catalog, and links the files into its sources.
    """
    from trainer.training.checkpoint import read_checkpoint

    catalog = request.catalog()
    layout = Layout(settings.layout.root, catalog.name)
    descriptions = read_checkpoint(request.model).about["trained_on"]
    weights = WeightsFolder(layout.weights)
    variants = [_variant(name, description, weights) for name, description in descriptions.items()]
    if "frames" not in descriptions:
        # Pictures cost little, and a timeline with them is easier to read.
        variants += [variant for variant in settings.variants if variant.name == "frames"]
    write_catalog(layout, catalog)
    source = dataclasses.replace(settings.source, template=str(_link_videos(layout, request)))
    return dataclasses.replace(settings, layout=layout, source=source, variants=tuple(variants))


def _variant(name: str, description: Mapping[str, JSON], weights: WeightsFolder) -> Variant:
    """The described variant, with the files that `workflows.cfg` names for its extractor."""
    configured = _configured_values(str(description.get("extractor")))
    weights_name = configured.get("weights")
    if weights_name and random_seed(weights_name) is None:
        configured["weights"] = str(weights.resolve(weights_name))
    return variant_from_description(
        name, description, configured=configured, converted=weights.converted
    )


def _configured_values(extractor: str) -> dict[str, str]:
    """The section of an extractor in `workflows.cfg`; empty if there is no such extractor."""
    section: Any = plugin_section(extractor)
    if section is None:
        return {}
    values = section()
    return {key: str(getattr(values, key)) for key, _ in section.get_params()}


def _link_videos(layout: Layout, request: HighlightRequest) -> Path:
    """A folder with a link to each file, named by its id."""
    folder = layout.sources
    folder.mkdir(parents=True, exist_ok=True)
    for file, video_id in request.ids().items():
        link = folder / f"{video_id}{file.suffix}"
        if not link.exists():  # also true of a link whose target was moved
            link.unlink(missing_ok=True)
            link.symlink_to(file.absolute())
    return folder


def extract_features(settings: Settings, request: HighlightRequest) -> None:
    """Build the features of all files. Raises SettingsError if a file has none."""
    catalog = load_catalog(settings.layout)
    job = shard_job(settings, catalog, 0)
    if not job.is_complete():
        progress.PROGRESS.plan(dict.fromkeys(job.todo()))
        sources = VideoSources(settings, catalog, progress.log_line)
        extract_shard(settings, job, on_video=_on_video, sources=sources, run_name="highlight")
        progress.PROGRESS.close()
    faults = list(_missing_features(settings, request))
    if not faults:
        faults += _clips_beyond_the_end(settings, request)
    if faults:
        raise SettingsError(tuple(faults))


def _missing_features(settings: Settings, request: HighlightRequest) -> Iterator[str]:
    store = FeatureStore(settings.layout.folder)
    for variant in settings.variants:
        reader = store[variant.full_name]
        for file, video_id in request.ids().items():
            if video_id not in reader:
                status = reader.statuses[video_id]
                reason = f"{status.state}:{status.reason} {status.detail}"
                yield f"{file} gives no {variant.name}: {reason}"


def _clips_beyond_the_end(settings: Settings, request: HighlightRequest) -> Iterator[str]:
    """A sentence for each liked clip that begins where its video has ended."""
    store, ids = FeatureStore(settings.layout.folder), request.ids()
    reader = store[settings.variants[0].full_name]
    for clip in request.liked:
        decode = reader.entry(ids[clip.file]).facts.get("decode")
        end_seconds = decode.get("end_seconds") if isinstance(decode, dict) else None
        if isinstance(end_seconds, int | float) and clip.start >= end_seconds:
            yield (
                f"the liked clip {clip.file}:{clip.start:g}-{clip.end:g} begins after the video's "
                f"end at {end_seconds:.2f} s"
            )


def _on_video(video_id: str, status: VideoStatus) -> None:
    progress.PROGRESS.video_ended(0, video_id, status)
    SHUTDOWN.check()
