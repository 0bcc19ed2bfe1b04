"""A table of named rows that other distributions may extend through entry points."""

from __future__ import annotations

import difflib
import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, EntryPoints, PackageNotFoundError, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Generic, TypeVar

Row = TypeVar("Row")


@dataclass(frozen=True)
class Plugin:
    """Where a row comes from that is not ours."""

    distribution: str
    version: str
    code_sha256: str
    """Over the paths and contents of all Python files of the module's top-level package."""


class PluginError(ValueError):
    """A plug-in that cannot be used; the message names its distribution and what to do."""


class Registry(dict[str, Row], Generic[Row]):
    """Name → row. `registry[name]` raises a KeyError that lists every name if `name` is unknown.

    A name that is not ours is looked up among the entry points of `group`. A plug-in's code is
    imported then and not before: help, planning and iteration see our own rows only.
    """

    def __init__(
        self, noun: str, rows: Mapping[str, Row], kind: type[Row], group: str = ""
    ) -> None:
        super().__init__(rows)
        self.noun = noun
        self.kind = kind
        self.group = group
        self.plugins: dict[str, Plugin] = {}
        """Name → where it comes from, of every plug-in that was loaded."""
        self._own = frozenset(rows)

    def __missing__(self, name: str) -> Row:
        offered = [point for point in self.entry_points() if point.name == name]
        if not offered:
            raise KeyError(self._unknown(name))
        self.check_name(name)
        row = self._load(offered[0])
        self.plugins[name] = _plugin_of(offered[0])
        self[name] = row
        return row

    def chosen(self, name: str) -> Row:
        """The row that a user named, of ours or of a plug-in.

        KeyError lists every name if `name` is unknown. Raises PluginError as `check_name` does:
        `registry[name]` alone gives ours if a plug-in offers the same name.
        """
        self.check_name(name)
        return self[name]

    def find(self, name: str) -> Row | None:
        """As `chosen`; None if nothing has that name."""
        return self.chosen(name) if name in self or name in self.plugin_names() else None

    def plugin_text(self, name: str) -> str:
        """`my-features 0.1.0` for a plug-in that was loaded; empty for ours."""
        plugin = self.plugins.get(name)
        return "" if plugin is None else f"{plugin.distribution} {plugin.version}"

    def _unknown(self, name: str) -> str:
        names = sorted({*self._own, *self.plugin_names()})
        near = difflib.get_close_matches(name, names, n=1)
        message = f"unknown {self.noun} {name!r}; choose one of {', '.join(names)}"
        if near:
            message += f"; did you mean {near[0]}?"
        elif self.group:
            message += "; a package may offer it, which is not installed here: install it"
        return message

    def entry_points(self) -> EntryPoints:
        """What other distributions offer; reads metadata only."""
        return installed_entry_points(self.group, _search_path())

    def plugin_names(self) -> frozenset[str]:
        """The names that other distributions offer; imports none of them."""
        return frozenset(point.name for point in self.entry_points())

    def plugin_package(self, name: str) -> str:
        """The top-level package of a plug-in that was loaded; empty for a row of ours."""
        modules = [point.module for point in self.entry_points() if point.name == name]
        return modules[0].partition(".")[0] if modules and name in self.plugins else ""

    def check_name(self, name: str) -> None:
        """Raise PluginError if a name is offered by two distributions, or by one and by us."""
        offered = [point for point in self.entry_points() if point.name == name]
        owners = [_distribution_of(point)[0] for point in offered]
        if name in self._own and owners:
            raise PluginError(
                f"{self.noun} {name!r} is built in, and {', '.join(owners)} offers the same name; "
                "uninstall it, or let it use another name"
            )
        if len(owners) > 1:
            raise PluginError(
                f"{self.noun} {name!r} is offered by {' and '.join(sorted(owners))}; "
                "uninstall all but one"
            )

    def _load(self, point: EntryPoint) -> Row:
        owner = _distribution_of(point)[0]
        try:
            row = point.load()
        except Exception as error:
            advice = f"reinstall or repair {owner}"
            if isinstance(error, ModuleNotFoundError) and "video_highlights." in str(error):
                advice = "import `models`, `pipeline` and so on without `video_highlights.`"
            raise PluginError(
                f"{self.noun} {point.name!r} of {owner} cannot be imported "
                f"({type(error).__name__}: {error}); {advice}"
            ) from error
        if not isinstance(row, self.kind):
            raise PluginError(
                f"{self.noun} {point.name!r} of {owner} is a {type(row).__name__}; "
                f"the entry point must name a {self.kind.__name__}"
            )
        # Rows of some kinds have no name of their own.
        own_name = getattr(row, "name", point.name)
        if own_name != point.name:
            raise PluginError(
                f"{self.noun} {point.name!r} of {owner}: the entry point is called "
                f"{point.name!r}, but its {self.kind.__name__} has name={own_name!r}; write the "
                "same name in both, and install the package again"
            )
        return row


@lru_cache(maxsize=8)
def installed_entry_points(group: str, _search_path: tuple[tuple[str, int], ...]) -> EntryPoints:
    """The entry points of a group, of all distributions on `sys.path`.

    Kept while no folder of `sys.path` changes: the metadata of 160 distributions take 10 ms, and
    settings are checked name by name.
    """
    return entry_points(group=group)


def _search_path() -> tuple[tuple[str, int], ...]:
    """Each folder of `sys.path` with the time of its last change, which an installation moves."""
    return tuple((place, _changed_ns(place)) for place in sys.path)


def _changed_ns(place: str) -> int:
    try:
        return Path(place or ".").stat().st_mtime_ns
    except OSError:
        return 0


def _distribution_of(point: EntryPoint) -> tuple[str, str]:
    if point.dist is None:
        return "an unknown distribution", ""
    return point.dist.metadata["Name"], point.dist.version


def _plugin_of(point: EntryPoint) -> Plugin:
    name, version = _distribution_of(point)
    return Plugin(name, version, _code_sha256(point.module))


def _code_sha256(module: str) -> str:
    top_level = module.partition(".")[0]
    spec = find_spec(top_level)
    if spec is None or spec.origin is None:
        raise PackageNotFoundError(top_level)
    origin = Path(spec.origin)
    folder = origin.parent
    files = sorted(folder.rglob("*.py")) if origin.name == "__init__.py" else [origin]
    digest = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()
