"""Training steps per second of set-based learning at its published width.

`python -m benchmarks.set_step --device cuda`: a transformer of 671 million parameters, sets of 20
segments of 4,096 random numbers, SGD with momentum, one set of each kind per step, as the recipes
have it. Prints Markdown: steps per second after a first step, and the peak memory.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Sequence

import torch

from models.highlight.base.contract import Batch
from trainer.base.targets import Targets
from trainer.config.recipe import load_recipe
from trainer.losses.registry import make_domain_objective
from trainer.losses.set_based.domain_steps import DomainBatch, sample_two_domains
from trainer.training.distributed import DistributedContext
from trainer.training.train_step import DomainSteps

RECIPES = ("sl_module", "dl_vhd", "sl_mcd")
KEY, WIDTH, SEGMENTS = "c3d.segments/fc7_linear", 4096, 61
"""61 is the mean number of clips of a video of YouTube Highlights."""


def drawn(device: str, seed: int) -> Batch:
    """One video of drawn features."""
    rows = torch.randn(1, SEGMENTS, WIDTH, generator=torch.Generator().manual_seed(seed)).to(device)
    starts = 2.0 * torch.arange(SEGMENTS, dtype=torch.float64, device=device)
    spans = torch.stack([starts, starts + 4], dim=1)[None]
    nothing = torch.zeros(1, 0, 0, device=device)
    there = torch.ones(1, SEGMENTS, dtype=torch.bool, device=device)
    return Batch(
        {KEY: rows}, there, spans, {}, nothing.bool(), torch.zeros(1, 0, 0, 2, device=device)
    )


def domains_of(name: str, device: str) -> DomainBatch:
    """A round as the recipe draws it."""
    source, target = drawn(device, 1), drawn(device, 2)
    labels = torch.arange(SEGMENTS, device=device).remainder(3).sub(1).float()[None]
    targets = Targets(labels, labels > 0, torch.full((1, 1, 2), -1, device=device))
    return sample_two_domains(
        source, targets, target, load_recipe(name).sets, torch.Generator().manual_seed(0)
    )


def peak_gigabytes(device: str) -> float:
    """The most memory so far: of the GPU, or of this process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def measured(name: str, device: str, steps: int) -> tuple[float, float, float]:
    """Steps a second, the last loss, and the most memory in GB."""
    recipe = load_recipe(name)
    torch.manual_seed(0)
    with torch.device(device):
        model = recipe.spec.build(recipe.model_settings, {KEY: (WIDTH,)})
    updates = DomainSteps(
        recipe,
        model.train(),
        DistributedContext(device=device),
        make_domain_objective(recipe.objective, **recipe.objective_settings),
    )
    domains = domains_of(name, device)
    loss, _ = updates.step(domains)
    before = time.perf_counter()
    for _ in range(steps):
        loss, _ = updates.step(domains)
    return steps / (time.perf_counter() - before), loss, peak_gigabytes(device)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table; a recipe a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    options = parser.parse_args(arguments)
    sys.stdout.write("| recipe | steps/s | loss | GB at most |\n|-|-|-|-|\n")
    for name in options.recipes:
        rate, loss, gigabytes = measured(name, options.device, options.steps)
        sys.stdout.write(f"| {name} | {rate:.3g} | {loss:.4f} | {gigabytes:.1f} |\n")
        sys.stdout.flush()
        if options.device.startswith("cuda"):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(options.device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
