"""Before its first video, each environment proves that its extractors give their known numbers; once, for it is noted.

An environment is the libraries, the device and the code of the networks. Knows `models.extractors.golden`; refuses to
go on with features that look right and are wrong. A user's own weights are guarded by their sha256 instead.
"""

from __future__ import annotations

import functools
import hashlib
import platform
from pathlib import Path

from models.extractors import golden
from models.extractors.spec import ExtractorSpec
from pipeline.provenance import library_versions
from storage.atomic import publish
from storage.errors import SystemicFault
from storage.fingerprint import fingerprint, readable
from storage.records import JSON

_MODELS = Path(golden.__file__).resolve().parents[1]


def prove(spec: ExtractorSpec, device: str, proofs: Path) -> None:
    """Return if this environment gives the extractor's known numbers on `device`; noted in the folder `proofs`.

    Raises SystemicFault, with every array that differs, if it does not.
    """
    environment = environment_of(device)
    note = proofs / f"{spec.name}-{fingerprint({**environment, 'numerics_version': spec.numerics_version})}.json"
    if note.exists():
        return
    try:
        found = golden.signatures(spec, device)
        differing = list(golden.differences(spec, found))
    except golden.NoGolden as error:
        raise SystemicFault(f"{error}: run tests/models/goldens/make_goldens.py and look at what changed") from error
    if differing:
        lines = "\n  ".join(differing)
        raise SystemicFault(
            f"{spec.name} does not give its known numbers here, so nothing was extracted:\n  {lines}\n"
            f"The environment: {environment}. If the code was changed on purpose, raise its numerics_version and run "
            "tests/models/goldens/make_goldens.py; otherwise install what requirements.lock names."
        )
    publish(note, readable({"extractor": spec.name, "environment": environment}), replace=True)


def environment_of(device: str) -> dict[str, JSON]:
    """What may change numbers: libraries, processor or GPU, and the code of the networks."""
    return {
        "code": code_digest(),
        "device": device_name(device),
        "libraries": dict(library_versions()),
    }


def device_name(device: str) -> str:
    """`cpu x86_64`, or the GPU's name."""
    if not device.startswith("cuda"):
        return f"{device} {platform.machine()}"
    import torch  # seconds to import: only where a GPU is used

    return f"{device} {torch.cuda.get_device_name(device)}"


@functools.cache
def code_digest() -> str:
    """12 hex digits for everything in `models`."""
    sha = hashlib.sha256()
    for path in sorted([*_MODELS.rglob("*.py"), golden.GOLDENS_FILE]):
        sha.update(f"{path.relative_to(_MODELS).as_posix()}\0".encode())
        sha.update(hashlib.sha256(path.read_bytes()).digest())
    return sha.hexdigest()[:12]
