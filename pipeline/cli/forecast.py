"""`python -m pipeline forecast --catalog phd2 --pilot 50`: what a whole catalog will take.

How a pilot becomes a forecast is in `pipeline.diagnostics.forecast`.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.cli.arguments import local_folder
from pipeline.diagnostics.forecast import (
    LEVEL,
    SURVIVORS,
    VIDEO_SECONDS,
    CatalogSize,
    Estimate,
    catalog_size,
    extrapolate,
    sum_estimates,
)
from pipeline.diagnostics.pilot import BUILDING, Pilot, find_pilot
from pipeline.download.access.source import YOUTUBE, SourceSettings
from storage.base.errors import SettingsError
from storage.base.paths import Layout
from storage.catalog.catalog import read_catalog

HOUR, DAY = 1 / 3600, 1 / 86400
GIGABYTE, TERABYTE = 1e-9, 1e-12
MAX_EXTRA_DIGITS = 6
"""Added until the two ends of a narrow interval are printed differently."""
NAME_WIDTH = 38
"""Width of the column of names, in characters."""


@dataclass(frozen=True)
class Prices:
    """Prices in any one currency; 0 for things that cost nothing."""

    core_hour: float = 0.0
    gpu_hour: float = 0.0
    machine_hour: float = 0.0
    terabyte_month: float = 0.0
    months: float = 1.0
    """How long media and features are stored."""

    @property
    def stored_byte(self) -> float:
        """Of one byte, for all months."""
        return TERABYTE * self.terabyte_month * self.months


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "--catalog",
        required=True,
        help="a catalog with runs, such as phd2",
    )
    parser.add_argument(
        "--pilot", type=_count, default=1000, metavar="N", help="use the first N built videos"
    )
    parser.add_argument("--data-root", type=local_folder, default=Path("data"), help="[data] root")
    parser.add_argument(
        "--source", default=YOUTUBE, help="where videos come from, as in [download] source"
    )
    parser.add_argument(
        "--videos-per-hour",
        type=_amount,
        help="default: the known limit of the source; 0: no limit",
    )
    parser.add_argument(
        "--machines",
        type=_count,
        default=1,
        help="machines that build shards in parallel, each like the pilot's",
    )
    for name, description in {
        "core-hour": "an hour of a processor core",
        "gpu-hour": "an hour of a GPU",
        "machine-hour": "an hour of a whole machine, instead of its cores and GPUs",
        "terabyte-month": "storing a terabyte for a month",
    }.items():
        parser.add_argument(
            f"--price-{name}", type=_amount, default=0.0, metavar="PRICE", help=description
        )
    parser.add_argument(
        "--months", type=_amount, default=1.0, help="how long videos and features are stored"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the forecast; returns the exit code."""
    source = SourceSettings(options.source)
    per_hour = options.videos_per_hour
    if per_hour is None:
        per_hour = source.pace.videos_per_hour
    layout = Layout(options.data_root, options.catalog)
    catalog = read_catalog(layout.folder)
    pilot, whole = find_pilot(layout, catalog, options.pilot), catalog_size(catalog)
    names = ("core_hour", "gpu_hour", "machine_hour", "terabyte_month")
    prices = Prices(
        **{name: getattr(options, f"price_{name}") for name in names}, months=options.months
    )
    if prices.machine_hour and (prices.core_hour or prices.gpu_hour):
        problem = "--price-machine-hour replaces --price-core-hour and --price-gpu-hour"
        raise SettingsError((f"{problem}: give only one kind",))
    for line in format_forecast(catalog.name, pilot, whole, per_hour, options.machines, prices):
        sys.stdout.write(f"{line}\n")
    return 0


