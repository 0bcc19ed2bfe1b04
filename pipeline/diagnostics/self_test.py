"""Before its first video, each environment proves that its extractors give their known numbers;
once, for it is noted.

An environment is the libraries, the device and the code of the networks. Knows
`models.extractors.golden.golden_outputs`; refuses to go on with features that look right and are
wrong. A user's own weights are guarded by their sha256 instead.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from models.extractors.base.contract import ExtractorSpec
from models.extractors.base.precision import PARITY, Numerics
from models.extractors.golden import golden_outputs
from pipeline.compute.processor_kind import processor_kind
from pipeline.extraction.provenance import library_versions
from storage.base.errors import SystemicFault
from storage.base.fingerprint import fingerprint, readable_json, to_json_value
from storage.base.records import JSON
from storage.files.atomic_write import publish

_MODELS = Path(golden_outputs.__file__).resolve().parents[1]


def run_self_test(
    spec: ExtractorSpec, device: str, proofs: Path, numerics: Numerics = PARITY
) -> None:
    """Return if this environment gives the extractor's known numbers on `device`; noted in the
    folder `proofs`.

    Another precision or resize is proven after that, by how far it drifts here. Raises
    SystemicFault, with every array that differs, if something does.
    """
    environment = environment_of(device) | {"numerics_version": spec.numerics_version}
    _once(
        spec,
        environment,
        proofs,
        lambda: golden_outputs.golden_differences(
            spec, golden_outputs.compute_golden_outputs(spec, device)
        ),
    )
    if numerics.lossy_choices:
        environment |= {"numerics": to_json_value(numerics)}
        _once(
            spec,
            environment,
            proofs,
            lambda: golden_outputs.precision_violations(spec, device, numerics),
        )


def _once(
    spec: ExtractorSpec,
    environment: dict[str, JSON],
    proofs: Path,
    faults: Callable[[], Iterable[str]],
) -> None:
    note = proofs / f"{spec.name}-{fingerprint(environment)}.json"
    if note.exists():
        return
    try:
        differing = list(faults())
    except golden_outputs.GoldenMissing as error:
        raise SystemicFault(
            f"{error}: run tests/models/goldens/make_goldens.py and look at what changed"
        ) from error
    if differing:
        lines = "\n  ".join(differing)
        raise SystemicFault(
            f"{spec.name} does not give its known numbers here, so nothing was extracted:\n  {lines}\n"
            f"The environment: {environment}. If the code was changed on purpose, raise its numerics_version and run "
            "tests/models/goldens/make_goldens.py; otherwise install what requirements.lock names."
        )
    publish(note, readable_json({"extractor": spec.name, "environment": environment}), replace=True)


def environment_of(device: str) -> dict[str, JSON]:
    """What may change numbers: libraries, the kind of processor or GPU, and the code of the
    networks.
    """
    return {
        "code": code_digest(),
        "device": device.partition(":")[0],
        "processor": processor_kind(device),
        "libraries": dict(library_versions()),
    }


@functools.cache
def code_digest() -> str:
    """12 hex digits for everything in `models`."""
    sha = hashlib.sha256()
    for path in sorted([*_MODELS.rglob("*.py"), golden_outputs.GOLDENS_FILE]):
        sha.update(f"{path.relative_to(_MODELS).as_posix()}\0".encode())
        sha.update(hashlib.sha256(path.read_bytes()).digest())
    return sha.hexdigest()[:12]
