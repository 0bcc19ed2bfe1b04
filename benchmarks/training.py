"""What a training step takes, reading and computing apart, and an epoch with it: `python -m
benchmarks.training`.

PR-Net and MHA+Fusion run at the sizes, batches and windows of their recipes on planted rows as wide
as the real ones (C3D 8192; YOLOv5 512 × 4 × 4; 5 persons with 17 joints of 512), and the SL-module
on random sets. An epoch is as many steps as the paper's training examples fill batches, and stands
beside the time that the paper gives, which was on 8 V100. On a CPU batches are an eighth, and the
SL-module runs only if it is named: it takes 8 GB.

Needs no package but numpy, h5py and torch, so that it runs on a bare machine with a GPU: `--device
cuda`.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn, optim

from benchmarks.loader import compare
from models.highlight.base.contract import Batch, ModelSpec, Scores
from models.highlight.generic import sl_module
from models.highlight.personalized import mha_fusion, pr_net
from trainer.base.targets import Targets
from trainer.config.toml_binding import bind
from trainer.data import (
    DataSettings,
    DeviceBatch,
    HighlightDataset,
    Loader,
    LoaderSettings,
    open_data,
    to_device,
)
from trainer.data.collate import tensors_of
from trainer.losses.mha_fusion import mha_fusion as mha_fusion_loss
from trainer.losses.pr_net import bidirectional_contrastive
from trainer.losses.set_based.set_kl import set_divergence
from trainer.synthetic.user_features import SyntheticUserSettings, synthesize_users

Objective = Callable[[Scores, Batch, Targets], Tensor]
PLANTED = SyntheticUserSettings(train_users=6, test_users=1, max_videos=3, lost_share=0)
EPOCH_TIMES = 32
"""So often each example stands in an epoch, so that workers read ahead without a break."""
CPU_SHARE = 8
PREFETCH = 2
SETS = (1, 32)
"""Sets of a step of the SL-module: the released code's, and as many as PR-Net's videos."""
SET_SIZE, SET_WIDTH = 20, 4096


@dataclass(frozen=True)
class System:
    """One paper's training: its recipe, and what the paper says of an epoch."""

    recipe: str
    spec: ModelSpec
    objective: Objective
    planted: SyntheticUserSettings
    examples: int
    """Of an epoch of the paper."""
    paper_seconds: float
    """An epoch of the paper, on 8 V100."""

    @property
    def table(self) -> Mapping[str, Any]:
        """The recipe, read without the table of all models, which needs more packages."""
        return tomllib.loads(
            (resources.files("trainer") / "recipes" / f"{self.recipe}.toml").read_text()
        )

    @property
    def data(self) -> DataSettings:
        """As the recipe has it, but with every video as target: few users then make many
        batches.
        """
        given = {"arrays": self.spec.arrays, "unit": self.spec.unit, "history": self.spec.history}
        changed = given | self.table["data"] | {"targets": "every", "holdout_users": 1}
        return bind(DataSettings, changed, self.recipe)


SYSTEMS = {
    "pr_net": System(
        "pr_net",
        pr_net.SPEC,
        bidirectional_contrastive,
        replace(PLANTED, width=8192),
        9_478,
        7 * 3600 / 150,
    ),
    "mha_fusion": System(
        "mha_fusion",
        mha_fusion.SPEC,
        mha_fusion_loss,
        replace(PLANTED, width=8, with_frames=True, object_shape=(512, 4, 4), joint_channels=512),
        26_390,
        1480.0,
    ),
}
"""PR-Net: 9,478 training users with one video each, 7 hours for 150 epochs. MHA+Fusion: 26,390
videos, 1,480 s.
"""


class Learner:
    """A network and its optimizer: one step as `trainer.training.loop` makes it."""

    def __init__(
        self, model: nn.Module, objective: Objective, optimizer: optim.Optimizer, device: str
    ) -> None:
        self.model, self.objective, self.optimizer, self.device = (
            model,
            objective,
            optimizer,
            device,
        )
        self.is_bf16 = False

    def step(self, batch: Batch, targets: Targets) -> None:
        """Forward, loss, backward, weights."""
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.is_bf16):
            scores = self.model(batch)
        loss = self.objective(scores.float(), batch, targets)
        if not torch.isfinite(loss.detach()):
            raise ArithmeticError(f"the loss is {float(loss)}: what was timed is no training")
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def timed(work: Callable[[], Any], device: str) -> float:
    """Seconds until the device is done."""
    start = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def many(dataset: HighlightDataset) -> HighlightDataset:
    """The same examples, each `EPOCH_TIMES` times an epoch."""
    found = replace(dataset.example_set, examples=dataset.example_set.examples * EPOCH_TIMES)
    return HighlightDataset(
        dataset.reader, found, np.tile(dataset.shards, EPOCH_TIMES), dataset.notes
    )


