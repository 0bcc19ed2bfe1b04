"""The child process that reads a weights file and writes its tensors as safetensors.

Run as `python -m pipeline.weights.conversion_worker MEMORY_BYTES CPU_SECONDS EMPTY_FOLDER`, with
the weights file as stdin. It writes to stdout: the length of the facts (8 bytes), the facts as
JSON, a safetensors file. If the file is refused, it writes a sentence to stderr and ends with exit
status 3. It does not import torch.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import sys

from models.weights.file_formats import read_checkpoint, safetensors_stream
from models.weights.safe_unpickler import InvalidCheckpoint
from pipeline.child_processes import sandbox

REFUSED = 3


def main(arguments: list[str]) -> int:
    """Give up what no reader needs, then convert."""
    max_memory_bytes, cpu_seconds, empty_folder = int(arguments[0]), int(arguments[1]), arguments[2]
    # From here on no relative path leads to a file of ours.
    os.chdir(empty_folder)
    layers = sandbox.enter(max_memory_bytes, None)
    # A hostile file may take very long to parse.
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    try:
        found = read_checkpoint(sys.stdin.buffer)
    except InvalidCheckpoint as error:
        sys.stderr.write(str(error)[:2000])
        return REFUSED
    table = {
        name: {"dtype": tensor.dtype, "shape": list(tensor.shape)}
        for name, tensor in found.tensors.items()
    }
    facts = json.dumps({"tensors": table, "layers": str(layers), **found.facts}).encode()
    out = sys.stdout.buffer
    out.write(struct.pack("<Q", len(facts)) + facts)
    out.writelines(safetensors_stream(found.tensors))
    out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
