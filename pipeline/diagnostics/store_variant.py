"""Rebuilds the variant that a feature folder's settings.json describes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.extractors.base.contract import ExtractorSpec
from models.extractors.registry import EXTRACTORS
from pipeline.extraction.variant import Variant
from pipeline.weights.weights_folder import WeightsFolder
from storage.base.errors import SettingsError
from storage.base.paths import Layout
from storage.catalog.catalog import read_catalog
from storage.features.store import VariantReader, variant_layouts

_SHA256 = "sha256:"
"""How settings.json names a file: by its content."""


def open_variant(folder: Path) -> VariantReader:
    """The variant kept in a feature folder, `ROOT/<catalog>/features/<variant>-<fingerprint>`.

    Raises SettingsError for any other folder, with those that there are.
    """
    for layout in variant_layouts(folder.absolute().parents[1]):
        if layout.folder == folder.absolute():
            return VariantReader(layout)
    # A catalog's folder was given: name the feature folders inside it.
    inside = [
        str(folder / layout.folder.relative_to(folder.absolute()))
        for layout in variant_layouts(folder)
    ]
    expected = ", or ".join(inside) or "ROOT/<catalog>/features/<variant>-<fingerprint>"
    raise SettingsError((f"{folder} is not a feature folder; give {expected}",))


def layout_of_variant(folder: Path) -> Layout:
    """The layout of the catalog that a feature folder belongs to."""
    catalog = folder.absolute().parents[1]
    return Layout(catalog.parent, catalog.name)


def variant_of_store(
    reader: VariantReader, folder: WeightsFolder, weights: str, files: Mapping[str, str]
) -> Variant:
    """The variant that the store's settings.json describes.

    Of weights and other files, only the sha256 is stored. They are found in `folder` by it, unless
    `weights` or `files` (setting → path) name them. Raises SettingsError if the code, the weights,
    the files or the annotated segments differ from those the features were made with.
    """
    stored = reader.settings
    spec = _spec(reader)
    weights_path = _weights(reader.name, str(stored["weights"]), folder, weights)
    values = _settings(stored["settings"], folder, files)
    try:
        settings = spec.settings_type(**values)
        variant = Variant(reader.layout.variant, spec, settings, weights_path, folder.converted)
    except (TypeError, ValueError) as error:
        raise SettingsError((f"{reader.name} cannot be made again: {error}",)) from error
    variant = variant.of_catalog(lambda: read_catalog(reader.layout.folder.parents[1]).segments)
    differing = [
        f"{key}: {stored.get(key)} stored, {value} here"
        for key, value in variant.description().items()
        if stored.get(key) != value
    ]
    if differing:
        raise SettingsError((f"{reader.name} cannot be made again: {'; '.join(differing)}",))
    return variant


def _spec(reader: VariantReader) -> ExtractorSpec:
    name, version = str(reader.settings["extractor"]), reader.settings["numerics_version"]
    spec = EXTRACTORS.find(name)
    if spec is not None and spec.numerics_version == version:
        return spec
    known = f"version {spec.numerics_version}" if spec else "no such extractor"
    problem = f"{reader.name} was made by {name} of numerics version {version}"
    makers = " or ".join(_packages(reader))
    advice = f"; install {makers}" if makers else ""
    raise SettingsError((f"{problem}; this code has {known}{advice}",))


def _packages(reader: VariantReader) -> list[str]:
    """`my-features 0.1.0`: the packages that made the rows, if these are not ours."""
    found = set()
    for made_by in reader.provenance.values():
        plugin = made_by.get("plugin")
        if isinstance(plugin, dict):
            found.add(f"{plugin.get('distribution')} {plugin.get('version')}")
    return sorted(found)


def _weights(name: str, stored: str, folder: WeightsFolder, named: str) -> str:
    """The path of the stored weights; `random:SEED` and empty stay unchanged."""
    if not stored.startswith(_SHA256):
        return stored
    if named:
        return str(folder.resolve(named))
    path = folder.find_by_content(stored)
    if path is None:
        problem = f"{name} was made with weights of {stored}, and {folder.path} has no such file"
        raise SettingsError((f"{problem}; name it with --weights",))
    return str(path)


def _settings(
    stored: Mapping[str, Any], folder: WeightsFolder, files: Mapping[str, str]
) -> dict[str, Any]:
    """The stored settings with the path of each file in place of its sha256."""
    unknown = sorted(files.keys() - stored.keys())
    if unknown:
        known = ", ".join(sorted(stored))
        raise SettingsError((f"--file names {', '.join(unknown)}; settings are {known}",))
    settings: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in stored.items():
        if isinstance(value, list):
            settings[name] = tuple(value)  # JSON has no tuples
        elif not isinstance(value, str) or not value.startswith(_SHA256):
            settings[name] = value
        elif path := files.get(name) or folder.find_by_content(value):
            settings[name] = str(path)
        else:
            problems.append(
                f"{name} is a file of {value}, which is not in {folder.path}; "
                f"give --file {name}=PATH"
            )
    if problems:
        raise SettingsError(tuple(problems))
    return settings
