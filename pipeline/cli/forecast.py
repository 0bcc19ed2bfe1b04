"""`python -m pipeline forecast --catalog phd2 --pilot 50`: what a whole catalog will take, told
from what a part took.

Knows the options, the site's pace and the lines. How a forecast is made lies in `forecast.py`.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Mapping
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
MOST_DIGITS = 6
"""More than usual, where the ends of an interval lie close."""
WIDTH = 38
"""Of the column of names, in characters."""


@dataclass(frozen=True)
class Prices:
    """In whatever currency; 0 where a thing costs nothing."""

    core_hour: float = 0.0
    gpu_hour: float = 0.0
    machine_hour: float = 0.0
    terabyte_month: float = 0.0
    months: float = 1.0
    """How long media and features are kept."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Everything the command takes."""
    parser.add_argument(
        "--catalog",
        required=True,
        help="the name of a catalog that runs were made of, such as phd2",
    )
    parser.add_argument(
        "--pilot", type=_count, default=1000, metavar="N", help="look at the first N built videos"
    )
    parser.add_argument("--data-root", type=local_folder, default=Path("data"), help="[data] root")
    parser.add_argument(
        "--source", default=YOUTUBE, help="where videos come from, as in [download] source"
    )
    parser.add_argument(
        "--videos-per-hour",
        type=_amount,
        help="by default what the source is known to bear; 0: no limit",
    )
    parser.add_argument(
        "--machines",
        type=_count,
        default=1,
        help="that build shards side by side, each like the pilot's",
    )
    for name, what in {
        "core-hour": "an hour of a processor core",
        "gpu-hour": "an hour of a GPU",
        "machine-hour": "an hour of a whole machine, instead of its cores and GPUs",
        "terabyte-month": "storing a terabyte for a month",
    }.items():
        parser.add_argument(
            f"--price-{name}", type=_amount, default=0.0, metavar="PRICE", help=what
        )
    parser.add_argument(
        "--months", type=_amount, default=1.0, help="how long what was built is stored"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the forecast."""
    source = SourceSettings(options.source)
    per_hour = (
        source.pace.videos_per_hour if options.videos_per_hour is None else options.videos_per_hour
    )
    layout = Layout(options.data_root, options.catalog)
    catalog = read_catalog(layout.folder)
    pilot, whole = find_pilot(layout, catalog, options.pilot), catalog_size(catalog)
    names = ("core_hour", "gpu_hour", "machine_hour", "terabyte_month")
    prices = Prices(
        **{name: getattr(options, f"price_{name}") for name in names}, months=options.months
    )
    if prices.machine_hour and (prices.core_hour or prices.gpu_hour):
        raise SettingsError(
            ("--price-machine-hour is instead of --price-core-hour and --price-gpu-hour",)
        )
    for line in format_forecast(catalog.name, pilot, whole, per_hour, options.machines, prices):
        sys.stdout.write(f"{line}\n")
    return 0


def format_forecast(
    name: str, pilot: Pilot, whole: CatalogSize, per_hour: float, machines: int, prices: Prices
) -> Iterator[str]:
    """Lines for a person."""
    found = extrapolate(pilot, whole)
    stated, where = (
        whole.videos - whole.without_duration,
        f", computed on {pilot.device}" if pilot.device else "",
    )
    yield f"{name}: {whole.videos:,} videos, {stated:,} of them with a stated duration"
    yield f"pilot: {pilot.asked:,} videos of {len(pilot.runs)} runs, {pilot.decoded:,} survived{where}"
    yield f"{'':<{WIDTH}}{'expected':>12}{'':13}{LEVEL:.0%} interval"
    yield _line("videos that survive", found[SURVIVORS], "")
    yield _line("their duration", found[VIDEO_SECONDS].times(HOUR), "hours")
    yield from _time(found, whole.videos, per_hour, machines)
    cores, gpus = _processors(found, on_gpu=pilot.device.startswith("cuda"))
    yield from (_line(what, estimate, "core-hours") for what, estimate in cores.items())
    yield from (_line(what, estimate, "GPU-hours") for what, estimate in gpus.items())
    disk = {"videos": found["media_bytes"]}
    disk |= {
        what.partition(":")[2]: one
        for what, one in found.items()
        if what.startswith("feature_bytes:")
    }
    yield from (
        _line(f"disk: {what}", estimate.times(GIGABYTE), "GB") for what, estimate in disk.items()
    )
    costs = {
        "price of machines": [found[BUILDING].times(HOUR * prices.machine_hour)],
        "price of cores": [one.times(prices.core_hour) for one in cores.values()],
        "price of GPUs": [one.times(prices.gpu_hour) for one in gpus.values()],
        "price of disk": [
            one.times(TERABYTE * prices.terabyte_month * prices.months) for one in disk.values()
        ],
    }
    yield from (
        _line(what, sum_estimates(parts), "")
        for what, parts in costs.items()
        if any(part.value for part in parts)
    )


def _time(
    found: Mapping[str, Estimate], videos: int, per_hour: float, machines: int
) -> Iterator[str]:
    """What goes on beside each other: files are asked for, files are built from."""
    transfers, building = found["download"].times(DAY), found[BUILDING].times(HOUR / machines)
    budget = videos / per_hour / 24 if per_hour else 0.0
    if budget:
        yield f"{f'asking for {per_hour:g} videos an hour':<{WIDTH}}{_number(budget):>12} days"
    yield _line("transfers, one after the other", transfers, "days")
    yield _line(f"building, {machines} such machine{'s' * (machines > 1)}", building, "hours")
    yield _line(
        "all, building while downloading",
        building.times(1 / 24).at_least(transfers).at_least(budget),
        "days",
    )


def _processors(
    found: Mapping[str, Estimate], *, on_gpu: bool
) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
    """Hours of cores and of GPUs, by what they are spent on."""
    cores, gpus = {"decoding": found["decode"].times(HOUR)}, dict[str, Estimate]()
    for what, estimate in found.items():
        kind, _, variant = what.partition(":")
        if kind == "prepare":
            cores[f"{variant}: shrinking frames"] = estimate.times(HOUR)
        elif kind in ("compute", "copy"):
            (gpus if on_gpu else cores)[f"{variant}: {kind}"] = estimate.times(HOUR)
    return cores, gpus


def _line(what: str, estimate: Estimate, unit: str) -> str:
    return f"{what:<{WIDTH}}{_number(estimate.value):>12} {unit:<12}{_interval(estimate)}"


def _interval(estimate: Estimate) -> str:
    """With as many digits as tell its ends apart; in words where there is none."""
    low, high = estimate.interval
    if low == high:
        return "measured, nothing is left open" if estimate.value else "nothing in what was built"
    if _number(low).rstrip("0.") != _number(high).rstrip("0."):
        return f"{_number(low)} to {_number(high)}"
    for more in range(MOST_DIGITS):
        digits = _digits(low) + more
        if (start := f"{low:,.{digits}f}") != (end := f"{high:,.{digits}f}"):
            return f"{start} to {end}"
    return f"{_number(low)}, to more digits than are shown"


def _number(value: float) -> str:
    """Three digits that count, at least."""
    return f"{value:,.{_digits(value)}f}"


def _digits(value: float) -> int:
    return min(5, max(0, 2 - math.floor(math.log10(value)))) if value > 0 else 0


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
