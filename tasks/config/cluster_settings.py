"""Settings of the section [cluster]."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from storage.base.extras import install_advice

INLINE, LOCAL, SLURM, ADDRESS = KINDS = ("inline", "local", "slurm", "address")
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class ClusterSettings:
    """The section `[cluster]`."""

    kind: str = INLINE
    """Where shards are built. inline: in this process, one after the other. local: by several
    processes of this machine. slurm: by jobs that this command submits and watches. address: by the
    workers of a Dask scheduler that runs already. All but inline use TLS, except on 127.0.0.1.
    """
    workers: int = 0
    """Processes of kind = local. 0: one for each GPU, or without a GPU one for every
    cores_per_worker cores; never more than shards. Several may share a GPU and split the cores.
    """
    cores_per_worker: int = 2
    """Cores that a process of kind = local computes on; with GPUs its share of the machine's, if
    that is more.
    """
    allowed_failures: int = 3
    """A video that was in progress when one more worker than this died is quarantined (crash), and
    its shard continues.
    """
    dashboard: bool = False
    """With kind = local or slurm, serve Dask's dashboard on 127.0.0.1 and print its address. Every
    user of this machine can open it; it shows shards and logs, and takes no orders. Needs the
    extra [dashboard].
    """
    address: str = ""
    """For kind = address: tls://host:port, or tcp://127.0.0.1:port on this machine."""
    tls_ca_file: str = ""
    """For tls://: the certificate authority of the scheduler and its workers."""
    tls_cert: str = ""
    """For tls://: a certificate of that authority."""
    tls_key: str = ""
    """For tls://: the key of that certificate."""

    def faults(self) -> Iterator[str]:
        """One sentence for each wrong setting."""
        if self.kind not in KINDS:
            yield f"kind must be one of {', '.join(KINDS)}; got {self.kind!r}"
        if self.workers < 0:
            yield f"workers must be 0 or more; got {self.workers}"
        if self.cores_per_worker < 1:
            yield f"cores_per_worker must be 1 or more; got {self.cores_per_worker}"
        if self.allowed_failures < 1:
            yield f"allowed_failures must be 1 or more; got {self.allowed_failures}"
        yield from self._library_faults()
        if self.kind == ADDRESS:
            yield from self._address_faults()
            yield from self._certificate_faults()

    def _library_faults(self) -> Iterator[str]:
        if self.kind in (LOCAL, SLURM, ADDRESS) and find_spec("distributed") is None:
            yield f"kind = {self.kind} needs Dask: {install_advice('cluster')}"
        if self.dashboard and find_spec("bokeh") is None:
            yield f"dashboard = true needs bokeh: {install_advice('dashboard')}"

    def _address_faults(self) -> Iterator[str]:
        scheme, host = _scheme_and_host(self.address)
        if scheme not in ("tls", "tcp") or not host:
            yield (
                "address must be like tls://head-node:8786, or tcp://127.0.0.1:8786 on this "
                f"machine; got {self.address!r}"
            )
        elif scheme == "tcp" and not is_loopback(host):
            yield (
                f"address {self.address!r} is on another machine, and with tcp:// everybody who "
                "reaches it can run code as you: start the scheduler and its workers with "
                "--tls-ca-file, --tls-cert and --tls-key, and write tls://"
            )

    def _certificate_faults(self) -> Iterator[str]:
        scheme, host = _scheme_and_host(self.address)
        needs_certificates = scheme == "tls" and bool(host)
        for name in ("tls_ca_file", "tls_cert", "tls_key"):
            path = getattr(self, name)
            if path:
                if not Path(path).is_file():
                    yield f"{name} {path!r} is not a file"
            elif needs_certificates:
                yield f"{name} is needed for {self.address}"


def _scheme_and_host(address: str) -> tuple[str, str]:
    """Both empty unless the address is valid and names a port."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return "", ""
    if not port:
        return "", ""
    return parts.scheme, parts.hostname or ""


def is_loopback(host: str) -> bool:
    """Whether a host's name or address can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
