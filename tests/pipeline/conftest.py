"""A misbehaving web server on loopback for whoever fetches, and packets counted at less cost."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from pipeline.download import integrity
from pipeline.media.container.packet_counts import PacketCounts, count_packets
from tests.support.faulty_server import Mirror, running_mirror


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    # It speaks plain HTTP: yt-dlp reads all certificates for each video, which takes 0.03 s.
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)
    with running_mirror() as server:
        yield server


@pytest.fixture
def counted_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count the packets of downloads in this process; a child for each costs 0.1 s of CPU."""

    def counted(_video_id: str, path: Path) -> PacketCounts:
        return PacketCounts(**json.loads(json.dumps(asdict(count_packets(path)))))

    monkeypatch.setattr(integrity, "count_in_child", counted)
