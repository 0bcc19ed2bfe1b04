"""`workflows.cfg` → the frozen dataclasses of the other packages, with every fault found at once.

The only place where settings are read. Nothing below `tasks` opens a configuration file or looks at
the environment.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import luigi
from luigi.configuration import get_config
from luigi.parameter import ParameterException
from luigi.task_register import Register

from models.extractors.base.contract import random_seed
from models.extractors.registry import EXTRACTORS
from pipeline.datasets.registry import DATASETS
from pipeline.decoding.video_reader import BACKENDS
from pipeline.download.access.source import SourceSettings
from pipeline.extraction.variant import Variant
from pipeline.media.probe import DecodeLimits
from pipeline.synthetic.category_videos import write_category_sample
from pipeline.synthetic.user_videos import LARGE, SMALL, Progress, write_sample
from pipeline.weights.weights_folder import WeightsFolder
from storage.base.errors import SettingsError
from storage.base.paths import VARIANT_NAME, Layout, folder_faults
from storage.catalog.catalog import Catalog
from tasks.config.cluster_settings import ClusterSettings
from tasks.config.luigi_sections import SECTIONS, extractor_section
from tasks.config.luigi_values import value_faults
from tasks.config.slurm_settings import SlurmSettings

SAMPLES: dict[str, Callable[[Path, Progress], None]] = {
    "sample": lambda folder, progress: write_sample(folder, SMALL, progress=progress),
    "sample-large": lambda folder, progress: write_sample(folder, LARGE, progress=progress),
    "category-sample": lambda folder, progress: write_category_sample(folder, progress=progress),
}
"""Catalogs that are drawn on this machine: name → what draws them into a folder."""
PHD2 = "phd2"
SAMPLE_WEIGHTS = "random:0"
MOST_AT_ONCE = 256
"""Decode processes of one shard. Each has pipes and shared memory, and a process may open about
1,000 files.
"""


@dataclass(frozen=True)
class Settings:
    """Everything a run needs to know, checked."""

    layout: Layout
    shard_count: int
    """0: let the catalog's size decide."""
    part_bytes: int
    annotations: dict[str, str]
    """Role of a published file → its path or address; empty for the sample."""
    source: SourceSettings
    limits: DecodeLimits
    backend: str
    recycle_after_videos: int
    videos_at_once: int
    """0: as many as the device and the cores suggest."""
    device: str
    variants: tuple[Variant, ...]
    cluster: ClusterSettings
    slurm: SlurmSettings

    def variants_of(self, catalog: Catalog) -> tuple[Variant, ...]:
        """The variants as they are for this catalog: one whose rows are annotated segments is told
        which.
        """
        return tuple(variant.of_catalog(lambda: catalog.segments) for variant in self.variants)


def front_door_catalog() -> str:
    """`phd2` if its annotations are configured (or unreadable, which `load` then tells), else the
    embedded sample.
    """
    if list(value_faults(PHD2, dict(SECTIONS[PHD2].get_params()))):
        return PHD2
    section: Any = SECTIONS[PHD2]()
    return PHD2 if section.training or section.testing else "sample"


def load(catalog: str) -> Settings:
    """All settings for one catalog. Raises SettingsError with every fault there is."""
    faults = _Faults()
    faults += _unknown_keys()
    if catalog not in DATASETS:
        faults.append(f"no dataset is called {catalog!r}; known are {', '.join(sorted(DATASETS))}")
    with _for_this_catalog(catalog) as written_in:
        sections = {
            name: faults.read(name, SECTIONS[name], written_in.get(name, {})) for name in SECTIONS
        }
    loaded: Settings | None = None
    if all(sections.values()):
        loaded = faults.build("data", lambda: _assemble(catalog, sections, faults))
    if faults or loaded is None:
        raise SettingsError(tuple(faults))
    return loaded


def faults_of(catalog: str) -> tuple[str, ...]:
    """Everything wrong with the settings for one catalog."""
    try:
        load(catalog)
    except SettingsError as error:
        return error.faults
    return ()


@contextmanager
def _for_this_catalog(catalog: str) -> Iterator[Mapping[str, Mapping[str, str]]]:
    """Inside, `[sample.c3d]` speaks before `[c3d]`, and the command line before both.

    Section → its keys that another section speaks for, each with the name of that.
    """
    config = get_config()
    kept: list[tuple[str, str, str]] = []
    written_in: dict[str, dict[str, str]] = defaultdict(dict)
    for section in config.sections():
        owner, _, name = section.partition(".")
        if owner != catalog or name not in SECTIONS:
            continue
        for key in sorted(set(config[section]) & set(config[name])):
            kept.append((name, key, config.get(name, key, raw=True)))
            config.set(name, key, config.get(section, key, raw=True))
            written_in[name][key] = section
    try:
        yield written_in
    finally:
        for name, key, value in kept:
            config.set(name, key, value)


