"""Reads `workflows.cfg` into the frozen dataclasses of the other packages.

All faults are found at once. This is the only place where settings are read: no package below
`tasks` opens a configuration file or reads the environment.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import luigi
from luigi.configuration import get_config
from luigi.parameter import ParameterException

from models.extractors.base.contract import ExtractorSpec, random_seed
from models.extractors.golden.golden_outputs import GoldenMissing, golden_advice, known_outputs
from models.extractors.registry import EXTRACTORS
from models.registry import PluginError
from models.settings_binding import bind
from pipeline.datasets.registry import DATASETS, dataset_spec
from pipeline.download.access.source import SourceSettings
from pipeline.extraction.variant import Variant
from pipeline.media.decode_settings import BACKEND_NAMES, DecodeLimits
from pipeline.weights.weights_folder import WeightsFolder
from storage.base.errors import LookupFailed, SettingsError
from storage.base.extras import install_advice
from storage.base.paths import VARIANT_NAME, Layout, folder_faults
from storage.catalog.catalog import Catalog
from tasks.config import own_catalogs
from tasks.config.cluster_settings import ClusterSettings
from tasks.config.luigi_sections import (
    SECTIONS,
    dataset_name_fault,
    extractor_luigi_section,
    plugin_section,
)
from tasks.config.luigi_values import value_faults
from tasks.config.samples import SAMPLES
from tasks.config.slurm_settings import SlurmSettings
from tasks.config.unknown_keys import unknown_keys

PHD2 = "phd2"
SAMPLE_WEIGHTS = "random:0"
MAX_PARALLEL_VIDEOS = 256
"""Decode processes of one shard. Each has pipes and shared memory, and a process may open about
1,000 files.
"""
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
_WHOLE_NUMBER = re.compile(r"[0-9]{1,3}")
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]+)?")
Sections = Mapping[str, Any]
"""Name of a section → its values, as attributes."""


@dataclass(frozen=True)
class Settings:
    """All settings of a run, checked."""

    layout: Layout
    shard_count: int
    """0: the size of the catalog decides."""
    part_bytes: int
    annotations: dict[str, str]
    """Role of a published file → its path or address; empty for a sample."""
    source: SourceSettings
    limits: DecodeLimits
    backend: str
    recycle_after_videos: int
    videos_at_once: int
    """0: the device and the number of cores decide."""
    device: str
    variants: tuple[Variant, ...]
    cluster: ClusterSettings
    slurm: SlurmSettings
    is_own: bool = False
    """Whether the catalog is of a user's own videos, which come from several places."""
    allow_private: bool = True
    """Whether their addresses may be of this machine and of private networks."""

    def variants_of(self, catalog: Catalog) -> tuple[Variant, ...]:
        """The variants for this catalog.

        Where the rows of a variant are annotated segments, it gets those of the catalog.
        """
        return tuple(variant.of_catalog(lambda: catalog.segments) for variant in self.variants)


def front_door_catalog() -> str:
    """`phd2` if its annotations are configured, otherwise the embedded sample.

    Unreadable settings of phd2 count as configured: `load_settings` then reports them.
    """
    if list(value_faults(PHD2, dict(SECTIONS[PHD2].get_params()))):
        return PHD2
    section: Any = SECTIONS[PHD2]()
    is_configured = section.training or section.testing
    return PHD2 if is_configured else "sample"


def load_settings(catalog: str) -> Settings:
    """All settings for one catalog. Raises SettingsError with all faults."""
    faults = _Faults()
    faults += _own_catalog_faults(catalog)
    faults += _dataset_faults(catalog)
    with _overrides_of_catalog(catalog) as written_in:
        sections = {
            name: faults.read(name, section, written_in.get(name, {}))
            for name, section in SECTIONS.items()
        }
        loaded: Settings | None = None
        if catalog in DATASETS:
            loaded = faults.build("data", lambda: _assemble(catalog, sections, faults))
    faults += unknown_keys(sections["extract"].extractors)
    if faults or loaded is None:
        # A plug-in that cannot be used is met both in `extractors` and in its section.
        raise SettingsError(tuple(dict.fromkeys(faults)))
    return loaded


