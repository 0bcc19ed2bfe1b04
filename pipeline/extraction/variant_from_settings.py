"""Rebuilds a variant from the settings stored in a feature store or a checkpoint.

A model can score a new video only on features made exactly as those it was trained on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.extractors.base.contract import ExtractorSpec
from models.extractors.registry import EXTRACTORS
from models.registry import PluginError
from pipeline.extraction.variant import Variant, weights_identity
from storage.base.errors import SettingsError
from storage.base.fingerprint import differing_settings, fingerprint
from storage.base.records import JSON

Described = Mapping[str, JSON]


def variant_from_description(
    name: str, described: Described, *, configured: Mapping[str, str], converted: Path
) -> Variant:
    """The variant `name` with the description `described`.

    `configured` has the paths that a description does not contain: that of the weights under
    `weights`, and that of any other file under the name of its setting. Raises SettingsError, with
    what would have to change, if this release cannot make such features.
    """
    spec = _spec(name, described)
    settings = described.get("settings")
    if not isinstance(settings, dict) or "segments" in described:
        problem = (
            f"{name} has a row for each annotated segment of its catalog; a new video has none"
        )
        raise SettingsError((problem,))
    weights = _file(name, "weights", str(described.get("weights", "")), configured)
    try:
        values = _settings(spec, name, settings, configured)
        variant = Variant(name, spec, values, weights, converted)
    except (TypeError, ValueError) as error:
        problem = f"{name}: this release cannot extract with the model's settings: {error}"
        raise SettingsError((problem,)) from error
    # The settings agree by now. The fingerprint also covers the version of the code, arrays and
    # files.
    if variant.fingerprint() != fingerprint(described):
        theirs, ours = differing_settings([described, variant.description()])
        problem = f"{name}: the model needs features with {theirs}; this release makes {ours}"
        raise SettingsError((problem,))
    return variant


def _spec(name: str, described: Described) -> ExtractorSpec:
    try:
        spec = EXTRACTORS.find(str(described.get("extractor")))
    except PluginError as error:
        raise SettingsError((str(error),)) from error
    weights = str(described.get("weights", ""))
    extractor = described.get("extractor")
    if spec is None and extractor and not weights.startswith("planted:"):
        problem = (
            f"the model was trained on {name} features, and there is no extractor {extractor} "
            "here; a package may offer it, which is not installed: install it"
        )
        raise SettingsError((problem,))
    if spec is None or weights.startswith("planted:"):
        origin = weights or "foreign"
        problem = f"the model was trained on {name} features that no extractor made ({origin})"
        raise SettingsError((problem,))
    return spec


def _settings(
    spec: ExtractorSpec, name: str, settings: Mapping[str, JSON], configured: Mapping[str, str]
) -> Any:
    known = {field.name for field in dataclasses.fields(spec.settings_type)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise ValueError(f"there is no setting {', '.join(unknown)}")
    values: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, list):
            values[key] = tuple(value)  # JSON has no tuples
        elif isinstance(value, str):
            values[key] = _file(name, key, value, configured)
        else:
            values[key] = value
    return spec.settings_type(**values)


def _file(name: str, setting: str, identity: str, configured: Mapping[str, str]) -> str:
    """The configured path of a `sha256:…`; any other text is returned unchanged."""
    if not identity.startswith("sha256:"):
        return identity
    path = configured.get(setting, "")
    if path and Path(path).is_file() and weights_identity(path) == identity:
        return path
    found = f"{path} is another file" if path else "none is named"
    problem = (
        f"[{name}] {setting}: the model was trained with the file {identity}, and {found}; "
        "set it to the path of that file"
    )
    raise SettingsError((problem,))
