"""`python -m tasks features | highlights | settings`: the tasks in fewer words, and every setting.

A command runs the task that `luigi --module tasks` runs. Options that it does not know are passed
on, so every setting can be given as `--section-key`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from storage.commands import run_and_exit

PASSED_ON = "other options are settings, such as --c3d-weights FILE or --config FILE"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code, or exits with it."""
    options, others = make_parser().parse_known_args(arguments)
    code: int = options.run(options, others)
    return code


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m tasks", description="Build features, find highlights, show the settings."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_features(commands)
    _add_highlights(commands)
    settings = commands.add_parser(
        "settings", help="print a settings file with every setting at its default"
    )
    settings.add_argument(
        "section",
        nargs="*",
        help="only these sections, such as c3d; also that of an installed package's extractor or "
        "dataset",
    )
    settings.add_argument(
        "--plugins", action="store_true", help="also the sections of all installed packages"
    )
    settings.add_argument("--schema", action="store_true", help="print a JSON Schema instead")
    settings.set_defaults(run=_settings)
    return parser


def _add_features(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    features = commands.add_parser(
        "features",
        help="build features of your own videos",
        description="Build features of your own videos, as the task BuildVideoFeatures does.",
        epilog=PASSED_ON,
        allow_abbrev=False,
    )
    features.add_argument(
        "videos", help="a folder, a video, an address, a list of addresses, or a table of intervals"
    )
    features.add_argument("--catalog", help="its name; by default that of the path")
    features.add_argument(
        "--extractors", help="which run, such as c3d,frames; default: [extract] extractors"
    )
    features.add_argument(
        "--random-weights",
        action="store_true",
        help="a trial: extractors without weights run with random ones, and features are marked so",
    )
    features.add_argument("--data", metavar="FOLDER", help="where catalogs are kept; default: data")
    features.add_argument(
        "--playlists", action="store_true", help="an address of a playlist means all its videos"
    )
    features.add_argument(
        "--allow-private", action="store_true", help="ask addresses of private networks too"
    )
    features.add_argument(
        "--plan", action="store_true", help="say videos, hours and gigabytes, and start nothing"
    )
    features.set_defaults(run=_features)


def _features(options: argparse.Namespace, others: Sequence[str]) -> int:
    words = ["BuildVideoFeatures", "--videos", options.videos]
    if options.catalog:
        words += ["--catalog", options.catalog]
    if options.extractors:
        words += ["--extract-extractors", options.extractors]
    if options.random_weights:
        words += ["--extract-random-weights", "true"]
    if options.data:
        words += ["--data-root", options.data]
    if options.playlists:
        words += ["--list-playlists", "true"]
    if options.allow_private:
        words += ["--list-allow-private", "true"]
    if options.plan:
        words += ["--plan"]
    return run_task([*words, *others])


def _add_highlights(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    highlights = commands.add_parser(
        "highlights",
        help="rank the segments of a video with a trained model, and cut a reel",
        description="Find the highlights of one video, as the task HighlightVideo does.",
        epilog=PASSED_ON,
        allow_abbrev=False,
    )
    highlights.add_argument("video", help="the file")
    highlights.add_argument(
        "--model", required=True, help="a model.safetensors that `video-highlights train` made"
    )
    highlights.add_argument(
        "--like",
        action="append",
        default=[],
        metavar="FILE:START-END",
        help="a part of another video that you like, in seconds; may be repeated",
    )
    highlights.add_argument("--seconds", help="the reel is at most so long; default: 30")
    highlights.add_argument("--reel", help="an .mp4 to write; default: beside the timeline")
    highlights.set_defaults(run=_highlights)


def _highlights(options: argparse.Namespace, others: Sequence[str]) -> int:
    words = ["HighlightVideo", "--video", options.video, "--model", options.model]
    if options.like:
        words += ["--history", json.dumps(options.like)]  # a file's name may hold a comma
    if options.seconds:
        words += ["--seconds", options.seconds]
    if options.reel:
        words += ["--reel", options.reel]
    return run_task([*words, *others])


def _settings(options: argparse.Namespace, others: Sequence[str]) -> int:
    from models.registry import PluginError
    from storage.base.errors import SettingsError
    from tasks.config.exit_codes import Exit
    from tasks.config.settings_reference import schema, template

    if others:
        make_parser().error(f"unrecognized arguments: {' '.join(others)}")
    try:
        sections = _sections(options.section, with_plugins=options.plugins)
    except (PluginError, SettingsError) as error:
        print(error, file=sys.stderr)
        return Exit.SETTINGS
    print(json.dumps(schema(sections), indent=1) if options.schema else template(sections), end="")
    return Exit.DONE


def _sections(names: Sequence[str], *, with_plugins: bool) -> dict[str, type[Any]]:
    """The named sections; without a name, all of ours and those of the settings file's plug-ins."""
    from luigi.configuration import get_config

    from tasks.config.sections import SECTION_TYPES, plugin_section_names, section_types_of

    offered = plugin_section_names() if with_plugins else ()
    if names:
        return section_types_of([*names, *offered])
    listed = get_config().get("extract", "extractors", "", raw=True)
    extractors = [name.strip().partition(".")[0] for name in listed.split(",")]
    return {**SECTION_TYPES, **section_types_of([*filter(None, extractors), *offered])}


def run_task(words: Sequence[str]) -> int:
    """Run `luigi --module tasks WORDS`; exits with its exit code."""
    from luigi.cmdline import luigi_run

    luigi_run(["--module", "tasks", *words])
    return 0


if __name__ == "__main__":
    run_and_exit(main)
