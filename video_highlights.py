"""`video-highlights COMMAND`: every command of `storage`, `pipeline` and `trainer`, and every task.

A command runs the same function as `python -m storage`, `python -m pipeline`, `python -m trainer`
or `luigi --module tasks`. Packages are imported only for the command that is asked for.

This is the one top-level name that an installation adds. The packages have short names (`models`,
`storage`, `tasks`, ...). In a checkout they lie beside this file. In an installation they lie in a
folder of their own, so that they overwrite no other distribution's files, and a `.pth` file makes
them importable. This script puts that folder first, so a folder `models/` or `tasks/` in the
working folder does not matter to it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

_HERE = Path(__file__).resolve().parent
PACKAGES_FOLDER = _HERE if (_HERE / "storage").is_dir() else _HERE / "video_highlights_packages"
WRONG_USE = 2
COMMANDS: dict[str, tuple[str, str]] = {
    "audit": ("storage", "check that a store adds up and equals its records; repair it"),
    "seal": ("storage", "add checksums to parts of earlier releases"),
    "compact": ("storage", "pack the parts of each shard anew"),
    "digest": ("storage", "one sha256 for each variant of a store"),
    "forget": ("storage", "take videos down: remove all that is stored of them"),
    "export": ("storage", "write features in a form that other programs read"),
    "import": ("storage", "take features that others published into a store"),
    "doctor": ("pipeline", "check whether this machine is fit for a run"),
    "weights": ("pipeline", "list, fetch, import and forget published weights"),
    "verify": ("pipeline", "recompute some stored rows and compare"),
    "status": ("pipeline", "how far the builds of a catalog are"),
    "rebase": ("pipeline", "convert times of format version 1"),
    "bench": ("pipeline", "measure decoders and networks on this machine"),
    "golden": ("pipeline", "write the golden outputs of an extractor"),
    "forecast": ("pipeline", "what a catalog will take, from what a part took"),
    "features": ("tasks", "build features of your own videos: a folder, a list, a table"),
    "highlights": ("tasks", "rank the segments of a video with a trained model, cut a reel"),
    "settings": ("tasks", "print every setting with its default and its meaning"),
    "train": ("trainer", "train a recipe on a catalog's features"),
    "fit": ("trainer", "the same as train"),
    "score": ("trainer", "score a split with a trained network"),
    "table": ("trainer", "print a table of a paper, published beside measured"),
    "predict": ("trainer", "score one video for one user"),
    "report": ("trainer", "write a page of timelines for some users"),
    "view": ("trainer", "look at a feature store in a browser"),
    "maps": ("trainer", "draw distinction maps of PLD-VHD"),
    "plant": ("trainer", "make a store with synthetic preferences"),
    "baselines": ("trainer", "score rankers that learn nothing"),
}
"""Command → the package that has it, and what it does."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code, or exits with it."""
    arguments = sys.argv[1:] if arguments is None else arguments
    sys.path.insert(0, str(PACKAGES_FOLDER))
    from storage.commands import run_and_exit

    if not arguments or arguments[0] in ("-h", "--help"):
        print(help_text())
        return 0
    name, *rest = arguments
    if name == "run":
        return run_and_exit(lambda: _run_task(rest))
    if name not in COMMANDS:
        print(_unknown(name), file=sys.stderr)
        return WRONG_USE
    package, _ = COMMANDS[name]
    return run_and_exit(
        lambda: _command_of(package)([name, *rest]), is_training=package == "trainer"
    )


def _command_of(package: str) -> Callable[[Sequence[str]], int]:
    command: Callable[[Sequence[str]], int] = import_module(f"{package}.__main__").main
    return command


def help_text() -> str:
    """Every command and every task, one on each line."""
    lines = ["usage: video-highlights COMMAND ...", "       video-highlights run TASK ...", ""]
    for package in dict.fromkeys(package for package, _ in COMMANDS.values()):
        lines.append(f"commands of python -m {package}:")
        members = [(name, text) for name, (own, text) in COMMANDS.items() if own == package]
        lines += [f"  {name:<12}{text}" for name, text in members]
    lines += ["", "tasks (luigi --module tasks TASK):"]
    lines += [f"  {name}" for name in _tasks_or_reason()]
    lines += [
        "",
        "video-highlights COMMAND --help and video-highlights run TASK --help show options.",
    ]
    return "\n".join(lines)


def _tasks_or_reason() -> list[str]:
    from storage.base.extras import missing_library

    try:
        return task_names()
    except ModuleNotFoundError as error:
        reason = missing_library(error)
        if not reason:
            raise
        return [reason]


def task_names() -> list[str]:
    """The tasks that a user can name."""
    from luigi.task_register import Register

    public = import_module("tasks").__all__
    return sorted(
        name for name in Register.task_names() if name in public or name.startswith("Build")
    )


def _run_task(arguments: Sequence[str]) -> int:
    from luigi.cmdline import luigi_run

    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: video-highlights run TASK ...", *task_names(), sep="\n  ")
        return 0
    import_module("tasks")
    sys.argv = ["luigi", "--module", "tasks", *arguments]
    luigi_run(sys.argv[1:])
    return 0


def _unknown(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, [*COMMANDS, "run"], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"video-highlights has no command {name!r}{hint}; `video-highlights --help` lists them"


if __name__ == "__main__":
    raise SystemExit(main())
