"""Features of one video file in memory, as a build would store them: `extract_features`.

    from pipeline import extract_features

    found = extract_features("clip.mp4", ["c3d"], weights={"c3d": "c3d.pickle"})
    found["c3d"].arrays["fc6"], found["c3d"].spans  # (rows, 4096) float16, (rows, 2) seconds

The file is decoded once, in a sandboxed subprocess, for all extractors. Nothing is written except
temporary files, which are removed.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.extractors.base.contract import Extractor, ExtractorSpec, random_seed
from models.extractors.base.precision import Numerics
from models.extractors.base.sampling import FramesOfSegments
from models.extractors.registry import EXTRACTORS
from models.settings_binding import bind
from pipeline.compute.devices import resolve_device
from pipeline.decoding.worker.subprocess_decoder import SubprocessDecoder
from pipeline.diagnostics.self_test import run_self_test
from pipeline.extraction.process_shard import make_executor
from pipeline.extraction.process_video import VideoResult, process_video
from pipeline.extraction.variant import Variant
from pipeline.media.decode_settings import BACKEND_NAMES, DEFAULT_LIMITS, DecodeLimits
from pipeline.media.media_file import Media, accepted_suffix, digest
from storage.base.errors import SettingsError, SystemicFault, VideoError
from storage.base.paths import VARIANT_NAME
from storage.base.records import JSON, VIDEO_ID, FeatureTrack
from storage.base.video_status import REASONS, VideoStatus

CACHED_NETWORKS = 8
"""Networks that stay in memory, so that a loop over files builds each once."""
TEMPORARY = "video-highlights-"
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
_NOT_IN_AN_ID = re.compile("[^A-Za-z0-9_-]+")


class NoFeatures(VideoError):
    """A file gives no features, for the reason in `status`."""

    def __init__(
        self, video_id: str, status: VideoStatus, path: Path, extractors: tuple[str, ...]
    ) -> None:
        super().__init__(video_id, status)
        # Unpickling calls the class with `args`, so these must be its parameters.
        self.args = (video_id, status, path, extractors)
        self.path = path
        self.extractors = extractors
        """The extractors that have no row of it."""

    def __str__(self) -> str:
        names = ", ".join(self.extractors)
        return f"{self.path} gives no {names}: {self.status}: {REASONS[self.status.reason].meaning}"


@dataclass(frozen=True)
class FileFeatures(Mapping[str, FeatureTrack]):
    """Name of an extractor → its arrays and spans, of one file."""

    path: Path
    tracks: Mapping[str, FeatureTrack]
    descriptions: Mapping[str, Mapping[str, JSON]]
    """Name → everything that shaped its rows, as a store's `settings.json` has it."""
    full_names: Mapping[str, str]
    """Name → `c3d-0123456789ab`: the name that these features have in a store."""
    marks: tuple[str, ...] = ()
    """What a result made of these features must say: which ran with random weights."""
    facts: Mapping[str, JSON] = field(default_factory=dict)
    """What the file is and how it was decoded: its sha256, the probe, the decoder's summary."""

    def __getitem__(self, name: str) -> FeatureTrack:
        """The features of one extractor. KeyError for one that was not asked for."""
        return self.tracks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tracks)

    def __len__(self) -> int:
        return len(self.tracks)

    def __repr__(self) -> str:
        tracks = ", ".join(f"{name}: {track!r}" for name, track in self.tracks.items())
        return f"FileFeatures({str(self.path)!r}, {tracks})"