def _own_catalog_faults(catalog: str) -> Iterator[str]:
    """What is wrong with the settings of a user's own videos; declares their catalogs."""
    try:
        own_catalogs.declare_known(catalog)
    except (SettingsError, ParameterException) as error:
        yield from getattr(error, "faults", (str(error),))
    if own_catalogs.is_own(catalog):
        for fault in own_catalogs.SECTION_VALUES[catalog].faults():
            yield f"[list] {fault}"


def _dataset_faults(catalog: str) -> Iterator[str]:
    """What is wrong with the name of a catalog; loads the dataset of a plug-in."""
    if fault := dataset_name_fault(catalog):
        yield fault
        return
    try:
        dataset_spec(catalog)
        DATASETS.check_name(catalog)
        plugin_section(catalog)
    except (LookupFailed, ValueError) as error:  # PluginError is a ValueError
        yield str(error)


def settings_faults(catalog: str) -> tuple[str, ...]:
    """All faults of the settings for one catalog."""
    try:
        load_settings(catalog)
    except SettingsError as error:
        return error.faults
    return ()


@contextmanager
def _overrides_of_catalog(catalog: str) -> Iterator[Mapping[str, Mapping[str, str]]]:
    """Inside, `[sample.c3d]` overrides `[c3d]`; the command line overrides both.

    Yields section → its overridden keys, each with the name of the section it comes from.
    """
    config = get_config()
    originals: list[tuple[str, str, str | None]] = []
    written_in: dict[str, dict[str, str]] = defaultdict(dict)
    for section in config.sections():
        owner, _, name = section.partition(".")
        if owner != catalog or name not in SECTIONS:
            continue
        known = {key for key, _ in SECTIONS[name].get_params()}
        for key in sorted(set(config[section]) & known):
            originals.append((name, key, config.get(name, key, None, raw=True)))
            config.set(name, key, config.get(section, key, raw=True))
            written_in[name][key] = section
    try:
        yield written_in
    finally:
        for name, key, value in originals:
            if value is None:
                config.remove_option(name, key)
            else:
                config.set(name, key, value)


class _Faults(list[str]):
    """One sentence for each fault, so that a person can correct all of them at once."""

    def read(self, name: str, section: type[luigi.Config], written_in: Mapping[str, str]) -> Any:
        """The values of a section; the default, and a fault, for each that is unreadable."""
        defaults = {}
        for key, parameter in section.get_params():
            unreadable = list(value_faults(name, {key: parameter}, written_in=written_in))
            self += unreadable
            if unreadable:
                # The other checks go on, so that one run reports everything.
                defaults[key] = parameter._default
        return section(**defaults)

    def build(self, section: str, make: Callable[[], Any]) -> Any:
        """What `make` returns; None, and a fault, if it raises an error of values."""
        try:
            return make()
        except PluginError as error:
            self.append(str(error))  # not the section is at fault but a package, which is named
            return None
        except (ValueError, KeyError, ParameterException) as error:
            # KeyError puts quotes around its message, so take the message itself.
            self.append(f"[{section}] {error.args[0] if error.args else error}")
            return None


def _assemble(catalog: str, sections: Sections, faults: _Faults) -> Settings:
    """The settings of one catalog; what is wrong is added to `faults`, section by section."""
    data, decode, extract = sections["data"], sections["decode"], sections["extract"]
    faults += [f"[data] root {fault}" for fault in folder_faults(data.root)]
    layout = Layout(Path(data.root), catalog)
    is_dataset = catalog in DATASETS and catalog not in SAMPLES
    source = _source(catalog, layout, sections["download"], faults)
    annotations: dict[str, str] = {}
    if own_catalogs.is_own(catalog):
        annotations = {"videos": own_catalogs.SECTION_VALUES[catalog].path}
        faults += _own_path_faults(annotations["videos"])
    elif is_dataset:
        annotations = _annotations(catalog, sections[catalog])
        faults += _annotation_faults(catalog, annotations)
        faults += _source_faults(catalog, source)
    faults += _data_faults(data)
    faults += _compute_faults(extract.device, decode.backend)
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
        device=extract.device,
        variants=tuple(_variants(catalog, layout, sections, faults)),
        cluster=_section_settings("cluster", ClusterSettings, sections, faults),
        slurm=_section_settings("slurm", SlurmSettings, sections, faults),
        is_own=own_catalogs.is_own(catalog),
        allow_private=not own_catalogs.is_own(catalog)
        or own_catalogs.SECTION_VALUES[catalog].allow_private,
    )


