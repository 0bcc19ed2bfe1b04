"""The folder of published weights: fetched or imported, pinned, and turned into converted files for
networks.

    FOLDER/<name>                  a published file, as it was published FOLDER/weights.lock.json
    name → sha256, size and origin of the file that counts under that name FOLDER/converted/
    what the pipeline loads; see `pipeline.weights.conversion`

The first file under a name whose publisher states no hash is pinned if its tensors are those of the
network that the name stands for; any other is refused from then on, until `python -m pipeline
weights forget NAME`.
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
from pipeline.download.http.files import fetch_file
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
        """Where the file of that registered name lies, or will."""
        return self.path / PUBLISHED_WEIGHTS[name].name

    def pin(self, name: str) -> Pin | None:
        """What the file of that name must be: as its publisher says, else as the lock file says;
        None if neither.
        """
        row = PUBLISHED_WEIGHTS[name]
        if row.sha256 is not None:
            return Pin(row.sha256, row.size_bytes)
        locked = self._lock().get(name)
        return Pin(locked["sha256"], locked["size_bytes"], self._undo(name)) if locked else None

    def _undo(self, name: str) -> str:
        command = f"python -m pipeline weights forget {name} --weights-root {self.path}"
        return f"fetch or import the pinned file again, or `{command}` if that was the wrong one"

    def resolve(self, weights: str) -> Path:
        """The file that a `weights` setting means: a path, or a registered name.

        ValueError says how to get it, IntegrityError that the file under a registered name is not
        the pinned one.
        """
        if Path(weights).is_file():
            return Path(weights)
        if weights not in PUBLISHED_WEIGHTS:
            raise ValueError(
                f"weights {weights!r} is no file and no published name; give a path that exists, random:SEED, or one "
                f"of `python -m pipeline weights list`: {', '.join(PUBLISHED_WEIGHTS)}"
            )
        file, pin = self.file(weights), self.pin(weights)
        if pin is None or not file.is_file():
            raise ValueError(
                f"weights {weights} are not here; get them: {_get(PUBLISHED_WEIGHTS[weights], self.path)}"
            )
        pin.check(file, file.stat().st_size, file_sha256(file))
        return file

    def find_by_content(self, identity: str) -> Path | None:
        """A registered file that is here and has exactly this content, `sha256:…`; None if there is
        none.
        """
        for name in PUBLISHED_WEIGHTS:
            pin, file = self.pin(name), self.file(name)
            if pin is not None and f"sha256:{pin.sha256}" == identity and file.is_file():
                pin.check(file, file.stat().st_size, file_sha256(file))
                return file
        return None

    def advice(self, extractor: str) -> str:
        """How to get published weights for an extractor."""
        fitting = [row for row in PUBLISHED_WEIGHTS.values() if row.extractor == extractor]
        return (
            f"get {fitting[0].name}: {_get(fitting[0], self.path)}"
            if fitting
            else "get its published weights"
        )

    def add_file(self, name: str, source: Path, origin: str) -> Path:
        """Take `source` as the file of that name, after checking that it is the pinned one and fits
        its network.

        Raises IntegrityError before anything is parsed if it is another than the pinned one,
        UntrustedFile if it does not fit; nothing is kept then. Without a pin, it is pinned now.
        """
        row, target = PUBLISHED_WEIGHTS[name], self.file(name)
        size_bytes, sha256 = _surveyed(source)
        pin = self.pin(name)
        (pin or Pin(sha256, row.size_bytes)).check(source, size_bytes, sha256)
        self._try(row, source, Pin(sha256, size_bytes))
        publish(
            target,
            _blocks(source),
            replace=target.exists() and size_and_sha256(target)[1] != sha256,
        )
        Pin(sha256, size_bytes).check(target, *size_and_sha256(target))
        with lease(self.path / ".weights.lock.claim", notify=print_to_stderr):
            self._write(
                {
                    **self._lock(),
                    name: {"sha256": sha256, "size_bytes": size_bytes, "origin": origin},
                }
            )
        return target

    def forget(self, name: str) -> Path:
        """Undo the pin of that name: the next file that is fetched or imported is pinned, if it
        fits the network.

        The file stays where it is, and is used no more. SettingsError if nothing was pinned here.
        """
        row = PUBLISHED_WEIGHTS[name]
        with lease(self.path / ".weights.lock.claim", notify=print_to_stderr):
            locked = self._lock()
            if name not in locked or row.sha256 is not None:
                publisher = (
                    "its hash is its publisher's" if row.sha256 is not None else "nothing is pinned"
                )
                raise SettingsError(
                    (f"there is nothing to forget of {name} in {self.path}: {publisher}",)
                )
            self._write({other: pin for other, pin in locked.items() if other != name})
        return self.file(name)

    def _write(self, locked: Mapping[str, Any]) -> None:
        account = {"format": FORMAT, "version": FORMAT_VERSION, "weights": locked}
        publish(self.lock_file, readable_json(account), replace=True)

    def fetch(
        self, name: str, on_progress: Callable[[int, int | None], None], origin: str | None = None
    ) -> Path:
        """Download the file of that name, unless it is here. Raises SystemicFault or
        IntegrityError.
        """
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
            part.unlink(missing_ok=True)  # whole, and either admitted or of no use

    def _try(self, row: PublishedWeights, source: Path, pin: Pin) -> None:
        """Neither a page that says "sign in" nor another network's file may become what is
        pinned.
        """
        is_new = not facts_file(self.converted / f"{pin.sha256}.safetensors").exists()
        readable_file = source if is_mean_volume(row) else convert_once(source, self.converted, pin)
        try:
            check_weights_file(row, readable_file)
        except ValueError as error:
            if is_new and readable_file != source:
                facts_file(readable_file).unlink(missing_ok=True)
                readable_file.unlink(missing_ok=True)
            told = str(error).replace(str(readable_file), "it")
            raise UntrustedFile(source, f"is not {row.name}, and is not taken: {told}") from error

    def _lock(self) -> dict[str, Any]:
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
    """The sha256 of a file in hex; computed again only when the file changed."""
    status = path.stat()
    return _sha256(path, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, _: tuple[int, int, int, int]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def prepare_weights(weights: str, identity: str, folder: Path | None) -> str:
    """What a network's `build` is given for a `weights` setting: a converted file's path, or
    random:SEED, or nothing.

    `identity` is `sha256:…` of the file as the settings saw it: another file is refused before it
    is parsed. Converted files go to `folder`; by default beside the file.
    """
    if not weights or random_seed(weights) is not None:
        return weights
    source = Path(weights)
    return str(
        convert_once(
            source, folder or source.parent / "converted", Pin(identity.removeprefix("sha256:"))
        )
    )


def forget_advice(weights: str) -> str:
    """What to do if a file of a weights folder does not fit its network: a sentence, or nothing for
    any other file.

    Pins of earlier versions were made without looking at names and shapes.
    """
    path = Path(weights).absolute()
    for name in PUBLISHED_WEIGHTS:
        root = path.parents[name.count("/")]
        if path == root / name and (root / "weights.lock.json").is_file():
            command = f"python -m pipeline weights forget {name} --weights-root {root}"
            return f"; if the wrong file was imported under that name: `{command}`"
    return ""


def describe_weights(folder: WeightsFolder) -> Iterator[str]:
    """One paragraph for each registered name: what it is, whether it is here, what one may do with
    it.
    """
    for row in PUBLISHED_WEIGHTS.values():
        pin = folder.pin(row.name)
        state = "here" if pin is not None and folder.file(row.name).is_file() else "not here"
        pinned = f"sha256 {pin.sha256}" if pin else "no hash published; the first file is pinned"
        yield f"{row.name}  [{row.extractor}, {state}]\n    {row.purpose}\n    {row.origin}\n    {pinned}"
        yield from (
            f"    {line}" for line in (row.licence, f"cite: {row.citation}", row.note) if line
        )


def licence_question(row: PublishedWeights) -> str:
    """What a person must know before using these weights."""
    return f"{row.name}: {row.licence}"


def files_to_import(path: Path, name: str) -> list[tuple[str, Path]]:
    """Registered names and files to import: `path` itself, or what a folder has under registered
    names.
    """
    if path.is_dir():
        found = [(known, path / known) for known in PUBLISHED_WEIGHTS if (path / known).is_file()]
        if name or not found:
            raise SettingsError(
                (
                    f"{path} is a folder; it has {len(found)} files under registered names, and no --name",
                )
            )
        return found
    if not path.is_file():
        raise SettingsError((f"there is no file {path}",))
    fitting = [known for known in PUBLISHED_WEIGHTS if known.rpartition("/")[2] == path.name]
    chosen = name or (fitting[0] if len(fitting) == 1 else "")
    if chosen not in PUBLISHED_WEIGHTS:
        choice = ", ".join(fitting or PUBLISHED_WEIGHTS)
        unknown = f"no weights are called {name!r}; " if name else ""
        raise SettingsError(
            (f"{unknown}say which weights {path} is, with --name and one of {choice}",)
        )
    return [(chosen, path)]


def _get(row: PublishedWeights, folder: Path) -> str:
    command = f"`python -m pipeline weights fetch {row.name} --weights-root {folder}`"
    return command if row.direct else _by_hand(row, folder)


def _by_hand(row: PublishedWeights, folder: Path) -> str:
    return (
        f"download {row.origin} by hand or on another machine, then run "
        f"`python -m pipeline weights import FILE --name {row.name} --weights-root {folder}`"
    )


def _surveyed(source: Path) -> tuple[int, str]:
    try:
        return size_and_sha256(source)
    except OSError as error:
        raise disk_fault(error, source) from error


def _blocks(source: Path) -> Iterator[bytes]:
    with source.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block
