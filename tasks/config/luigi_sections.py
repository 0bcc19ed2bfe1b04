"""The sections of `workflows.cfg` as Luigi classes, so that `--section-key` sets a key.

One class per section, named after it. It holds types only: defaults are in `workflows.cfg`, and
`settings.py` checks the meaning. Sections of extractors are made from their settings dataclasses,
and those of datasets from the files they are published as, so a new one needs no edit here.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import luigi

from models.extractors.registry import EXTRACTORS
from pipeline.datasets.registry import DATASETS


class CommaList(luigi.Parameter[tuple[str, ...]]):
    """`a, b` in the file or on the command line; a tuple of names in code."""

    def parse(self, value: str) -> tuple[str, ...]:
        """Split at commas; spaces around names do not count."""
        return tuple(name.strip() for name in value.split(",") if name.strip())

    def serialize(self, value: tuple[str, ...]) -> str:
        """The names, separated by commas."""
        return ", ".join(value)


class TrueOrFalse(luigi.BoolParameter):
    """`true` or `false`, written out on the command line too.

    A flag could not switch off what the file switches on.
    """

    parsing = luigi.BoolParameter.EXPLICIT_PARSING


class FiniteNumber(luigi.FloatParameter):
    """A number, but not infinity or `nan`: no limit or rate can be either."""

    def parse(self, x: str) -> float:
        """The number. Raises ValueError for any other text."""
        value = float(x)
        if not math.isfinite(value):
            raise ValueError(f"{x} is not finite")
        return value


_PARAMETER = {
    "int": luigi.IntParameter,
    "float": FiniteNumber,
    "str": luigi.Parameter,
    "bool": TrueOrFalse,
    "tuple[str, ...]": CommaList,
}
"""Type of a settings field → the Luigi parameter that reads it."""


def _section(name: str, **types: str) -> type[luigi.Config]:
    return _config(name, {key: _PARAMETER[kind]() for key, kind in types.items()})


def _config(name: str, parameters: dict[str, Any]) -> type[luigi.Config]:
    family, _, word = name.rpartition(".")
    return type(
        word, (luigi.Config,), {"task_namespace": family, "__module__": __name__, **parameters}
    )


def extractor_section(
    variant: str, extractor: str, others: luigi.Config | None = None
) -> type[luigi.Config]:
    """The section of one variant: its extractor's settings, and weights if it needs any.

    `others` gives the values of keys that the section leaves out; without it, every key is needed.
    """
    spec = EXTRACTORS[extractor]
    types = {field.name: str(field.type) for field in dataclasses.fields(spec.settings_type)}
    if spec.needs_weights:
        types["weights"] = "str"
    if others is None:
        return _section(variant, **types)
    return _config(
        variant,
        {key: _PARAMETER[kind](default=getattr(others, key)) for key, kind in types.items()},
    )


SECTIONS: dict[str, type[luigi.Config]] = {
    "data": _section("data", root="str", shards="int", part_megabytes="int"),
    **{
        name: _section(name, **{published.setting: "str" for published in spec.files.values()})
        for name, spec in DATASETS.items()
        if spec.url
    },
    "download": _section(
        "download",
        source="str",
        max_height="int",
        attempts="int",
        socket_timeout_seconds="float",
        proxy="str",
        cookies_file="str",
        videos_per_hour="str",
        max_pause_hours="float",
        max_megabytes="int",
        min_bytes_per_second="float",
        max_transfer_hours="float",
    ),
    "decode": _section(
        "decode",
        backend="str",
        videos_at_once="str",
        max_pixels="int",
        max_seconds="float",
        stall_seconds="float",
        max_wait_seconds="float",
        max_wait_ratio="float",
        max_memory_megabytes="int",
        recycle_after_videos="int",
    ),
    "cluster": _section(
        "cluster",
        kind="str",
        workers="int",
        cores_per_worker="int",
        allowed_failures="int",
        address="str",
        tls_ca_file="str",
        tls_cert="str",
        tls_key="str",
    ),
    "slurm": _section(
        "slurm",
        jobs="int",
        partition="str",
        account="str",
        time="str",
        cores="int",
        memory_gigabytes="int",
        gpus="int",
        interface="str",
        scratch="str",
        directives="tuple[str, ...]",
        prologue="str",
        requeues="int",
    ),
    "extract": _section("extract", extractors="tuple[str, ...]", device="str"),
    **{name: extractor_section(name, name) for name in EXTRACTORS},
}
"""Section name → its class, without Luigi's own sections (core, worker, retcode, ...)."""