def _data_faults(data: Any) -> Iterator[str]:
    if data.shards < 0:
        yield f"[data] shards must be 0 or more; got {data.shards}"
    if data.part_megabytes < 1:
        yield f"[data] part_megabytes must be 1 or more; got {data.part_megabytes}"


def _compute_faults(device: str, backend: str) -> Iterator[str]:
    if not _DEVICE.fullmatch(device):
        yield f"[extract] device must be auto, cpu, cuda, or like cuda:1; got {device!r}"
    if backend not in BACKEND_NAMES:
        yield f"[decode] backend must be one of {', '.join(BACKEND_NAMES)}; got {backend!r}"
    elif backend in ("decord", "torchcodec") and find_spec(backend) is None:
        yield f"[decode] backend = {backend} is not installed: {install_advice(backend)}"


def _source_faults(catalog: str, source: SourceSettings) -> Iterator[str]:
    if source.is_youtube and not DATASETS[catalog].on_youtube:
        yield (
            f"[download] source: {catalog} is not on YouTube; "
            "set source to the folder with its videos"
        )


def _section_settings(name: str, kind: Any, sections: Sections, faults: _Faults) -> Any:
    """The dataclass `kind` of a section whose keys are its fields."""
    section = sections[name]
    values = {field.name: getattr(section, field.name) for field in dataclasses.fields(kind)}
    settings = kind(**values)
    faults += [f"[{name}] {fault}" for fault in settings.faults()]
    return settings