def extract_features(
    path: Path | str,
    extractors: Sequence[str],
    *,
    weights: Mapping[str, Path | str] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    device: str = "auto",
    limits: Mapping[str, float] | DecodeLimits = DEFAULT_LIMITS,
    backend: str = "pyav",
    video_id: str = "",
) -> FileFeatures:
    """The features of one video file: the rows that a store gets of the same file, bit for bit.

    Bits are equal on the same kind of processor with the same libraries. Networks are built once
    in a process and kept, so several files are a loop. The first use of a network computes its
    known outputs, as a build does, and stops if they differ.

    Args:
        path: the video.
        extractors: names such as `c3d`, also of extractors of other packages; `c3d.dense` is a
            second group of settings of `c3d`.
        weights: extractor → a file, or `random:SEED` to try it without one. Every extractor with a
            network needs an entry; random weights are named in `marks`.
        settings: extractor → its settings, such as `{"yolov5": {"frames_per_second": 1.0}}`;
            defaults for the rest.
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        limits: fields of `DecodeLimits`, such as `{"max_seconds": 7200.0}`: what the video may
            cost.
        backend: the library that decodes: `pyav`, `decord`, `torchcodec` or `nvdec`.
        video_id: the id in the tracks; by default the file's name without its suffix.

    Raises:
        NoFeatures: a VideoError: the file is damaged, no video, too short for an extractor and so
            on. It names the reason and the extractors.
        SettingsError: an argument is wrong, or there is no such file; lists all faults.
        SystemicFault: this machine cannot decode or compute.
    """
    request = _Request(Path(path), tuple(extractors), weights or {}, settings or {})
    faults = [*_faults(device, backend, video_id), *_bind_limits(limits)[1], *request.faults()]
    if faults:
        raise SettingsError(tuple(faults))
    variants = request.variants()
    has_networks = any(variant.spec.needs_weights for variant in variants)
    device = resolve_device(device) if has_networks else "cpu"
    video_id = video_id or _id_of(request.path)
    networks = [(variant, _network(variant, device)) for variant in variants]
    with (
        SubprocessDecoder(backend, _bind_limits(limits)[0]) as decoder,
        make_executor(device, has_networks=has_networks) as executor,
    ):
        media = _media(request.path, video_id)
        results = process_video(video_id, media, networks, decoder, executor.compute)
    return _features(request.path, video_id, variants, results)


def _network(variant: Variant, device: str) -> Extractor:
    _pass_self_test(variant.spec, variant.numerics, device)
    # With the fingerprint: another file under the same name is another network.
    return _built(variant, variant.fingerprint(), device)


@functools.cache
def _pass_self_test(spec: ExtractorSpec, numerics: Numerics, device: str) -> None:
    """Once in a process: a build keeps a record of it on disk, and here nothing is kept."""
    with tempfile.TemporaryDirectory(prefix=TEMPORARY) as folder:
        run_self_test(spec, device, Path(folder), numerics)


@functools.lru_cache(maxsize=CACHED_NETWORKS)
def _built(variant: Variant, _fingerprint: str, device: str) -> Extractor:
    with tempfile.TemporaryDirectory(prefix=TEMPORARY) as folder:
        return dataclasses.replace(variant, converted_folder=Path(folder)).build(device)


def _media(path: Path, video_id: str) -> Media | VideoError:
    """The file as a build fetches it: with its digest, if it begins like a video."""
    try:
        accepted_suffix(path, video_id)
        return Media(path, digest(path), path.stat().st_size)
    except VideoError as error:
        return error
    except OSError as error:
        raise SystemicFault(f"{path} cannot be read: {error.strerror or error}") from error


def _features(
    path: Path, video_id: str, variants: Sequence[Variant], results: Sequence[VideoResult]
) -> FileFeatures:
    tracks: dict[str, FeatureTrack] = {}
    failed: dict[str, VideoStatus] = {}
    facts: dict[str, JSON] = {}
    for variant, result in zip(variants, results, strict=True):
        facts |= result.facts
        if result.track is None:
            failed[variant.name] = result.status
        else:
            tracks[variant.name] = result.track
    if failed:
        first = next(iter(failed.values()))
        alike = tuple(name for name, status in failed.items() if status == first)
        raise NoFeatures(video_id, first, path, alike)
    descriptions = {variant.name: variant.description() for variant in variants}
    full_names = {variant.name: variant.full_name for variant in variants}
    return FileFeatures(path, tracks, descriptions, full_names, tuple(_marks(variants)), facts)


def _marks(variants: Sequence[Variant]) -> Iterator[str]:
    for variant in variants:
        if variant.weights and random_seed(variant.weights) is not None:
            yield (
                f"{variant.full_name} ran with {variant.weights} weights: no result about real "
                "videos"
            )


