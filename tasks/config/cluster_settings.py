"""Settings of the section [cluster]."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

INLINE, LOCAL, SLURM, ADDRESS = KINDS = ("inline", "local", "slurm", "address")


LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class ClusterSettings:
    """The section `[cluster]`."""

    kind: str = INLINE
    workers: int = 0
    """Worker processes of `local`. 0: one for each GPU, or as many as the cores allow."""
    cores_per_worker: int = 2
    allowed_failures: int = 3
    """So many workers may die of one video before it is blamed."""
    address: str = ""
    tls_ca_file: str = ""
    tls_cert: str = ""
    tls_key: str = ""

    def faults(self) -> Iterator[str]:
        """One sentence for each thing that is wrong."""
        if self.kind not in KINDS:
            yield f"kind is one of {', '.join(KINDS)}; got {self.kind!r}"
        if self.workers < 0 or self.cores_per_worker < 1 or self.allowed_failures < 1:
            got = f"{self.workers}, {self.cores_per_worker}, {self.allowed_failures}"
            yield f"workers is 0 or more, cores_per_worker and allowed_failures 1 or more; got {got}"
        if self.kind == ADDRESS:
            yield from self._address_faults()

    def _address_faults(self) -> Iterator[str]:
        scheme, host = _scheme_and_host(self.address)
        certificates = {
            name: getattr(self, name) for name in ("tls_ca_file", "tls_cert", "tls_key")
        }
        if scheme not in ("tls", "tcp") or not host:
            yield f"address is like tls://head-node:8786, or tcp://127.0.0.1:8786 on this machine; got {self.address!r}"
        elif scheme == "tcp" and not is_loopback(host):
            yield (
                f"address {self.address!r} is not on this machine, and tcp:// lets anybody who reaches it run code as "
                "you: start the scheduler and its workers with --tls-ca-file, --tls-cert and --tls-key, and write tls://"
            )
        elif scheme == "tls":
            yield from (
                f"{name} is needed for {self.address}"
                for name, path in certificates.items()
                if not path
            )
        yield from (
            f"{name} {path!r} is no file"
            for name, path in certificates.items()
            if path and not Path(path).is_file()
        )


def _scheme_and_host(address: str) -> tuple[str, str]:
    try:
        parts = urlsplit(address)
        return (parts.scheme, parts.hostname or "") if parts.port else ("", "")
    except ValueError:
        return "", ""


def is_loopback(host: str) -> bool:
    """Whether a host's name or address can only mean this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
