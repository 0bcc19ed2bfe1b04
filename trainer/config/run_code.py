"""Whose code a training run uses, and a digest of it: other code means other results.

A run's checkpoint keeps the record. What counts is the code of the model and of the objective, with
the modules that they import from the plug-in and from `COUNTED`, without comments and docstrings;
of a plug-in also its version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from models.code_digest import code_sha256, module_of
from models.highlight.registry import HIGHLIGHT_MODELS
from models.registry import PluginError
from trainer.config.recipe import Recipe
from trainer.losses.registry import DOMAIN_OBJECTIVES, OBJECTIVES, objective_function

COUNTED = ("models.highlight", "models.extractors", "trainer.losses", "trainer.base")
"""Packages of ours whose modules count where a model or an objective imports them."""
NOT_COUNTED = ("models.highlight.base.contract", "models.highlight.registry")
"""Modules in these packages that compute nothing."""
DIGITS = 12


def run_code(recipe: Recipe) -> dict[str, str]:
    """`model`, `objective` and `start.PART.model` and so on → owner and digest, as a text.

    Such as `{"model": "my-linear 3, code 0123456789ab"}`; a recipe without an objective has none.
    """
    code = _table_code(recipe.table)
    for part in recipe.start:
        started = run_code(recipe.start_recipe(part))
        code |= {f"start.{part}.{name}": text for name, text in started.items()}
    return code


def _table_code(table: Mapping[str, Any]) -> dict[str, str]:
    """The same of a recipe's TOML alone, without the recipes that it starts from.

    Raises KeyError or PluginError for a model that cannot be loaded.
    """
    code = {"model": _model_code(str(table.get("model", {}).get("name", "")))}
    objective = table.get("objective", {}).get("name", "")
    if objective in OBJECTIVES or objective in DOMAIN_OBJECTIVES:
        sha256 = code_sha256([module_of(objective_function(objective))], _counts)
        code["objective"] = _text("video-highlights", sha256)
    return code


def _model_code(name: str) -> str:
    spec = HIGHLIGHT_MODELS[name]
    plugin = HIGHLIGHT_MODELS.plugins.get(name)
    owner = "video-highlights" if plugin is None else f"{plugin.distribution} {plugin.version}"
    offered = () if plugin is None else HIGHLIGHT_MODELS.entry_points()
    modules = {point.module for point in offered if point.name == name}
    package = HIGHLIGHT_MODELS.plugin_package(name)

    def follows(module: str) -> bool:
        return module.partition(".")[0] == package or _counts(module)

    modules |= {module_of(spec.build), module_of(spec.settings)}
    sha256 = code_sha256(filter(follows, modules), follows)
    # The recipe takes these from the spec, which may stand in a module that does not count.
    reads = repr((sha256, spec.arrays, spec.unit, spec.history))
    return _text(owner, hashlib.sha256(reads.encode()).hexdigest())


def _counts(module: str) -> bool:
    is_inside = any(module == one or module.startswith(f"{one}.") for one in COUNTED)
    return is_inside and module not in NOT_COUNTED


def _text(owner: str, sha256: str) -> str:
    return f"{owner}, code {sha256[:DIGITS]}"


def code_changes(about: Mapping[str, Any], present: Mapping[str, str]) -> tuple[str, ...]:
    """What differs between the code of a checkpoint and the present: one text for each, with both.

    `about` is the checkpoint's. Releases before the record kept only the plug-in of a model; their
    checkpoints of our own models count as unchanged.
    """
    kept = about.get("code")
    if not isinstance(kept, Mapping):
        return tuple(_plugin_changes(about))
    return tuple(
        f"{name}: trained with {kept.get(name, 'none')}, now {present[name]}"
        for name in present
        if kept.get(name) != present[name]
    )


def table_code_changes(about: Mapping[str, Any]) -> tuple[str, ...]:
    """The same for a checkpoint whose recipe the present code refuses."""
    try:
        return code_changes(about, _table_code(about["recipe"]))
    except (KeyError, PluginError, AttributeError) as error:
        kept = about.get("code") or about.get("plugin")
        # Without a record, nothing says that the code and not the checkpoint is at fault.
        return (f"model: trained with {kept}, now {error.args[0]}",) if kept else ()


def _plugin_changes(about: Mapping[str, Any]) -> Iterator[str]:
    """The same by the record of earlier releases, over the bytes of all files of a plug-in."""
    kept = about.get("plugin")
    if not isinstance(kept, Mapping):
        return
    name = about.get("recipe", {}).get("model", {}).get("name", "")
    plugin = HIGHLIGHT_MODELS.plugins.get(name)
    before = _all_files(kept.get("distribution"), kept.get("version"), kept.get("code_sha256"))
    now = "video-highlights"
    if plugin is not None:
        now = _all_files(plugin.distribution, plugin.version, plugin.code_sha256)
    if now != before:
        yield f"model: trained with {before}, now {now}"


def _all_files(distribution: object, version: object, sha256: object) -> str:
    return f"{distribution} {version}, files {str(sha256)[:DIGITS]}"