def format_forecast(
    name: str, pilot: Pilot, whole: CatalogSize, per_hour: float, machines: int, prices: Prices
) -> Iterator[str]:
    """Lines for a person."""
    estimates = extrapolate(pilot, whole)
    stated = whole.videos - whole.without_duration
    device = f", computed on {pilot.device}" if pilot.device else ""
    yield f"{name}: {whole.videos:,} videos, {stated:,} of them with a stated duration"
    yield (
        f"pilot: {pilot.requested:,} videos of {len(pilot.runs)} runs, "
        f"{pilot.decoded:,} survived{device}"
    )
    yield f"{'':<{NAME_WIDTH}}{'expected':>12}{'':13}{LEVEL:.0%} interval"
    yield _line("videos that survive", estimates[SURVIVORS], "")
    yield _line("their duration", estimates[VIDEO_SECONDS].times(HOUR), "hours")
    yield from _time_lines(estimates, whole.videos, per_hour, machines)
    cores, gpus = _processor_hours(estimates, on_gpu=pilot.device.startswith("cuda"))
    for step, estimate in cores.items():
        yield _line(step, estimate, "core-hours")
    for step, estimate in gpus.items():
        yield _line(step, estimate, "GPU-hours")
    disk = _disk_bytes(estimates)
    for step, estimate in disk.items():
        yield _line(f"disk: {step}", estimate.times(GIGABYTE), "GB")
    costs = {
        "price of machines": [estimates[BUILDING].times(HOUR * prices.machine_hour)],
        "price of cores": [hours.times(prices.core_hour) for hours in cores.values()],
        "price of GPUs": [hours.times(prices.gpu_hour) for hours in gpus.values()],
        "price of disk": [size.times(prices.stored_byte) for size in disk.values()],
    }
    yield from _cost_lines(costs)


def _cost_lines(costs: Mapping[str, Sequence[Estimate]]) -> Iterator[str]:
    """A line for everything that costs something."""
    for label, parts in costs.items():
        if any(part.value for part in parts):
            yield _line(label, sum_estimates(parts), "")


def _disk_bytes(estimates: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """Bytes of the videos, and of each variant's features."""
    disk = {"videos": estimates["media_bytes"]}
    for step, estimate in estimates.items():
        kind, _, variant = step.partition(":")
        if kind == "feature_bytes":
            disk[variant] = estimate
    return disk


def _time_lines(
    estimates: Mapping[str, Estimate], videos: int, per_hour: float, machines: int
) -> Iterator[str]:
    """Elapsed times of requests, transfers and building, and of all of them in parallel."""
    transfers = estimates["download"].times(DAY)
    building = estimates[BUILDING].times(HOUR / machines)
    # A polite rate of requests may take longer than the transfers themselves.
    request_days = videos / per_hour / 24 if per_hour else 0.0
    if request_days:
        label = f"asking for {per_hour:g} videos an hour"
        yield f"{label:<{NAME_WIDTH}}{_number(request_days):>12} days"
    yield _line("transfers, one after the other", transfers, "days")
    plural = "s" if machines > 1 else ""
    yield _line(f"building, {machines} such machine{plural}", building, "hours")
    slowest = building.times(1 / 24).at_least(transfers).at_least(request_days)
    yield _line("all, building while downloading", slowest, "days")


def _processor_hours(
    estimates: Mapping[str, Estimate], *, on_gpu: bool
) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
    """Hours of cores and of GPUs, by what they are spent on."""
    cores = {"decoding": estimates["decode"].times(HOUR)}
    gpus: dict[str, Estimate] = {}
    compute = gpus if on_gpu else cores
    for step, estimate in estimates.items():
        kind, _, variant = step.partition(":")
        if kind == "prepare":
            cores[f"{variant}: shrinking frames"] = estimate.times(HOUR)
        elif kind in ("compute", "copy"):
            compute[f"{variant}: {kind}"] = estimate.times(HOUR)
    return cores, gpus


def _line(label: str, estimate: Estimate, unit: str) -> str:
    return f"{label:<{NAME_WIDTH}}{_number(estimate.value):>12} {unit:<12}{_interval(estimate)}"


def _interval(estimate: Estimate) -> str:
    """The ends of the interval, with as many digits as distinguish them; words if it is a point."""
    low, high = estimate.interval
    if low == high:
        return "measured, nothing is left open" if estimate.value else "nothing in what was built"
    # Ends of different magnitude have different numbers of digits: 1.00 and 1.000 are equal.
    if _number(low).rstrip("0.") != _number(high).rstrip("0."):
        return f"{_number(low)} to {_number(high)}"
    for extra in range(MAX_EXTRA_DIGITS):
        digits = _digits(low) + extra
        start, end = f"{low:,.{digits}f}", f"{high:,.{digits}f}"
        if start != end:
            return f"{start} to {end}"
    return f"{_number(low)}, to more digits than are shown"


def _number(value: float) -> str:
    """The value with at least three significant digits."""
    return f"{value:,.{_digits(value)}f}"


def _digits(value: float) -> int:
    """Digits after the point that give three significant ones, at most 5."""
    if value <= 0:
        return 0
    return min(5, max(0, 2 - math.floor(math.log10(value))))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def _amount(text: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = -1.0
    if not 0 <= amount < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number, 0 or more, got {text!r}")
    return amount
