"""Names the kind of processor that computes.

Rows from different kinds differ in their last digits, so the kind is recorded with every store and
compared. Reads /proc/cpuinfo, which only Linux has.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Mapping
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
INSTRUCTION_SETS = (
    "sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512dq",
    "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "asimd",
    "asimddp", "bf16", "sve", "sve2",
)  # fmt: skip
"""Those by which torch, oneDNN and MKL choose their order of summation."""


def processor_kind(device: str) -> str:
    """The name of a GPU, or a CPU's model with the instruction sets that affect numbers.

    Equal on all machines of a kind: it contains no host name, number of cores or clock rate.
    """
    if device.startswith("cuda"):
        import torch  # takes seconds to import; only runs with a GPU need it

        return str(torch.cuda.get_device_name(device))
    try:
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        text = ""
    return _kind(text, platform.machine())


@functools.cache
def _kind(cpuinfo: str, machine: str) -> str:
    fields = _first_processor(cpuinfo)
    numbers = [f"{name} {fields[name]}" for name in ("cpu family", "model") if name in fields]
    description = ", ".join([_model(fields), machine, *numbers])
    flags = fields.get("flags") or fields.get("Features") or ""  # x86 or ARM
    known_flags = set(flags.split())
    sets = [name for name in INSTRUCTION_SETS if name in known_flags]
    return f"{description}: {' '.join(sets)}" if sets else description


def _model(fields: Mapping[str, str]) -> str:
    if fields.get("model name"):
        return fields["model name"]
    # ARM processors have numbers instead of a name.
    numbers = [fields.get("CPU implementer", ""), fields.get("CPU part", "")]
    return " ".join(filter(None, numbers)) or "unknown processor"


def _first_processor(cpuinfo: str) -> Mapping[str, str]:
    first, _, _ = cpuinfo.strip().partition("\n\n")
    lines = (line.partition(":") for line in first.splitlines())
    return {name.strip(): " ".join(value.split()) for name, _, value in lines}
