"""The kind of a processor: equal on equal machines, different on others, kept in the store."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path

import pytest

from models.extractors.registry import EXTRACTORS
from pipeline.compute import processor_kind as processors
from pipeline.compute.processor_kind import processor_kind
from pipeline.diagnostics import self_test
from pipeline.extraction.provenance import provenance
from pipeline.extraction.variant import Variant
from storage.base.records import JSON
from storage.features.manifest import PROCESSORS

XEON = """\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 85
model name\t: Intel(R) Xeon(R) CPU @ 2.00GHz
stepping\t: 3
cpu MHz\t\t: 2000.162
flags\t\t: fpu sse4_2 avx f16c fma avx2 avx512f avx512dq avx512cd avx512bw avx512vl

"""
ARM = """\
processor\t: 0
BogoMIPS\t: 2100.00
Features\t: fp asimd asimddp sve bf16
CPU implementer\t: 0x41
CPU part\t: 0xd40

"""


@pytest.fixture
def cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cpuinfo"
    path.write_text(XEON + XEON.replace("processor\t: 0", "processor\t: 1"))
    monkeypatch.setattr(processors, "CPUINFO", path)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    return path


def test_model_and_instruction_sets_are_told_and_nothing_of_the_single_machine(
    cpuinfo: Path,
) -> None:
    told = processor_kind("cpu")
    assert told == (
        "Intel(R) Xeon(R) CPU @ 2.00GHz, x86_64, cpu family 6, model 85: "
        "sse4_2 avx f16c fma avx2 avx512f avx512bw avx512dq avx512vl"
    )
    cpuinfo.write_text(XEON.replace("2000.162", "2700.001").replace("fpu ", "fpu hypervisor "))
    assert processor_kind("cpu") == told


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (XEON.replace("avx512vl", "avx512vl avx512_bf16"), "avx512vl avx512_bf16"),
        (XEON.replace("model\t\t: 85", "model\t\t: 143"), "model 143"),
        (ARM, "0x41 0xd40, x86_64: asimd asimddp bf16 sve"),
        ("", "unknown processor, x86_64"),
    ],
)
def test_another_kind_is_another_name(content: str, kind: str, cpuinfo: Path) -> None:
    before = processor_kind("cpu")
    cpuinfo.write_text(content)
    assert kind in processor_kind("cpu")
    assert processor_kind("cpu") != before
    cpuinfo.unlink()
    assert processor_kind("cpu") == "unknown processor, x86_64"


def test_what_several_machines_made_tells_of_all_of_them(cpuinfo: Path) -> None:
    variant = Variant("frames", EXTRACTORS["frames"], EXTRACTORS["frames"].settings_type())

    def made(before: Mapping[str, JSON]) -> dict[str, JSON]:
        return provenance(variant, "cpu", "pyav", before)

    before, first = [processor_kind("cpu")], made({})
    assert made(first) == first
    cpuinfo.write_text(XEON.replace("model\t\t: 85", "model\t\t: 143"))
    assert made({})[PROCESSORS] == [processor_kind("cpu")] != first[PROCESSORS]
    both = made(first)[PROCESSORS]
    assert isinstance(both, list)
    assert len(both) == 2
    assert {processor_kind("cpu"), *before} == set(both)


def test_the_start_up_proof_is_due_again_on_another_kind(cpuinfo: Path) -> None:
    before = self_test.environment_of("cpu")
    cpuinfo.write_text(XEON.replace("model\t\t: 85", "model\t\t: 143"))
    assert self_test.environment_of("cpu") != before
