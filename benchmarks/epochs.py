"""What an epoch of training takes, reading and steps apart, for five recipes: `python -m
benchmarks.epochs ROOT --trees BEFORE AFTER`.

ROOT holds planted stores, made with `python -m trainer plant` (see `STORES`). Each measurement is
a process of its own, on one thread; the trees take turns, and every number is the median of the
rounds. Times are CPU time. An epoch of data is read whole, twice. The time of the steps is that of
the second batch, times the number of batches, and is measured in the first round by the first tree
only. Both trees must give the same batches: their hashes are compared.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

STORES: Mapping[str, tuple[str, str]] = {
    "phd_ca": ("u", "planted"),
    "svm_d": ("u", "planted"),
    "pr_net": ("u", "planted"),
    "mha_fusion": ("u", "planted"),
    "sl_module": ("c", "planted-category"),
}
"""Recipe → where its store lies in ROOT: `u250/planted` is that of 250 users, `c250` that of 250
training videos in four domains.
"""
CHANGES: Mapping[str, Sequence[str]] = {
    # The published network takes 8 GB; its width changes the steps, not the data.
    "sl_module": (
        "model.layers=2",
        "model.heads=2",
        "model.hidden_width=32",
        "model.scorer_widths=[32, 16]",
    ),
}
EPOCHS = 2
TIMED_STEPS = 1
SEED = 1


class Timer:
    """CPU seconds of this process that were spent inside `with timer`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.process_time()

    def __exit__(self, *error: object) -> None:
        self.seconds += time.process_time() - self._started


def measure(recipe_name: str, folder: Path, *, with_steps: bool) -> dict[str, Any]:
    """One measurement in this process: CPU seconds of data and steps, memory, and hashes."""
    import torch

    from trainer.config.recipe import load_recipe
    from trainer.data import Loader, LoaderSettings, open_data
    from trainer.training.distributed import DistributedContext

    torch.set_num_threads(1)
    recipe = load_recipe(recipe_name, changes=CHANGES.get(recipe_name, ()))
    opening = Timer()
    with opening:
        data = open_data(folder, recipe.data)
        dataset = data.training()
    before_bytes = _peak_bytes()
    loader = Loader(dataset, LoaderSettings(recipe.training.batch_size, SEED))
    epochs, sha = [], hashlib.sha256()
    for _ in range(EPOCHS):
        timer = Timer()
        for loaded in _timed(iter(loader), timer):
            _hash(loaded, sha)
        epochs.append(timer.seconds)
    peak_bytes = _peak_bytes()
    found = {
        "examples": len(dataset),
        "opening": opening.seconds,
        "first": epochs[0],
        "second": epochs[1],
        "peak": peak_bytes,
        "grown": peak_bytes - before_bytes,
        "hash": sha.hexdigest()[:16],
    }
    if with_steps:
        seconds = _step_seconds(recipe, data, loader, DistributedContext(device="cpu"))
        found["steps"] = seconds * len(loader)
    return found


def _timed(batches: Iterator[Any], timer: Timer) -> Iterator[Any]:
    while True:
        with timer:
            loaded = next(batches, None)
        if loaded is None:
            return
        yield loaded


def _hash(loaded: Any, sha: Any) -> None:
    from trainer.data.collate import tensors_of

    sha.update(repr(loaded.examples).encode())
    for tensor in (*tensors_of(loaded.batch), *tensors_of(loaded.targets)):
        sha.update(repr((tensor.dtype, tensor.shape)).encode())
        sha.update(tensor.numpy().tobytes())


def _step_seconds(recipe: Any, data: Any, loader: Any, context: Any) -> float:
    """The median CPU time of a few steps after a first one, on batches that are read before."""
    import torch

    torch.manual_seed(0)
    model = recipe.spec.build(recipe.model_settings, data.shapes).train()
    step = _step_of(recipe, model, context)
    batches = [loaded for loaded, _ in zip(iter(loader), range(TIMED_STEPS + 1), strict=False)]
    found = []
    for number, loaded in enumerate(_domain_batches(recipe, loader, batches)):
        timer = Timer()
        with timer:
            step(loaded)
        if number:
            found.append(timer.seconds)
    return statistics.median(found)