class _Faults(list[str]):
    """Collects one sentence per fault, so that a person mends them all in one go."""

    @contextmanager
    def catching(self, section: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError, ParameterException) as error:
            self.append(f"[{section}] {error.args[0] if error.args else error}")

    def read(self, name: str, section: type[luigi.Config], written_in: Mapping[str, str]) -> Any:
        """The values of a section; None, and each unreadable value as a fault, if there are any."""
        unreadable = list(value_faults(name, dict(section.get_params()), written_in=written_in))
        self += unreadable
        return None if unreadable else section()

    def build(self, section: str, make: Any) -> Any:
        with self.catching(section):
            return make()
        return None


def _assemble(catalog: str, sections: dict[str, Any], faults: _Faults) -> Settings:
    data, download, decode = sections["data"], sections["download"], sections["decode"]
    faults += [f"[data] root {fault}" for fault in folder_faults(data.root)]
    layout = Layout(Path(data.root), catalog)
    template = str(sample_videos(layout)) if catalog in SAMPLES else download.source
    source = _source(template, download, faults)
    if catalog not in SAMPLES:
        faults += [f"[download] {fault}" for fault in source.faults()]
    published = catalog in DATASETS and catalog not in SAMPLES
    annotations = _annotations(catalog, sections[catalog]) if published else {}
    if published:
        faults += _missing(catalog, annotations)
    if published and source.is_youtube and not DATASETS[catalog].on_youtube:
        faults.append(
            f"[download] source is YouTube, which has not {catalog}'s videos: name the folder they lie in"
        )
    if data.shards < 0 or data.part_megabytes < 1:
        faults.append(
            f"[data] shards is 0 or more, part_megabytes 1 or more; got {data.shards}, {data.part_megabytes}"
        )
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", sections["extract"].device):
        faults.append(
            f"[extract] device is auto, cpu, cuda or cuda:1 and so on; got {sections['extract'].device!r}"
        )
    if decode.backend not in BACKENDS:
        faults.append(f"[decode] backend is one of {', '.join(BACKENDS)}, got {decode.backend!r}")
    return Settings(
        layout=layout,
        shard_count=data.shards,
        part_bytes=data.part_megabytes * 1_000_000,
        annotations=annotations,
        source=source,
        limits=faults.build("decode", lambda: _limits(decode)),
        backend=decode.backend,
        recycle_after_videos=decode.recycle_after_videos,
        videos_at_once=faults.build("decode", lambda: _videos_at_once(decode.videos_at_once)) or 0,
        device=sections["extract"].device,
        variants=tuple(_variants(catalog, sections, faults)),
        cluster=_same_fields("cluster", ClusterSettings, sections, faults),
        slurm=_same_fields("slurm", SlurmSettings, sections, faults),
    )


def _same_fields(name: str, kind: Any, sections: dict[str, Any], faults: _Faults) -> Any:
    """A section whose keys are the fields of a dataclass that knows its own faults."""
    made = kind(
        **{field.name: getattr(sections[name], field.name) for field in dataclasses.fields(kind)}
    )
    faults += [f"[{name}] {fault}" for fault in made.faults()]
    return made


def _source(template: str, download: Any, faults: _Faults) -> SourceSettings:
    source = SourceSettings(
        template,
        download.max_height,
        download.attempts,
        download.socket_timeout_seconds,
        proxy=download.proxy,
        cookies_file=download.cookies_file,
        max_bytes=download.max_megabytes * 1_000_000,
        min_bytes_per_second=download.min_bytes_per_second,
        transfer_seconds=download.max_transfer_hours * 3600,
    )
    pace = dataclasses.replace(source.pace, max_paused_seconds=download.max_pause_hours * 3600)
    if download.videos_per_hour != "auto":
        per_hour = faults.build("download", lambda: _videos_per_hour(download.videos_per_hour))
        pace = dataclasses.replace(pace, videos_per_hour=per_hour or 0.0)
    if not download.max_pause_hours >= 0:
        faults.append(f"[download] max_pause_hours is 0 or more, got {download.max_pause_hours}")
    return dataclasses.replace(source, asked_pace=pace)


