"""The start-up self-test: each environment must reproduce the known outputs of its extractors.

An environment is the libraries, the device and the code of the networks. The test runs once per
environment, before its first video, and its success is recorded. It prevents features that look
right and are wrong. A user's own weights are guarded by their sha256 instead.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from models.extractors.base.contract import ExtractorSpec
from models.extractors.base.failures import ExtractorError
from models.extractors.base.precision import PARITY, Numerics
from models.extractors.golden import golden_outputs
from models.extractors.registry import EXTRACTORS
from pipeline.compute.extractor_calls import is_of_extractor, self_test_failure
from pipeline.compute.processor_kind import processor_kind
from pipeline.extraction.provenance import library_versions
from storage.base.errors import SystemicFault
from storage.base.fingerprint import fingerprint, readable_json, to_json_value
from storage.base.records import JSON
from storage.files.atomic_write import publish

_MODELS = Path(golden_outputs.__file__).resolve().parents[1]


def run_self_test(
    spec: ExtractorSpec, device: str, records: Path, numerics: Numerics = PARITY
) -> None:
    """Return if this environment gives the extractor's known outputs on `device`.

    Success is recorded in the folder `records`. Another precision or resize is tested after that,
    by how far its outputs are off. Raises SystemicFault, with every array that differs, and
    ExtractorFailed if the extractor raises an error.
    """
    environment = environment_of(device) | {"numerics_version": spec.numerics_version}
    plugin = EXTRACTORS.plugins.get(spec.name)
    if plugin is not None:
        environment["plugin"] = to_json_value(plugin)
    _run_once(
        spec,
        environment,
        records,
        lambda: golden_outputs.self_test_differences(spec, device),
    )
    # Only after the exact outputs are known to be right, deviations from them mean anything.
    if numerics.lossy_choices:
        environment |= {"numerics": to_json_value(numerics)}
        _run_once(
            spec,
            environment,
            records,
            lambda: golden_outputs.precision_violations(spec, device, numerics),
        )


def _run_once(
    spec: ExtractorSpec,
    environment: dict[str, JSON],
    records: Path,
    faults: Callable[[], Iterable[str]],
) -> None:
    record = records / f"{spec.name}-{fingerprint(environment)}.json"
    if record.exists():
        return
    try:
        differing = list(faults())
    except golden_outputs.GoldenMissing as error:
        advice = golden_outputs.golden_advice(spec, EXTRACTORS.plugin_text(spec.name))
        raise SystemicFault(f"{error}: {advice}") from error
    except ExtractorError as error:
        cause = error.__cause__
        if cause is not None and not is_of_extractor(cause):
            raise cause from None
        raise self_test_failure(EXTRACTORS.plugin_text(spec.name), error) from error
    if differing:
        raise SystemicFault(_difference_message(spec, differing, environment))
    # Written last: a test that is interrupted runs again.
    publish(
        record, readable_json({"extractor": spec.name, "environment": environment}), replace=True
    )


def _difference_message(
    spec: ExtractorSpec, differing: Sequence[str], environment: Mapping[str, JSON]
) -> str:
    plugin = EXTRACTORS.plugin_text(spec.name)
    origin = f"{plugin} and the libraries it was made with" if plugin else "requirements.lock"
    lines = "\n  ".join(differing)
    libraries = environment.get("libraries")
    versions = (
        [f"{name} {version}" for name, version in libraries.items()]
        if isinstance(libraries, dict)
        else []
    )
    return (
        f"{spec.name} does not give its known numbers here, so nothing was extracted:\n"
        f"  {lines}\n"
        f"Known are those of {golden_outputs.golden_file(spec)}. "
        f"Computed on {environment.get('processor')}, with {', '.join(versions)}.\n"
        "If the code was changed on purpose, raise its numerics_version and run "
        f"`python -m pipeline golden {spec.name}`; otherwise install {origin}."
    )


def environment_of(device: str) -> dict[str, JSON]:
    """What may change numbers: libraries, kind of processor or GPU, code of the networks."""
    return {
        "code": code_digest(),
        # Two GPUs of a kind are one environment.
        "device": device.partition(":")[0],
        "processor": processor_kind(device),
        "libraries": dict(library_versions()),
    }


@functools.cache
def code_digest() -> str:
    """12 hex digits, a hash of all code and known outputs in `models`."""
    sha = hashlib.sha256()
    # The known outputs count as code: after a change of them the test must run again.
    for path in sorted([*_MODELS.rglob("*.py"), *_MODELS.rglob("*.golden.json")]):
        sha.update(f"{path.relative_to(_MODELS).as_posix()}\0".encode())
        sha.update(hashlib.sha256(path.read_bytes()).digest())
    return sha.hexdigest()[:12]