def _step_of(recipe: Any, model: Any, context: Any) -> Any:
    """What training does with one batch; for a ranking SVM, its descriptors and their fit."""
    from trainer.losses.registry import make_domain_objective, make_objective
    from trainer.training import ranking_svm
    from trainer.training.train_step import DomainSteps, SingleLoss

    if "gradient" not in recipe.stages:

        def fit(loaded: Any) -> None:
            descriptors = model.descriptors(loaded.batch)
            ranking_svm.fit(ranking_svm.pair_differences(descriptors, loaded.targets.pairs))

        return fit
    if recipe.is_two_domain:
        steps = make_domain_objective(recipe.objective, **recipe.objective_settings)
        return DomainSteps(recipe, model, context, steps).step
    objective = make_objective(recipe.objective, **recipe.objective_settings)
    return SingleLoss(recipe, model, context, objective).step


def _domain_batches(recipe: Any, loader: Any, batches: Sequence[Any]) -> Sequence[Any]:
    from trainer.training.domain_batches import DomainBatchLoader, DomainBatchSettings

    if not recipe.is_two_domain:
        return batches
    settings = DomainBatchSettings(recipe.sets, 0, recipe.training.epochs)
    made = iter(DomainBatchLoader(loader, None, settings))
    return [next(made) for _ in batches]


def _peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _measure_in_process(
    tree: Path, recipe: str, folder: Path, *, with_steps: bool
) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    # -P: this folder has modules of its own, which must not hide others.
    command = [sys.executable, "-P", str(Path(__file__).resolve()), "--measure", recipe]
    done = subprocess.run(
        [*command, *(["--steps"] if with_steps else []), str(folder.resolve())],
        env=environment,
        cwd=tree,
        check=True,
        stdout=subprocess.PIPE,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _compare(trees: Sequence[Path], recipe: str, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """The medians of each tree. ValueError if their batches differ."""
    found: list[list[dict[str, Any]]] = [[] for _ in trees]
    for number in range(rounds):
        for place, tree in enumerate(trees):
            with_steps = number == place == 0
            one = _measure_in_process(tree, recipe, folder, with_steps=with_steps)
            found[place].append(one)
    step_seconds = found[0][0].pop("steps")
    hashes = {one["hash"] for of_tree in found for one in of_tree}
    if len(hashes) > 1:
        raise ValueError(f"{recipe} on {folder}: the batches differ, hashes {sorted(hashes)}")
    medians = []
    for of_tree in found:
        numbers = [name for name in of_tree[0] if name != "hash"]
        median = {name: statistics.median(one[name] for one in of_tree) for name in numbers}
        medians.append({**median, "hash": of_tree[0]["hash"], "steps": step_seconds})
    return medians


def table(
    root: Path, trees: Sequence[Path], recipes: Sequence[str], sizes: Sequence[int], rounds: int
) -> Iterator[str]:
    """The rows of a Markdown table, as they are measured."""
    yield (
        "| recipe | size | examples | tree | opening, s | first epoch, s | next epoch, s "
        "| steps, s | next / steps | peak, MiB | by batches, MiB | batches |"
    )
    yield "|" + "-|" * 12
    for recipe in recipes:
        letter, name = STORES[recipe]
        for size in sizes:
            folder = root / f"{letter}{size}" / name
            if not folder.is_dir():
                continue
            for tree, one in zip(trees, _compare(trees, recipe, folder, rounds), strict=True):
                yield (
                    f"| {recipe} | {size:,} | {one['examples']:,.0f} | {tree.name} "
                    f"| {one['opening']:.2f} | {one['first']:.2f} | {one['second']:.2f} "
                    f"| {one['steps']:.2f} | {one['second'] / one['steps']:.2f} "
                    f"| {one['peak'] / 2**20:,.0f} | {one['grown'] / 2**20:,.0f} "
                    f"| {one['hash']} |"
                )


def main() -> None:
    """Measure, or compare trees."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", type=Path, help="the folder of the planted stores")
    parser.add_argument("--measure", metavar="RECIPE", help="one measurement, as JSON")
    parser.add_argument("--steps", action="store_true", help="with --measure: steps too")
    parser.add_argument("--trees", type=Path, nargs="+", default=[Path.cwd()])
    parser.add_argument("--recipes", nargs="+", default=list(STORES), choices=list(STORES))
    parser.add_argument("--sizes", type=int, nargs="+", default=[250, 1000, 4000])
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    if chosen.measure:
        sys.stdout.write(
            json.dumps(measure(chosen.measure, chosen.root, with_steps=chosen.steps)) + "\n"
        )
        return
    trees = [tree.resolve() for tree in chosen.trees]
    for line in table(chosen.root, trees, chosen.recipes, chosen.sizes, chosen.rounds):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
