"""Catalogs of a user's own videos: which there are, by settings, command line or an earlier build.

`[list.NAME]` declares one. `BuildVideoFeatures --videos PATH` declares one for its process, and
the request that its catalog keeps declares it for every later one.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from luigi.configuration import get_config

from pipeline.datasets.own_videos.settings import OwnVideosSettings
from pipeline.datasets.own_videos.spec import own_dataset
from pipeline.datasets.own_videos.video_ids import readable_part
from pipeline.datasets.registry import DATASETS
from pipeline.download.access.source import SourceSettings
from pipeline.download.playlists import playlist_reader
from storage.base.errors import IntegrityError, LookupFailed, SettingsError
from storage.base.paths import Layout
from storage.catalog.catalog import CATALOG_NAME, Catalog, read_catalog
from tasks.config.luigi_sections import SECTIONS, luigi_section
from tasks.config.sections import SECTION_TYPES

SECTION = "list"
RESERVED = ("weights", "egress", "proofs", "leases")
"""Folders that a data root has beside its catalogs."""
REQUEST_FILE = "asked.json"
"""In the catalog's sources: the settings that the catalog was made from."""


def name_of(path: str) -> str:
    """A name for the catalog of a path: that of the folder or file."""
    last = path.rstrip("/").rpartition("/")[2]
    stem = last if Path(path).is_dir() else last.partition(".")[0] or last
    name = readable_part(stem).lower()
    return name if _is_free(name) else f"{name}-videos"


def _is_free(name: str) -> bool:
    """Whether no dataset and no section of settings has the name."""
    taken = {*DATASETS, *DATASETS.plugin_names(), *SECTIONS, *RESERVED}
    return name not in taken or is_own(name)


def declare_path(path: str, catalog: str) -> str:
    """Declare the catalog of a path given on the command line; returns its name.

    Without a name it is that of the folder or file. Raises SettingsError if a catalog of that name
    was made from another path.
    """
    name = catalog or name_of(path)
    declare(name, dataclasses.replace(settings_of_section(SECTION), path=path))
    kept = _kept_settings(layout_of(name))
    if not catalog and kept is not None and kept.path != SECTION_VALUES[name].path:
        raise SettingsError(
            (
                f"the catalog {name} was made from {kept.path}: add --catalog NAME for a new one, "
                f"or --catalog {name} to add these videos to it",
            )
        )
    return name


def is_own(name: str) -> bool:
    """Whether the name is that of a catalog of one's own videos, declared before."""
    return name in DATASETS and DATASETS[name].is_own


def declare(name: str, settings: OwnVideosSettings) -> None:
    """Make `name` a catalog that every task of this process knows.

    Raises SettingsError for a name that cannot be one, or is that of a dataset.
    """
    if not CATALOG_NAME.fullmatch(name):
        raise SettingsError(
            (f"--catalog is a name of 1 to 64 of a-z 0-9 _ -, such as holiday; got {name!r}",)
        )
    if not _is_free(name):
        raise SettingsError(
            (
                f"{name} is a dataset, a section of settings, or a folder that the data root has "
                "for itself; choose another --catalog NAME",
            )
        )
    if settings.path and "://" not in settings.path:
        # A later command may start in another folder.
        absolute = str(Path(settings.path).expanduser().absolute())
        settings = dataclasses.replace(settings, path=absolute)
    DATASETS[name] = own_dataset(
        settings,
        earlier=lambda: _earlier(layout_of(name)),
        playlist=lambda address: playlist_reader(_listing_source(settings))(address),
    )
    SECTION_VALUES[name] = settings


def _listing_source(settings: OwnVideosSettings) -> SourceSettings:
    """How playlists are asked for: through the proxy and with the cookies of `[download]`."""
    download: Any = SECTIONS["download"]()
    return SourceSettings(
        socket_timeout_seconds=download.socket_timeout_seconds,
        proxy=download.proxy,
        cookies_file=download.cookies_file,
        allow_private=settings.allow_private,
    )


SECTION_VALUES: dict[str, OwnVideosSettings] = {}
"""Name of a declared catalog → its settings."""


def declare_known(catalog: str) -> None:
    """Declare all of `[list.NAME]`, and `catalog` if an earlier build kept its request.

    Raises SettingsError for unreadable settings.
    """
    for section in get_config().sections():
        family, _, name = section.partition(".")
        if family == SECTION and name and not is_own(name):
            declare(name, settings_of_section(section))
    if catalog not in DATASETS and CATALOG_NAME.fullmatch(catalog):
        kept = _kept_settings(layout_of(catalog))
        if kept is not None:
            declare(catalog, kept)


def settings_of_section(section: str) -> OwnVideosSettings:
    """The settings of `[list.NAME]`; what it leaves out is as in `[list]`."""
    base: Any = SECTIONS[SECTION]()
    values: Any = base
    if section != SECTION:
        values = luigi_section(section, SECTION_TYPES[SECTION], base)()
    names = [one.name for one in dataclasses.fields(OwnVideosSettings)]
    return OwnVideosSettings(**{name: getattr(values, name) for name in names})


def layout_of(catalog: str) -> Layout:
    """Where a catalog is kept."""
    data: Any = SECTIONS["data"]()
    return Layout(Path(data.root), catalog)


def _kept_settings(layout: Layout) -> OwnVideosSettings | None:
    """What an earlier build asked for; None for another catalog."""
    try:
        request = json.loads((layout.sources / REQUEST_FILE).read_bytes())
        options = request["own_videos"]
        return OwnVideosSettings(
            path=str(request["annotations"]["videos"]),
            columns=tuple(map(str, options["columns"])),
            playlists=bool(options["playlists"]),
            allow_private=bool(options["allow_private"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _earlier(layout: Layout) -> Catalog | None:
    try:
        return read_catalog(layout.folder)
    except LookupFailed:
        return None
    except IntegrityError as error:
        raise SettingsError((f"the catalog that would be extended is damaged: {error}",)) from error
