"""Sections and keys of a settings file that nothing reads, with the nearest that there are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

import luigi
from luigi.configuration import get_config
from luigi.task_register import Register

from models.registry import PluginError
from models.settings_binding import unknown_name
from pipeline.datasets.registry import DATASETS
from tasks.config import own_catalogs
from tasks.config.luigi_sections import SECTIONS, plugin_section


def unknown_keys(extractors: Iterable[str]) -> Iterator[str]:
    """Misspelt keys and sections.

    Luigi ignores them, and a setting without effect is worse than an error. A section of an unknown
    extractor is not listed if `[extract] extractors` names it too, which is reported there.
    """
    reported = {name.partition(".")[0] for name in extractors}
    config = get_config()
    luigi_sections = {*Register.task_names(), "logging"}
    for section in config.sections():
        try:
            base = _base_section(section)
        except PluginError as error:
            yield str(error)
            continue
        if base is not None:
            known = dict(base.get_params())
            for key in config[section]:
                if key not in known:
                    yield unknown_name(f"[{section}] {key}", key, known)
        elif section not in luigi_sections and reported.isdisjoint(section.split(".")):
            yield _unknown_section(section)


def _unknown_section(name: str) -> str:
    near = difflib.get_close_matches(name, SECTIONS, n=1)
    hint = f"did you mean [{near[0]}]?" if near else f"sections are {', '.join(sorted(SECTIONS))}"
    if not near and "." not in name:
        hint += "; a package may offer it, which is not installed here"
    return f"there is no section [{name}]; {hint}"


def _base_section(name: str) -> type[luigi.Config] | None:
    """The section whose keys this one may have: `[c3d]` for `[sample.c3d]` and `[c3d.dense]`."""
    if name in SECTIONS:
        return SECTIONS[name]
    first, _, second = name.partition(".")
    if first == own_catalogs.SECTION:
        return SECTIONS[first]
    return plugin_section(second if first in DATASETS else first)
