"""The sections of `tasks.config.sections` as Luigi classes.

Through them Luigi reads each setting from a file, or from the command line as `--section-key`. The
meaning of a value is checked in `settings.py`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import luigi
from luigi.task_register import Register

from models.extractors.registry import EXTRACTORS
from pipeline.datasets.registry import DATASETS
from storage.catalog.catalog import CATALOG_NAME
from tasks.config.sections import SECTION_TYPES, dataset_section, extractor_section, type_name


class CommaList(luigi.Parameter[tuple[str, ...]]):
    """`a, b` in the file or on the command line; a tuple of names in code.

    A list in JSON, `["a, b", "c"]`, may hold names with commas.
    """

    def parse(self, value: str) -> tuple[str, ...]:
        """Split at commas; spaces around names do not count. Raises ValueError for other JSON."""
        if value.lstrip().startswith("["):
            names = json.loads(value)
            if all(isinstance(name, str) for name in names):
                return tuple(names)
            raise ValueError(f"a list of texts was expected, got {value[:100]}")
        return tuple(name.strip() for name in value.split(",") if name.strip())

    def serialize(self, value: tuple[str, ...]) -> str:
        """The names, separated by commas; as JSON if one of them has a comma."""
        return json.dumps(value) if any("," in name for name in value) else ", ".join(value)


class TrueOrFalse(luigi.BoolParameter):
    """`true` or `false`, written out on the command line too.

    A flag could not switch off what the file switches on.
    """

    parsing = luigi.BoolParameter.EXPLICIT_PARSING


class FiniteNumber(luigi.FloatParameter):
    """A number, but not infinity or `nan`: no limit or rate can be either."""

    def parse(self, x: str) -> float:
        """The number. Raises ValueError for any other text."""
        value = float(x)
        if not math.isfinite(value):
            raise ValueError(f"{x} is not finite")
        return value


_PARAMETERS = {
    "int": luigi.IntParameter,
    "float": FiniteNumber,
    "str": luigi.Parameter,
    "bool": TrueOrFalse,
    "tuple[str, ...]": CommaList,
}
"""Type of a settings field → the Luigi parameter that reads it."""


def luigi_section(name: str, kind: type[Any], defaults: Any = None) -> type[luigi.Config]:
    """The Luigi class of one section; what a file leaves out is as in `kind`, or in `defaults`.

    `defaults` is an instance of that section under another name: `[c3d]` for `[c3d.dense]`.
    """
    parameters = {
        field.name: _PARAMETERS[type_name(field)](
            default=field.default if defaults is None else getattr(defaults, field.name)
        )
        for field in dataclasses.fields(kind)
    }
    family, _, word = name.rpartition(".")
    members = {"task_namespace": family, "__module__": __name__, **parameters}
    return type(word, (luigi.Config,), members)


def extractor_luigi_section(
    variant: str, extractor: str, defaults: luigi.Config | None = None
) -> type[luigi.Config]:
    """The section of one variant of an extractor, ours or a plug-in's."""
    return luigi_section(variant, extractor_section(EXTRACTORS[extractor]), defaults)


SECTIONS: dict[str, type[luigi.Config]] = {
    name: luigi_section(name, kind) for name, kind in SECTION_TYPES.items()
}
"""Section name → its Luigi class. Luigi's own sections (core, worker, retcode, ...) are not
listed.
"""


_LUIGIS = frozenset({*Register.task_names(), "email", "logging", "resources", "retcode"})
RESERVED = frozenset(SECTIONS) | _LUIGIS
"""Names of sections, ours and Luigi's, that no plug-in's dataset or extractor can have."""


def dataset_name_fault(name: str) -> str:
    """Why a plug-in's dataset cannot have this name; empty if it can, and for a dataset of ours.

    Its settings would stand in a section that has another meaning.
    """
    if name in DATASETS or name not in DATASETS.plugin_names():
        return ""
    if not CATALOG_NAME.fullmatch(name):
        return f"a dataset is named like 'phd2', in 1 to 64 of a-z 0-9 _ -; got {name!r}"
    if name in EXTRACTORS or name in EXTRACTORS.plugin_names():
        return f"dataset {name!r} has the name of an extractor; give its entry point another name"
    if name in RESERVED:
        return (
            f"dataset {name!r} of a plug-in has the name of a settings section, [{name}]; "
            "give its entry point another name"
        )
    return ""


def plugin_section(name: str) -> type[luigi.Config] | None:
    """The section of a plug-in's extractor or dataset; None if nothing has that name.

    It is made when it is first asked for, which imports the plug-in. Raises PluginError.
    """
    if name in RESERVED:
        return SECTIONS.get(name)
    if name not in SECTIONS and name in EXTRACTORS.plugin_names():
        SECTIONS[name] = extractor_luigi_section(name, name)
    if name not in SECTIONS and name in DATASETS.plugin_names():
        SECTIONS[name] = luigi_section(name, dataset_section(name, DATASETS[name]))
    return SECTIONS.get(name)
