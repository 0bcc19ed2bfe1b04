"""The sections of a settings file as typed classes: every setting, its default and its meaning.

A settings file lists only what differs. Sections of extractors are their settings classes, and
those of datasets follow from what is published, so a new one needs no change here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, get_args

from models.extractors.base.contract import ExtractorSpec
from models.extractors.registry import EXTRACTORS
from models.registry import PluginError
from models.settings_binding import descriptions
from pipeline.datasets.own_videos.settings import OwnVideosSettings
from pipeline.datasets.registry import DATASETS, DatasetSpec
from storage.base.errors import SettingsError
from tasks.config.cluster_settings import ClusterSettings
from tasks.config.slurm_settings import SlurmSettings


@dataclass(frozen=True)
class DataSection:
    """`[data]`: where everything is kept."""

    root: str = "data"
    """The folder of all catalogs. A relative path starts at the working folder."""
    shards: int = 0
    """Number of shards of a new catalog; it never changes later. 0: about 300 videos per shard, at
    most 400 shards (3 shards for a sample).
    """
    part_megabytes: int = 256
    """Largest size of an HDF5 part. A part holds at least one video."""


@dataclass(frozen=True)
class DownloadSection:
    """`[download]`: where videos come from, and how a site is asked."""

    source: str = "https://www.youtube.com/watch?v={id}"
    """An http(s) address with {id} in it, which yt-dlp downloads, or a folder. Files of a folder
    are used where they are: <id>.mp4 or another video suffix in any case, v_<id>.mp4, the file name
    of the dataset, or "Title [<id>].mp4" as yt-dlp names files. If several match, the first of this
    list is used, mp4 before mkv, webm and others. Each run looks into the folder again: a failed
    video is tried again if there is another file for it; a video that is done stays done.
    """
    max_height: int = 360
    """Preferred height in pixels. The networks read 112 to 800 pixels, so 360 loses nothing."""
    attempts: int = 3
    """Retries: tries of each request before a video is left for a later run. If a failing server
    (5xx) says when to ask again (Retry-After), up to a minute between tries is given.
    """
    socket_timeout_seconds: float = 30.0
    """Read timeout: how long a connection may be silent. Everything before the first byte of a file
    (proxy, redirects, headers) may take four times as long, and so may a whole page.
    """
    proxy: str = ""
    """Like http://user:password@host:3128 or socks5h://host:1080; empty: no proxy. Proxies of the
    environment are ignored. On a shared machine, write a password into a file that only you can
    read, not on the command line.
    """
    cookies_file: str = ""
    """A Netscape cookie file of a throw-away account, readable only by its owner (chmod 600). It is
    copied into memory and never written. Empty: no cookies, which is enough for all videos that are
    not age-restricted.
    """
    videos_per_hour: str = "auto"
    """Rate limit of all processes of a data root together. auto: 250 for YouTube, which blocks at
    about 300, otherwise no limit. 0: no limit.
    """
    max_pause_hours: float = 48.0
    """Circuit breaker: when a site answers "too many requests" or asks for proof of a human, all
    processes wait and then continue. A run that has waited this long in total ends with exit code
    4; no video is marked.
    """
    max_megabytes: int = 4000
    """Larger files are rejected, before the download if the server states the size. A compressed
    body counts with its unpacked size.
    """
    min_bytes_per_second: float = 2000.0
    """A transfer slower than this over a whole socket_timeout_seconds is stopped and tried again.
    The next try continues where it stopped, if the server names the version of the file.
    """
    max_transfer_hours: float = 6.0
    """Longest time of one transfer; then it is stopped and tried again."""


@dataclass(frozen=True)
class DecodeSection:
    """`[decode]`: decoder, parallel decoders, and limits of a video."""

    backend: str = "pyav"
    """pyav, torchcodec, decord or nvdec. pyav brings its own FFmpeg and measured fastest and
    lightest; torchcodec needs FFmpeg's libraries from the system, nvdec an NVIDIA GPU. All give the
    same frames, so features do not depend on the choice; only nvdec hides some damage of damaged
    files.
    """
    videos_at_once: str = "auto"
    """Number of parallel decoders, one process and about 100 MB each. auto: one per core if a GPU
    computes or nothing is computed (frames only), otherwise one per four cores. A kill loses the
    videos in progress. On CPUs the features do not depend on it, byte for byte.
    """
    max_pixels: int = 9_000_000
    """Width times height of a frame; larger videos are rejected before they are decoded."""
    max_seconds: float = 43_200.0
    """Duration; longer videos are rejected before they are decoded."""
    stall_seconds: float = 60.0
    """Heartbeat timeout: a decoder that is silent for this long is killed and its video
    quarantined. Clock time counts while it uses no CPU, CPU time while it does, so a busy machine
    does not matter.
    """
    max_wait_seconds: float = 600.0
    """CPU seconds that a video may take, plus max_wait_ratio for each second of video; then it is
    quarantined.
    """
    max_wait_ratio: float = 2.0
    """CPU seconds added for each second of video that the header declares."""
    max_memory_megabytes: int = 2000
    """Memory of a decoder; beyond it, its video is quarantined."""
    recycle_after_videos: int = 200
    """A decoder process is replaced after this many videos, so that a leak cannot grow."""


@dataclass(frozen=True)
class ExtractSection:
    """`[extract]`: which extractors run, and where."""

    extractors: tuple[str, ...] = ("c3d", "yolov5", "keypoint_rcnn", "tased", "frames")
    """All are fed by one decode. A second group of settings of an extractor has a dot in its name,
    such as c3d.segments, and a section of that name; it lists what differs from the extractor's own
    section.
    """
    random_weights: bool = False
    """For a trial: an extractor whose weights are empty runs with random:0. Its features are marked
    as random and good for trying the pipeline only. Samples always do.
    """
    device: str = "auto"
    """cpu, cuda, cuda:1, and so on. auto: the first GPU if there is one."""


OWN_SECTIONS: dict[str, type[Any]] = {
    "data": DataSection,
    "download": DownloadSection,
    "decode": DecodeSection,
    "extract": ExtractSection,
    "list": OwnVideosSettings,
    "cluster": ClusterSettings,
    "slurm": SlurmSettings,
}
SETTING_TYPES = ("int", "float", "str", "bool", "tuple[str, ...]")
"""Types of a setting that a settings file can hold."""
WEIGHTS_HELP = (
    "A file, a name of `python -m pipeline weights list`, or random:SEED for a trial run whose "
    "features are marked as random. Empty: random:0 for samples, an error for any other catalog."
)


def dataset_section(name: str, spec: DatasetSpec) -> type[Any]:
    """`[phd2]` and so on: one setting for each published file, all empty by default."""
    fields = [(file.setting, str, dataclasses.field(default="")) for file in spec.files.values()]
    return dataclasses.make_dataclass(f"{name} section", fields, frozen=True)


def extractor_section(spec: ExtractorSpec) -> type[Any]:
    """`[c3d]` and so on: the extractor's settings, and `weights` if it needs any.

    Raises PluginError for settings that are not a frozen dataclass, or that a settings file cannot
    hold.
    """
    kind = spec.settings_type
    if not dataclasses.is_dataclass(kind) or not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise PluginError(
            f"extractor {spec.name}: {kind.__name__} must be a frozen dataclass; "
            "write @dataclass(frozen=True) above it"
        )
    for field in dataclasses.fields(kind):
        fault = _setting_fault(field)
        if fault:
            raise PluginError(f"extractor {spec.name}: {kind.__name__}.{field.name} {fault}")
    if not spec.needs_weights:
        return spec.settings_type
    weights = [("weights", "str", dataclasses.field(default=""))]
    return dataclasses.make_dataclass(
        f"{spec.name} section", weights, bases=(spec.settings_type,), frozen=True
    )


def type_name(field: dataclasses.Field[Any]) -> str:
    """The type of a setting as its class writes it, such as `float` or `tuple[str, ...]`."""
    if isinstance(field.type, str):
        return field.type
    return str(field.type) if get_args(field.type) else field.type.__name__


def _setting_fault(field: dataclasses.Field[Any]) -> str:
    """Why a settings file cannot hold this setting; empty if it can."""
    if type_name(field) not in SETTING_TYPES:
        return f"has the type {type_name(field)}; settings are {', '.join(SETTING_TYPES)}"
    if field.default is dataclasses.MISSING:
        return "has no default; write one behind it, as in `frames_per_second: float = 1.0`"
    return ""


SECTION_TYPES: dict[str, type[Any]] = {
    **OWN_SECTIONS,
    **{
        name: dataset_section(name, spec)
        for name, spec in DATASETS.items()
        if not spec.is_synthetic
    },
    **{name: extractor_section(spec) for name, spec in EXTRACTORS.items()},
}
"""Section → its class. Luigi's own sections (core, worker, retcode, ...) are not listed."""


