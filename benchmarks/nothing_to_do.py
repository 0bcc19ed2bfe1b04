"""CPU time of commands that find nothing to do, as ratios to `python -c "import torch"`.

`python -m benchmarks.nothing_to_do BEFORE AFTER` takes two checkouts. Each builds the sample once in
a temporary folder, with the extractors `frames` and `yolov5`. Then the commands of both take turns,
so that other work on the machine weighs on both alike. CPU seconds are of user and system; medians
of 5 rounds are printed.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

LUIGI = ("-c", "import sys; from luigi.cmdline import luigi_run; luigi_run(sys.argv[1:])")
BUILD = ("BuildPHD2Features", "--extract-extractors", "frames,yolov5")
REFERENCE = ("-c", "import torch")


def cpu_seconds(checkout: Path, folder: Path, arguments: Sequence[str]) -> float:
    """CPU seconds, of user and system, of `python ARGUMENTS` and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(checkout.absolute())},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,  # a misspelt setting ends with 2
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _copied(folder: Path) -> None:
    """Give the catalog another time of modification, as a copy of the store does."""
    (folder / "data" / "sample" / "catalog.json").touch()


def _nothing(_: Path) -> None:
    pass


Prepare = Callable[[Path], None]
COMMANDS: dict[str, tuple[Sequence[str], Prepare]] = {
    "build, nothing to do": (BUILD, _nothing),
    "the same, after a copy": (BUILD, _copied),
    "build --plan": ((*BUILD, "--plan"), _nothing),
    "help of a task": (("BuildPHD2Features", "--help"), _nothing),
    "help": (("--help",), _nothing),
    "a misspelt setting": ((*BUILD, "--frames-hieght", "3"), _nothing),
}
"""What is measured → the words after `luigi --module tasks`, and what is done before each."""


def measure(checkouts: Sequence[Path], rounds: int) -> tuple[dict[tuple[str, Path], float], float]:
    """Median CPU seconds of each command in each checkout, and of `REFERENCE`."""
    seconds: dict[tuple[str, Path], list[float]] = {}
    references: list[float] = []
    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(temporary, str(number)) for number in range(len(checkouts))]
        for checkout, folder in zip(checkouts, folders, strict=True):
            folder.mkdir()
            cpu_seconds(checkout, folder, _luigi(BUILD))
        for _ in range(rounds):
            for checkout, folder in zip(checkouts, folders, strict=True):
                for name, (words, prepare) in COMMANDS.items():
                    prepare(folder)
                    taken = cpu_seconds(checkout, folder, _luigi(words))
                    seconds.setdefault((name, checkout), []).append(taken)
                references.append(cpu_seconds(checkout, folder, REFERENCE))
    medians = {key: statistics.median(taken) for key, taken in seconds.items()}
    return medians, statistics.median(references)


def _luigi(words: Sequence[str]) -> tuple[str, ...]:
    return (*LUIGI, "--module", "tasks", *words)


def main() -> None:
    """Print a table: seconds, and ratios to the import of torch."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkouts", nargs=2, type=Path, metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    before, after = options.checkouts
    medians, reference = measure(options.checkouts, options.rounds)
    lines = ["| command | before | after | before / torch | after / torch |", "|-|-|-|-|-|"]
    for name in COMMANDS:
        old, new = medians[name, before], medians[name, after]
        ratios = f"{old / reference:.2f} | {new / reference:.2f}"
        lines.append(f"| {name} | {old:.2f} s | {new:.2f} s | {ratios} |")
    lines.append(f"| `import torch` | {reference:.2f} s | {reference:.2f} s | 1 | 1 |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