def workers_that_fit(wanted: int, batch_bytes: int) -> int:
    """How many processes may read ahead: their batches wait in shared memory, which containers
    often have little of.
    """
    folder = Path("/dev/shm")  # noqa: S108 - looked at, not written
    free = shutil.disk_usage(folder).free if folder.is_dir() else 0
    return max(0, min(wanted, int((free / 2 / batch_bytes - 2) // PREFETCH)))


def steps_of(
    system: System, folder: Path, device: str, wanted_workers: int, rounds: int
) -> Iterator[str]:
    """The rows of one system."""
    dataset = many(open_data(folder, system.data).training())
    size = system.table["training"]["batch_size"] // (1 if device.startswith("cuda") else CPU_SHARE)
    first = next(iter(Loader(dataset, LoaderSettings(size, device=device))))
    batch_bytes = sum(
        t.numel() * t.element_size() for t in (*tensors_of(first.batch), *tensors_of(first.targets))
    )
    workers = workers_that_fit(wanted_workers, batch_bytes)
    loader = Loader(
        dataset, LoaderSettings(size, workers=workers, prefetch=PREFETCH, device=device)
    )
    batches = (loaded for _ in range(10_000) for loaded in loader if len(loaded.examples) == size)
    learner = _learner(system, dataset, device)
    for precision in ("fp32", "bf16"):
        learner.is_bf16 = precision == "bf16"
        reset_memory(device)
        alone = step_seconds(learner, first.batch, first.targets, rounds)
        waiting, working = zip(
            *(_next_step(learner, batches) for _ in range(workers * PREFETCH + rounds)), strict=True
        )
        wait, work = (statistics.fmean(seconds[-rounds:]) for seconds in (waiting, working))
        steps = -(-system.examples // system.table["training"]["batch_size"])
        epoch = (
            f"{steps} steps, {steps * (wait + work):,.0f} s; computing alone {steps * alone:,.0f} s"
        )
        yield (
            f"| {system.recipe} | {precision} | {size} | {batch_bytes / 1e6:,.0f} | {workers} "
            f"| {1e3 * wait:,.0f} "
            f"| {1e3 * work:,.0f} | {1e3 * alone:,.0f} | {memory(device)} "
            f"| {epoch if device.startswith('cuda') else '-'} | {system.paper_seconds:,.0f} s |"
        )


def _learner(system: System, dataset: HighlightDataset, device: str) -> Learner:
    torch.manual_seed(0)
    features = dataset.reader.features
    settings = bind(
        system.spec.settings,
        {k: v for k, v in system.table["model"].items() if k != "name"},
        "model",
    )
    model = (
        system.spec.build(settings, {key: features.shapes[key] for key in features.keys})
        .to(device)
        .train()
    )
    chosen = system.table["optimizer"]
    adam = optim.Adam(
        model.parameters(), lr=chosen["learning_rate"], weight_decay=chosen.get("weight_decay", 0.0)
    )
    return Learner(model, system.objective, adam, device)


def step_seconds(learner: Learner, batch: Batch, targets: Targets, rounds: int) -> float:
    """The median of some steps after two others."""
    return statistics.median(
        [timed(lambda: learner.step(batch, targets), learner.device) for _ in range(rounds + 2)][2:]
    )


def _next_step(learner: Learner, batches: Iterator[DeviceBatch]) -> tuple[float, float]:
    """Seconds of waiting for a batch, and of the step on it."""
    start = time.perf_counter()
    loaded = next(batches)
    waited = time.perf_counter() - start
    return waited, timed(lambda: learner.step(loaded.batch, loaded.targets), learner.device)


def reset_memory(device: str) -> None:
    """Count the most that tensors take anew."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)


def memory(device: str) -> str:
    """The most that tensors took of the GPU's."""
    return (
        f"{torch.cuda.max_memory_allocated(device) / 1e9:.1f}" if device.startswith("cuda") else "-"
    )


def sets_of(count: int, device: str) -> tuple[Batch, Targets]:
    """Random sets with three highlights each."""
    mask = torch.ones(count, SET_SIZE, dtype=torch.bool)
    nothing = torch.zeros(count, 0, 0)
    features = {sl_module.ARRAYS[0]: torch.randn(count, SET_SIZE, SET_WIDTH)}
    spans = torch.zeros(count, SET_SIZE, 2, dtype=torch.float64)
    batch = Batch(features, mask, spans, {}, nothing.bool(), torch.zeros(count, 0, 0, 2))
    labels = (torch.arange(SET_SIZE) < 3).float().expand(count, -1)
    return to_device(batch, device), to_device(
        Targets(labels, labels > 0, torch.zeros(count, 0, 2).long()), device
    )


def sl_module_steps(device: str, rounds: int) -> Iterator[str]:
    """Rows of the SL-module at the published size, with the published optimizer."""
    torch.manual_seed(0)
    reset_memory(device)
    with torch.device(device):
        model = sl_module.SL_MODULE.build(
            sl_module.SLSettings(), {sl_module.ARRAYS[0]: (SET_WIDTH,)}
        ).train()
    sgd = optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    learner = Learner(model, set_divergence, sgd, device)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    for precision in ("fp32", "bf16"):
        learner.is_bf16 = precision == "bf16"
        for count in SETS:
            seconds = step_seconds(learner, *sets_of(count, device), rounds)
            yield (
                f"| sl_module, {parameters:,} weights | {precision} | {count} × {SET_SIZE} "
                f"| {1 / seconds:.2f} "
                f"| {memory(device)} |"
            )


def lines(chosen: argparse.Namespace) -> Iterator[str]:
    """The tables, row by row; those that take longest come last."""
    device = chosen.device
    is_gpu = device.startswith("cuda")
    name = (
        torch.cuda.get_device_name(device) if is_gpu else f"CPU, {torch.get_num_threads()} threads"
    )
    yield f"{name}, torch {torch.__version__}, PyTorch's own choice of TF32\n"
    if "sl_module" in chosen.systems:
        yield "| system | precision | sets of a step | steps/s | GPU, GB |"
        yield f"|{'-|' * 5}"
        yield from sl_module_steps(device, chosen.rounds)
        yield ""
    steps = [system for system in SYSTEMS if system in chosen.systems]
    if steps:
        yield (
            "| system | precision | batch | MB a batch | readers | waiting, ms | computing, ms "
            "| without readers, ms "
            "| GPU, GB | an epoch here | of the paper, 8 V100 |"
        )
        yield f"|{'-|' * 11}"
    for system in steps:
        with planted(SYSTEMS[system].planted) as folder:
            yield from steps_of(SYSTEMS[system], folder, device, chosen.workers, chosen.rounds)
    if "loader" in chosen.systems:
        yield ""
        with planted(SYSTEMS["pr_net"].planted) as folder:
            yield from compare(folder, SYSTEMS["pr_net"].planted.width, min(chosen.rounds, 3), 8)


@contextmanager
def planted(settings: SyntheticUserSettings) -> Iterator[Path]:
    """A store that is gone afterwards."""
    with tempfile.TemporaryDirectory() as root:
        started = time.perf_counter()
        folder = synthesize_users(Path(root), settings)
        sys.stderr.write(
            f"planted rows of {settings.width} in {time.perf_counter() - started:.0f} s\n"
        )
        yield folder


def main() -> None:
    """Print Markdown tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "systems", nargs="*", metavar="SYSTEM", help=f"of {', '.join(SYSTEMS)}, sl_module, loader"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=0, help="processes that read ahead")
    chosen = parser.parse_args()
    everywhere = [*SYSTEMS, "loader"]
    chosen.systems = chosen.systems or [
        *everywhere,
        *(["sl_module"] if chosen.device.startswith("cuda") else []),
    ]
    unknown = set(chosen.systems) - {*everywhere, "sl_module"}
    if unknown:
        parser.error(
            f"unknown system {', '.join(sorted(unknown))}; "
            f"choose from {', '.join(everywhere)} and sl_module"
        )
    for line in lines(chosen):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
