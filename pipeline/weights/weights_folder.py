"""The folder of published weights: downloads or imports them, pins their sha256, converts them.

    FOLDER/<name>              a published file, unchanged
    FOLDER/weights.lock.json   name → sha256, size and origin of the pinned file
    FOLDER/converted/          what the pipeline loads; see `pipeline.weights.conversion`

If the publisher states no hash, the first file under a name is pinned, provided that its tensors
are those of the network. Any other file is refused from then on, until `python -m pipeline weights
forget NAME`.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.extractors.base.contract import random_seed
from models.extractors.weights_check import check_weights_file, is_mean_volume
from models.weights.published import PUBLISHED_WEIGHTS, PublishedWeights
from pipeline.weights.conversion import Pin, convert_once, facts_file
from storage.base.errors import IntegrityError, SettingsError, SystemicFault, UntrustedFile
from storage.base.fingerprint import readable_json
from storage.files.atomic_write import publish, size_and_sha256
from storage.files.checksummed_json import parse_json_object
from storage.files.file_lock import lease, print_to_stderr
from storage.files.os_errors import disk_fault

FORMAT = "video-highlights weights lock"
FORMAT_VERSION = 1
MAX_BYTES = 4 * 1024**3
"""Ten times the largest published file."""
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class WeightsFolder:
    """Published weights on this machine."""

    path: Path

    @property
    def lock_file(self) -> Path:
        """The pins."""
        return self.path / "weights.lock.json"

    @property
    def converted(self) -> Path:
        """Folder of converted files."""
        return self.path / "converted"

    def file(self, name: str) -> Path:
        """The path for the file of that registered name, whether it is there or not."""
        return self.path / PUBLISHED_WEIGHTS[name].name

    def pin(self, name: str) -> Pin | None:
        """What the file of that name must be, by its publisher or the lock file; else None."""
        row = PUBLISHED_WEIGHTS[name]
        if row.sha256 is not None:
            return Pin(row.sha256, row.size_bytes)
        locked = self._read_lock().get(name)
        if locked is None:
            return None
        command = f"python -m pipeline weights forget {name} --weights-root {self.path}"
        advice = f"fetch or import the pinned file again, or `{command}` if that was the wrong one"
        return Pin(locked["sha256"], locked["size_bytes"], advice)

    def resolve(self, weights: str) -> Path:
        """The file that a `weights` setting means: a path, or a registered name.

        Raises:
            ValueError: there is no such file; the message says how to get it.
            IntegrityError: the file under a registered name is not the pinned one.
        """
        if Path(weights).is_file():
            return Path(weights)
        if weights not in PUBLISHED_WEIGHTS:
            raise ValueError(
                f"weights {weights!r} are neither a file nor a published name; give a path that "
                "exists, random:SEED, or one of `python -m pipeline weights list`: "
                f"{', '.join(PUBLISHED_WEIGHTS)}"
            )
        file, pin = self.file(weights), self.pin(weights)
        if pin is None or not file.is_file():
            advice = _get(PUBLISHED_WEIGHTS[weights], self.path)
            raise ValueError(f"weights {weights} are not here; get them: {advice}")
        pin.check(file, file.stat().st_size, file_sha256(file))
        return file

    def find_by_content(self, identity: str) -> Path | None:
        """The registered file here with exactly this content, `sha256:…`; None if there is none."""
        for name in PUBLISHED_WEIGHTS:
            pin = self.pin(name)
            if pin is None or identity != f"sha256:{pin.sha256}":
                continue
            file = self.file(name)
            if file.is_file():
                pin.check(file, file.stat().st_size, file_sha256(file))
                return file
        return None

    def advice(self, extractor: str) -> str:
        """How to get published weights for an extractor."""
        for row in PUBLISHED_WEIGHTS.values():
            if row.extractor == extractor:
                return f"get {row.name}: {_get(row, self.path)}"
        return f"no weights of {extractor} are published here: take a file of your own"

    def add_file(self, name: str, source: Path, origin: str) -> Path:
        """Copy `source` here as the file of that name, and pin it if nothing is pinned yet.

        Nothing is kept if it is refused:

        Raises:
            IntegrityError: it is not the pinned file. Nothing of it was parsed.
            UntrustedFile: it does not fit the network.
        """
        row, target = PUBLISHED_WEIGHTS[name], self.file(name)
        size_bytes, sha256 = _size_and_sha256(source)
        new_pin = Pin(sha256, size_bytes)
        known_pin = self.pin(name) or Pin(sha256, row.size_bytes)
        known_pin.check(source, size_bytes, sha256)
        self._check_fits(row, source, new_pin)
        is_other_file = target.exists() and size_and_sha256(target)[1] != sha256
        publish(target, _blocks(source), replace=is_other_file)
        # The copy is checked too: `source` may have changed since it was hashed.
        new_pin.check(target, *size_and_sha256(target))
        with lease(self.path / ".weights.lock.claim", notify=print_to_stderr):
            locked = self._read_lock()
            locked[name] = {"sha256": sha256, "size_bytes": size_bytes, "origin": origin}
            self._write_lock(locked)
        return target

    def forget(self, name: str) -> Path:
        """Remove the pin of that name: the next file that fits the network is pinned.

        The file stays where it is, and is not used any more. Raises SettingsError if nothing was
        pinned here.
        """
        row = PUBLISHED_WEIGHTS[name]
        with lease(self.path / ".weights.lock.claim", notify=print_to_stderr):
            locked = self._read_lock()
            reason = ""
            if row.sha256 is not None:
                reason = "its hash is its publisher's"
            elif name not in locked:
                reason = "nothing is pinned"
            if reason:
                raise SettingsError(
                    (f"there is nothing to forget of {name} in {self.path}: {reason}",)
                )
            del locked[name]
            self._write_lock(locked)
        return self.file(name)

    def _write_lock(self, locked: Mapping[str, Any]) -> None:
        content = {"format": FORMAT, "version": FORMAT_VERSION, "weights": locked}
        publish(self.lock_file, readable_json(content), replace=True)

    def fetch(
        self, name: str, on_progress: Callable[[int, int | None], None], origin: str | None = None
    ) -> Path:
        """Download the file of that name, unless it is here.

        Args:
            name: a registered name.
            on_progress: called with the bytes so far, and the size of the whole or None.
            origin: another address than the publisher's.

        Raises:
            SystemicFault: the download failed.
            IntegrityError: the file is not the pinned one.
        """
        from pipeline.download.http.files import fetch_file  # no other method asks a site

        row, target = PUBLISHED_WEIGHTS[name], self.file(name)
        pin = self.pin(name)
        if pin is not None and target.is_file():
            pin.check(target, *size_and_sha256(target))
            return target
        if not row.direct and origin is None:
            raise SystemicFault(
                f"{name} is published on a page for people: {_by_hand(row, self.path)}"
            )
        part = target.with_name(f"{target.name}.part")
        try:
            fetch_file(origin or row.origin, part, max_bytes=MAX_BYTES, on_progress=on_progress)
        except SystemicFault as fault:
            raise SystemicFault(
                f"{name}: {fault}\nIf there is no network here, {_by_hand(row, self.path)}"
            ) from fault
        try:
            return self.add_file(name, part, origin or row.origin)
        finally:
            # It is complete, so no later call can continue it.
            part.unlink(missing_ok=True)

    def _check_fits(self, row: PublishedWeights, source: Path, pin: Pin) -> None:
        """Raise UntrustedFile unless the file's tensors fit the network.

        Otherwise a login page, or another network's weights, could become what is pinned.
        """
        was_converted = facts_file(self.converted / f"{pin.sha256}.safetensors").exists()
        is_mean = is_mean_volume(row)
        readable_file = source if is_mean else convert_once(source, self.converted, pin)
        try:
            check_weights_file(row, readable_file)
        except ValueError as error:
            if not was_converted and not is_mean:
                facts_file(readable_file).unlink(missing_ok=True)
                readable_file.unlink(missing_ok=True)
            detail = str(error).replace(str(readable_file), "it")
            raise UntrustedFile(source, f"is not {row.name}, and is not taken: {detail}") from error

    def _read_lock(self) -> dict[str, Any]:
        try:
            content = parse_json_object(self.lock_file, self.lock_file.read_bytes())
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise disk_fault(error, self.lock_file) from error
        except IntegrityError as error:
            raise IntegrityError(
                self.lock_file, f"{error.problem}; restore it from a backup"
            ) from error
        locked = content.get("weights")
        version = (content.get("format"), content.get("version"))
        if version != (FORMAT, FORMAT_VERSION) or not isinstance(locked, dict):
            raise IntegrityError(
                self.lock_file, "is not a lock file of weights; restore it from a backup"
            )
        return locked


def file_sha256(path: Path) -> str:
    """The sha256 of a file in hex; computed again only if the file changed."""
    status = path.stat()
    return _sha256(path, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, _: tuple[int, int, int, int]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def prepare_weights(weights: str, identity: str, folder: Path | None) -> str:
    """The argument of a network's `build` for a `weights` setting.

    Args:
        weights: a path, random:SEED, or nothing; the last two are returned unchanged.
        identity: `sha256:…` of the file as the settings saw it. Another file is refused before it
            is parsed.
        folder: for converted files; None: a folder beside the file.

    Returns:
        The path of the converted file.
    """
    is_file = weights != "" and random_seed(weights) is None
    if not is_file:
        return weights
    source = Path(weights)
    converted_folder = folder or source.parent / "converted"
    pin = Pin(identity.removeprefix("sha256:"))
    return str(convert_once(source, converted_folder, pin))


def forget_advice(weights: str) -> str:
    """What to do if a file of a weights folder does not fit its network; empty for other files.

    Pins of earlier versions were made without a check of tensors.
    """
    path = Path(weights).absolute()
    for name in PUBLISHED_WEIGHTS:
        # A registered name may hold a folder, which is part of the path.
        root = path.parents[name.count("/")]
        if path == root / name and (root / "weights.lock.json").is_file():
            command = f"python -m pipeline weights forget {name} --weights-root {root}"
            return f"; if the wrong file was imported under that name: `{command}`"
    return ""


def describe_weights(folder: WeightsFolder) -> Iterator[str]:
    """The lines about all registered names: what they are, whether they are here, their licence."""
    for row in PUBLISHED_WEIGHTS.values():
        pin = folder.pin(row.name)
        state = "not here"
        pinned = "no hash published; the first file is pinned"
        if pin is not None:
            pinned = f"sha256 {pin.sha256}"
            if folder.file(row.name).is_file():
                state = "here"
        yield f"{row.name}  [{row.extractor}, {state}]"
        details = (row.purpose, row.origin, pinned, row.licence, f"cite: {row.citation}", row.note)
        for detail in filter(None, details):
            yield f"    {detail}"


def licence_question(row: PublishedWeights) -> str:
    """What a person must know before using these weights."""
    return f"{row.name}: {row.licence}"


def files_to_import(path: Path, name: str) -> list[tuple[str, Path]]:
    """Registered names and the files to import for them.

    Args:
        path: a file, or a folder with files under registered names.
        name: the registered name of a file; may be empty if its file name says it.
    """
    if path.is_dir():
        return _files_in_folder(path, name)
    if not path.is_file():
        raise SettingsError((f"there is no file {path}",))
    return [(_name_of_file(path, name), path)]


def _files_in_folder(folder: Path, name: str) -> list[tuple[str, Path]]:
    files = []
    for known in PUBLISHED_WEIGHTS:
        file = folder / known
        if file.is_file():
            files.append((known, file))
    if name or not files:
        fault = (
            f"{folder} is a folder; it has {len(files)} files under registered names, and no --name"
        )
        raise SettingsError((fault,))
    return files


def _name_of_file(path: Path, name: str) -> str:
    if name in PUBLISHED_WEIGHTS:
        return name
    fitting = [known for known in PUBLISHED_WEIGHTS if _file_name(known) == path.name]
    if not name and len(fitting) == 1:
        return fitting[0]
    choice = ", ".join(fitting or PUBLISHED_WEIGHTS)
    fault = f"say which weights {path} is, with --name and one of {choice}"
    if name:
        fault = f"no weights are called {name!r}; {fault}"
    raise SettingsError((fault,))


def _file_name(name: str) -> str:
    """A registered name may begin with a folder, as in `v7.0/yolov5n.pt`."""
    return name.rpartition("/")[2]


def _get(row: PublishedWeights, folder: Path) -> str:
    command = f"`python -m pipeline weights fetch {row.name} --weights-root {folder}`"
    return command if row.direct else _by_hand(row, folder)


def _by_hand(row: PublishedWeights, folder: Path) -> str:
    return (
        f"download {row.origin} by hand or on another machine, then run "
        f"`python -m pipeline weights import FILE --name {row.name} --weights-root {folder}`"
    )


def _size_and_sha256(source: Path) -> tuple[int, str]:
    try:
        return size_and_sha256(source)
    except OSError as error:
        raise disk_fault(error, source) from error


def _blocks(source: Path) -> Iterator[bytes]:
    with source.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block