def section_descriptions(name: str) -> dict[str, str]:
    """Setting → what it means, of one section."""
    if name in DATASETS:
        return {file.setting: file.description for file in DATASETS[name].files.values()}
    return extractor_descriptions(SECTION_TYPES[name])


def extractor_descriptions(kind: type[Any]) -> dict[str, str]:
    """Setting → what it means, of a section's class; `weights` is the same for every extractor."""
    found = descriptions(kind)
    for field in dataclasses.fields(kind):
        default = WEIGHTS_HELP if field.name == "weights" else "Not described."
        found.setdefault(field.name, default)
    return found


def plugin_section_names() -> tuple[str, ...]:
    """The sections that installed packages offer, ascending; imports none of them."""
    return tuple(sorted({*EXTRACTORS.plugin_names(), *DATASETS.plugin_names()}))


def section_types_of(names: Iterable[str]) -> dict[str, type[Any]]:
    """Section → its class, of extractors and datasets by name, ours and those of plug-ins.

    Imports the plug-ins. Raises PluginError, and SettingsError for an unknown name.
    """
    types = {}
    for name in dict.fromkeys(names):
        if name in SECTION_TYPES:
            types[name] = SECTION_TYPES[name]
            continue
        if name in DATASETS.plugin_names():
            types[name] = dataset_section(name, DATASETS[name])
            continue
        try:
            types[name] = extractor_section(EXTRACTORS.chosen(name))
        except KeyError as error:
            raise SettingsError((str(error.args[0]),)) from error
    return types