def _videos_at_once(text: str) -> int:
    if text == "auto":
        return 0
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= MOST_AT_ONCE:
        raise ValueError(
            f"videos_at_once is auto, or a whole number from 1 to {MOST_AT_ONCE}; got {text!r}"
        )
    return int(text)


def _videos_per_hour(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", text):
        raise ValueError(
            f"videos_per_hour is auto, 0 for no limit, or a number above it; got {text!r}"
        )
    return float(text)


def _limits(decode: Any) -> DecodeLimits:
    return DecodeLimits(
        max_pixels=decode.max_pixels,
        max_seconds=decode.max_seconds,
        stall_seconds=decode.stall_seconds,
        max_wait_seconds=decode.max_wait_seconds,
        max_wait_ratio=decode.max_wait_ratio,
        max_memory_bytes=decode.max_memory_megabytes * 1_000_000,
    )


def sample_videos(layout: Layout) -> Path:
    """The folder the sample's generator writes its videos to."""
    return layout.sources


def _annotations(catalog: str, section: Any) -> dict[str, str]:
    places = {
        role: str(getattr(section, file.setting)) for role, file in DATASETS[catalog].files.items()
    }
    return {role: place for role, place in places.items() if place}


def _missing(catalog: str, annotations: dict[str, str]) -> Iterator[str]:
    """What a dataset cannot be read without."""
    files = DATASETS[catalog].files
    for role, published in files.items():
        if published.required and role not in annotations:
            what = (
                "the folder of published files, or a ZIP of it"
                if published.pattern
                else "the published file"
            )
            yield f"[{catalog}] {published.setting} is empty; name {what} (from {DATASETS[catalog].url})"
    for role, place in annotations.items():
        if "://" not in place and not Path(place).exists():
            yield f"[{catalog}] {files[role].setting} {place!r} does not exist; mend the path"
    if not annotations and not any(published.required for published in files.values()):
        settings = " and ".join(published.setting for published in files.values())
        yield f"[{catalog}] {settings} are all empty; name the published files, or build the sample"


def _variants(catalog: str, sections: dict[str, Any], faults: _Faults) -> Iterator[Variant]:
    names = sections["extract"].extractors
    if not names or len(set(names)) != len(names):
        faults.append(
            f"[extract] extractors names at least one extractor, each once; got {', '.join(names) or 'none'}"
        )
    for name in names:
        variant = faults.build(name, lambda name=name: _variant(name, catalog, sections, faults))
        if variant is not None:
            yield variant


def _variant(name: str, catalog: str, sections: dict[str, Any], faults: _Faults) -> Variant | None:
    if not VARIANT_NAME.fullmatch(name):
        raise ValueError(
            f"an extractor is named like c3d, a second group of settings like c3d.dense; got {name!r}"
        )
    spec = EXTRACTORS[name.partition(".")[0]]
    own: Any = sections[spec.name]
    section = (
        own if name == spec.name else faults.read(name, extractor_section(name, spec.name, own), {})
    )
    if section is None:
        return None
    fields = [field.name for field in dataclasses.fields(spec.settings_type)]
    chosen = spec.settings_type(**{field: getattr(section, field) for field in fields})
    folder = WeightsFolder(Layout(Path(sections["data"].root), catalog).weights)
    weights = _weights(name, section.weights, catalog, folder) if spec.needs_weights else ""
    return Variant(name, spec, chosen, weights, folder.converted)


def _weights(name: str, weights: str, catalog: str, folder: WeightsFolder) -> str:
    if not weights and catalog in SAMPLES:
        return SAMPLE_WEIGHTS
    if not weights:
        raise ValueError(
            f"weights is empty, and {catalog} is real video: {folder.advice(name.partition('.')[0])}, then name them "
            f"with --{name.replace('.', '-')}-weights; or write random:SEED for a dry run whose features say so"
        )
    return weights if random_seed(weights) is not None else str(folder.resolve(weights))


def _unknown_keys() -> Iterator[str]:
    """Misspelt keys and sections: Luigi lets them pass, and a setting that does nothing is worse
    than an error.
    """
    config = get_config()
    theirs = {*Register.task_names(), "logging"}
    for section in config.sections():
        first, _, second = section.partition(".")
        base = SECTIONS.get(section) or SECTIONS.get(second if first in DATASETS else first)
        if base is not None:
            known = {name for name, _ in base.get_params()}
            for key in config[section]:
                if key not in known:
                    yield f"[{section}] has no setting {key!r}; it has {', '.join(sorted(known))}"
        elif section not in theirs:
            yield f"there is no section [{section}]; sections are {', '.join(sorted(SECTIONS))}"
