"""Installed distributions with entry points, made in a folder that joins `sys.path`."""

from __future__ import annotations

from pathlib import Path


def install(site: Path, name: str, version: str, group: str, points: str, **modules: str) -> None:
    """Put a distribution into `site`: its metadata, its entry points, and its modules' sources."""
    metadata = site / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{points}\n")
    for module, source in modules.items():
        (site / f"{module}.py").write_text(source)