@dataclass(frozen=True)
class _Request:
    """What is asked of one file. Both methods go through all extractors, and find all faults."""

    path: Path
    extractors: tuple[str, ...]
    weights: Mapping[str, Path | str]
    settings: Mapping[str, Mapping[str, Any]]

    def faults(self) -> list[str]:
        """What is wrong with it, one sentence each."""
        found = list(self._names_faults())
        if not self.path.is_file():
            found.append(f"there is no file {self.path}")
        for name in dict.fromkeys(self.extractors):
            try:
                self._variant(name)
            except SettingsError as error:
                found += error.faults
        return found

    def variants(self) -> list[Variant]:
        """One for each extractor, in order."""
        return [self._variant(name) for name in self.extractors]

    def _names_faults(self) -> Iterator[str]:
        is_repeated = len(set(self.extractors)) != len(self.extractors)
        if not self.extractors or is_repeated:
            listed = ", ".join(self.extractors) or "none"
            yield f"extractors must be a list of names, each once; got {listed}"
        for what, given in (("weights", self.weights), ("settings", self.settings)):
            for name in sorted(given.keys() - {*self.extractors}):
                yield f"{what} names {name!r}, which is not one of the extractors"

    def _variant(self, name: str) -> Variant:
        """The variant of one name. Raises SettingsError."""
        spec = _spec(name)
        bound = bind(spec.settings_type, self.settings.get(name, {}), where=f"settings[{name!r}] ")
        if bound.settings is None:
            raise SettingsError(bound.faults)
        try:
            variant = Variant(name, spec, bound.settings, self._weights_of(name, spec))
        except ValueError as error:
            raise SettingsError((f"{name}: {error}",)) from error
        if isinstance(variant.sampling, FramesOfSegments):
            raise SettingsError(
                (
                    f"{name} has a row for each annotated segment of a catalog, and one file has "
                    "none; use another sampling",
                )
            )
        return variant

    def _weights_of(self, name: str, spec: ExtractorSpec) -> str:
        given = str(self.weights.get(name, ""))
        if not spec.needs_weights and given:
            raise ValueError(f"it has no network and takes no weights; got {given!r}")
        if not spec.needs_weights:
            return ""
        if not given:
            raise ValueError(
                f"it needs weights={{{name!r}: FILE}}; `python -m pipeline weights list` shows "
                "where published files are. random:0 tries it with random weights, whose features "
                "say nothing about videos"
            )
        if random_seed(given) is None and not Path(given).is_file():
            raise ValueError(f"there is no weights file {given!r}; give a path or random:SEED")
        return given


def _spec(name: str) -> ExtractorSpec:
    if not VARIANT_NAME.fullmatch(name):
        raise SettingsError((f"an extractor is named like c3d or c3d.dense; got {name!r}",))
    base = name.partition(".")[0]
    try:
        spec = EXTRACTORS[base]
        EXTRACTORS.check_name(base)
    except (KeyError, ValueError) as error:  # PluginError is a ValueError
        # KeyError puts quotes around its message, so take the message itself.
        raise SettingsError((str(error.args[0]),)) from error
    return spec


def _faults(device: str, backend: str, video_id: str) -> Iterator[str]:
    if not _DEVICE.fullmatch(device):
        yield f"device must be auto, cpu, cuda, or like cuda:1; got {device!r}"
    if backend not in BACKEND_NAMES:
        yield f"backend must be one of {', '.join(BACKEND_NAMES)}; got {backend!r}"
    if video_id and not VIDEO_ID.fullmatch(video_id):
        yield f"a video id is 1 to 64 of A-Z a-z 0-9 _ -, got {video_id!r}"


def _bind_limits(
    limits: Mapping[str, float] | DecodeLimits,
) -> tuple[DecodeLimits, tuple[str, ...]]:
    """The limits, and what is wrong with them; then the limits are the defaults."""
    if isinstance(limits, DecodeLimits):
        return limits, ()
    bound = bind(DecodeLimits, limits, where="limits: ")
    return bound.settings or DEFAULT_LIMITS, bound.faults


def _id_of(path: Path) -> str:
    """The valid characters of a file's name."""
    return _NOT_IN_AN_ID.sub("-", path.stem)[:64] or "video"