def _source(catalog: str, layout: Layout, download: Any, faults: _Faults) -> SourceSettings:
    """Where videos come from: for a sample, the folder that its generator writes."""
    is_sample = catalog in SAMPLES
    source = SourceSettings(
        str(sample_videos(layout)) if is_sample else download.source,
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
        faults.append(
            f"[download] max_pause_hours must be 0 or more; got {download.max_pause_hours}"
        )
    source = dataclasses.replace(source, pace_override=pace)
    if not is_sample:
        faults += [f"[download] {fault}" for fault in source.faults()]
    return source


def _videos_at_once(text: str) -> int:
    if text == "auto":
        return 0
    is_valid = _WHOLE_NUMBER.fullmatch(text) and 1 <= int(text) <= MAX_PARALLEL_VIDEOS
    if not is_valid:
        raise ValueError(
            f"videos_at_once must be auto, or a whole number from 1 to {MAX_PARALLEL_VIDEOS}; "
            f"got {text!r}"
        )
    return int(text)


def _videos_per_hour(text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise ValueError(
            f"videos_per_hour must be auto, 0 for no limit, or a number above 0; got {text!r}"
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
    """The folder to which the generator of a sample writes its videos."""
    return layout.sources


def _annotations(catalog: str, section: Any) -> dict[str, str]:
    """Role of a published file → its path or address, where one is configured."""
    places = {}
    for role, file in DATASETS[catalog].files.items():
        place = str(getattr(section, file.setting))
        if place:
            places[role] = place
    return places


def _annotation_faults(catalog: str, annotations: Mapping[str, str]) -> Iterator[str]:
    spec = DATASETS[catalog]
    missing = [
        file for role, file in spec.files.items() if file.required and role not in annotations
    ]
    for file in missing:
        wanted = "the published file"
        if file.pattern:
            wanted = "the folder of published files, or a ZIP of it"
        origin = f" (from {spec.url})" if spec.url else ""
        yield f"[{catalog}] {file.setting} is empty; name {wanted}{origin}"
    if not annotations and not missing:
        settings = " and ".join(file.setting for file in spec.files.values())
        yield f"[{catalog}] {settings} are all empty; name the published files, or build the sample"
    yield from _absent_files(catalog, annotations)


def _own_path_faults(path: str) -> Iterator[str]:
    if not path:
        yield (
            "[list] path is empty; name a folder of videos, a list of addresses, or a table: "
            "BuildVideoFeatures --videos PATH"
        )
    elif "://" not in path and not Path(path).expanduser().exists():
        yield f"[list] path {path!r} does not exist; correct it"


def _absent_files(catalog: str, annotations: Mapping[str, str]) -> Iterator[str]:
    for role, place in annotations.items():
        is_address = "://" in place
        if is_address or Path(place).exists():
            continue
        setting = DATASETS[catalog].files[role].setting
        yield f"[{catalog}] {setting} {place!r} does not exist; correct the path"


def _variants(
    catalog: str, layout: Layout, sections: Sections, faults: _Faults
) -> Iterator[Variant]:
    names = sections["extract"].extractors
    is_repeated = len(set(names)) != len(names)
    if not names or is_repeated:
        listed = ", ".join(names) or "none"
        faults.append(f"[extract] extractors must name extractors, each once; got {listed}")
    folder = WeightsFolder(layout.weights)
    for name in dict.fromkeys(names):
        spec = faults.build("extract", functools.partial(_listed_extractor, name))
        make = functools.partial(_variant, name, spec, catalog, folder, sections, faults)
        variant = faults.build(name, make) if spec is not None else None
        if variant is not None:
            yield variant


def _listed_extractor(name: str) -> ExtractorSpec:
    """The extractor of one name in `extractors`."""
    if not VARIANT_NAME.fullmatch(name):
        raise ValueError(
            "extractors: an extractor must be named like c3d, a second group of settings like "
            f"c3d.dense; got {name!r}"
        )
    try:
        return EXTRACTORS.chosen(name.partition(".")[0])
    except KeyError as error:
        raise ValueError(f"extractors: {error.args[0]}") from error


def _variant(
    name: str,
    spec: ExtractorSpec,
    catalog: str,
    folder: WeightsFolder,
    sections: Sections,
    faults: _Faults,
) -> Variant | None:
    """The variant of one name in `extractors`; None if its section is unreadable."""
    section: Any = sections.get(spec.name)
    if section is None:  # a plug-in's, whose section is made when it is first asked for
        plugin_section(spec.name)
        section = faults.read(spec.name, SECTIONS[spec.name], {})
    if name != spec.name:
        section = faults.read(name, extractor_luigi_section(name, spec.name, section), {})
    values = {
        field.name: getattr(section, field.name) for field in dataclasses.fields(spec.settings_type)
    }
    bound = bind(spec.settings_type, values, where=f"[{name}] ")
    faults += bound.faults
    weights = ""
    if spec.needs_weights:
        is_trial = catalog in SAMPLES or sections["extract"].random_weights
        weights = _weights(name, section.weights, catalog, folder, is_trial=is_trial)
    if bound.settings is None:
        return None
    try:
        known_outputs(spec)  # each machine is compared with them before its first video
    except GoldenMissing as error:
        advice = golden_advice(spec, EXTRACTORS.plugin_text(spec.name))
        faults.append(f"[{name}] {error}: {advice}")
        return None
    return Variant(name, spec, bound.settings, weights, folder.converted)


def _weights(
    name: str, weights: str, catalog: str, folder: WeightsFolder, *, is_trial: bool
) -> str:
    if not weights and is_trial:
        return SAMPLE_WEIGHTS
    if not weights:
        advice = folder.advice(name.partition(".")[0])
        raise ValueError(
            f"weights is empty, and {catalog} is real video: {advice}, then name them with "
            f"--{name.replace('.', '-')}-weights; or add --extract-random-weights true for a "
            "trial, whose features are marked as random; or take extractors without weights: "
            "--extract-extractors frames"
        )
    is_random = random_seed(weights) is not None
    return weights if is_random else str(folder.resolve(weights))
