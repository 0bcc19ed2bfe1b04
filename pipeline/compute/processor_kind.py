"""What kind of processor computes: rows of unlike kinds differ in their last digits, so it is
recorded and compared.

Knows how Linux tells of processors. Refuses to know what follows from a difference.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Mapping
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
INSTRUCTION_SETS = (
    "sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni",
    "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "asimd", "asimddp", "bf16", "sve", "sve2",
)  # fmt: skip
"""Those by which torch, oneDNN and MKL choose how they add up."""


def processor_kind(device: str) -> str:
    """Of a torch device: the GPU's name; of `cpu` the processor's model, and which instruction sets
    that matter it has.

    The same on every machine of a kind: no name of a host, no number of cores, no clock.
    """
    if device.startswith("cuda"):
        import torch  # seconds to import: only where a GPU is used

        return str(torch.cuda.get_device_name(device))
    try:
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:  # no Linux
        text = ""
    return _kind(text, platform.machine())


@functools.cache
def _kind(cpuinfo: str, machine: str) -> str:
    told = _first_processor(cpuinfo)
    model = told.get("model name") or " ".join(
        filter(None, (told.get("CPU implementer"), told.get("CPU part")))
    )
    numbers = [f"{name} {told[name]}" for name in ("cpu family", "model") if name in told]
    flags = set((told.get("flags") or told.get("Features") or "").split())
    sets = [name for name in INSTRUCTION_SETS if name in flags]
    named = ", ".join([model or "unknown processor", machine, *numbers])
    return f"{named}: {' '.join(sets)}" if sets else named


def _first_processor(cpuinfo: str) -> Mapping[str, str]:
    first, _, _ = cpuinfo.strip().partition("\n\n")
    lines = (line.partition(":") for line in first.splitlines())
    return {name.strip(): " ".join(value.split()) for name, _, value in lines}
