from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from storage.base.errors import DiskFull, IntegrityError, SystemicFault
from storage.files import atomic_write
from storage.files.atomic_write import (
    Step,
    publish,
    publish_file,
    remove_stale_temporaries,
    temporary_beside,
)
from storage.files.process_identity import current_process
from tests.support.feature_samples import killed_at, race

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)

OLD, NEW = b"old" * 500_000, b"new" * 500_000  # 1.5 MB: two write steps of 1 MiB
ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.ESTALE)


@pytest.fixture(autouse=True)
def _seam_is_given_back() -> Iterator[None]:
    before = atomic_write.before_step
    yield
    atomic_write.before_step = before


def steps_of(action: Callable[[], None]) -> list[Step]:
    seen: list[Step] = []
    atomic_write.before_step = lambda step, path: seen.append(step)
    action()
    return seen


def fail_at(place: int, number: int, *, sticky: bool) -> None:
    count = iter(range(10_000))

    def hook(step: Step, path: Path) -> None:
        now = next(count)
        if now == place or (sticky and now > place):
            raise OSError(number, os.strerror(number))

    atomic_write.before_step = hook


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if ".tmp-" in path.name]


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("sticky", [False, True], ids=["once", "sticky"])
@pytest.mark.parametrize("number", ERRNOS, ids=errno.errorcode.get)
def test_an_error_at_any_step_leaves_the_old_file_or_the_new(
    tmp_path: Path, replace: bool, sticky: bool, number: int
) -> None:
    steps = steps_of(lambda: publish(tmp_path / "probe", NEW, replace=replace))
    assert steps.count(Step.WRITE) == 2  # ceil(1.5 MB / 1 MiB)
    for place in range(len(steps)):
        path = tmp_path / f"file{place}"
        if replace:
            path.write_bytes(OLD)
        fail_at(place, number, sticky=sticky)
        with pytest.raises(SystemicFault, match=path.name) as caught:
            publish(path, NEW, replace=replace)
        assert isinstance(caught.value, DiskFull) == (number in (errno.ENOSPC, errno.EDQUOT))
        assert (path.read_bytes() if path.exists() else None) in (NEW, OLD if replace else None)
        assert not leftovers(tmp_path)
        atomic_write.before_step = lambda step, path: None
        publish(path, NEW, replace=replace)
        assert path.read_bytes() == NEW


@pytest.mark.parametrize("replace", [False, True])
def test_a_kill_at_any_step_leaves_the_old_file_or_the_new(tmp_path: Path, replace: bool) -> None:
    steps = steps_of(lambda: publish(tmp_path / "probe", NEW, replace=replace))
    for place in range(len(steps)):
        path = tmp_path / f"file{place}"
        if replace:
            path.write_bytes(OLD)
        assert killed_at(place, partial(publish, path, NEW, replace=replace))
        assert (path.read_bytes() if path.exists() else None) in (NEW, OLD if replace else None)
    remove_stale_temporaries(tmp_path)
    assert not leftovers(tmp_path)


def test_a_failed_fsync_is_never_tried_again(tmp_path: Path) -> None:
    seen: list[Step] = []

    def hook(step: Step, path: Path) -> None:
        seen.append(step)
        if step is Step.FSYNC:
            raise OSError(errno.EIO, "I/O error")

    atomic_write.before_step = hook
    with pytest.raises(SystemicFault, match="I/O error"):
        publish(tmp_path / "file", NEW, replace=True)
    assert seen.count(Step.FSYNC) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_changed_between_writing_and_reading_back_is_not_published(tmp_path: Path) -> None:
    def hook(step: Step, path: Path) -> None:
        if step is Step.VERIFY:
            (draft,) = leftovers(tmp_path)
            draft.write_bytes(OLD)

    atomic_write.before_step = hook
    with pytest.raises(IntegrityError, match="read back is not what was written"):
        publish(tmp_path / "file", NEW, replace=False)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    publish(path, [b"a", bytearray(b"b"), memoryview(b"c")], replace=False)
    publish(path, b"abc", replace=False)
    with pytest.raises(IntegrityError, match=r"exists with other content \(3 bytes"):
        publish(path, b"xyz", replace=False)
    assert path.read_bytes() == b"abc"
    publish(path, b"xyz", replace=True)
    assert path.read_bytes() == b"xyz"


def test_a_repeated_link_request_that_had_succeeded_is_a_success(tmp_path: Path) -> None:
    def hook(step: Step, path: Path) -> None:
        if step is Step.LINK:
            os.link(leftovers(tmp_path)[0], path)

    atomic_write.before_step = hook
    publish(tmp_path / "file", b"abc", replace=False)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
def test_file_systems_without_hard_links_do_not_overwrite_either(
    tmp_path: Path, number: int
) -> None:
    def hook(step: Step, path: Path) -> None:
        if step is Step.LINK:
            raise OSError(number, "no links here")

    atomic_write.before_step = hook
    path = tmp_path / "file"
    publish(path, b"abc", replace=False)
    publish(path, b"abc", replace=False)
    with pytest.raises(IntegrityError, match="other content"):
        publish(path, b"xyz", replace=False)
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("kind", ["folder", "symlink"])
def test_a_final_name_that_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / "file", tmp_path / "target"
    target.write_bytes(b"abc")
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(target)
    with pytest.raises((IntegrityError, SystemicFault), match="file"):
        publish(path, b"abc", replace=False)
    assert target.read_bytes() == b"abc"


def test_a_file_size_limit_is_a_full_disk_and_not_a_crash(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        try:
            publish(tmp_path / "file", b"x" * 300_000, replace=False)
        except DiskFull as error:
            os._exit(0 if error.needed_bytes == 300_000 and error.free_bytes > 0 else 3)
        os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert list(tmp_path.iterdir()) == []


def test_adopt_gives_a_foreign_file_its_name_once(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    for content, expectation in [(b"abc", None), (b"abc", None), (b"xyz", "other content")]:
        temporary = temporary_beside(path)
        temporary.write_bytes(content)
        if expectation:
            with pytest.raises(IntegrityError, match=expectation):
                publish_file(temporary, path)
        else:
            publish_file(temporary, path)
        assert [item.name for item in tmp_path.iterdir()] == ["video.mp4"]
    assert path.read_bytes() == b"abc"


def test_adopt_refuses_another_folder_and_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match="in one folder"):
        publish_file(tmp_path / "a" / "x", tmp_path / "y")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(SystemicFault, match="published"):
        publish_file(tmp_path / "link", tmp_path / "published")
    assert not (tmp_path / "published").exists()


def test_sweep_removes_only_what_the_dead_left(tmp_path: Path) -> None:
    me = current_process().token
    host, boot, namespace, pid, started = me.split("-")
    other_boot = f"{host}-ffffffff-{namespace}-{pid}-{started}"
    names: dict[str, bool | str] = {
        f".a.tmp-{me}-00000001": False,  # ours, and we live
        # our pid, another start: reused
        f".a.tmp-{host}-{boot}-{namespace}-{pid}-{int(started) + 1}-00000002": True,
        f".a.tmp-{other_boot}-00000003": "other boot",  # before a reboot
        # another host: not ours to judge
        f".a.tmp-ffffffff-{boot}-{namespace}-{pid}-{started}-00000004": False,
        f".a.tmp-{host}-{boot}-1-{pid}-1-00000005": False,  # another container
        f".a.tmp-{other_boot}-00000006.mp4.part": "other boot",  # a downloader's ending
        ".a.tmp-1234": False,  # not our spelling
        "a.part": False,
    }
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in remove_stale_temporaries(tmp_path)] == [
        name for name, dead in names.items() if dead is True
    ]
    told = [path.name for path in remove_stale_temporaries(tmp_path, other_boots=True)]
    assert told == sorted(name for name, dead in names.items() if dead == "other boot")
    assert remove_stale_temporaries(tmp_path / "nowhere") == []


@pytest.mark.parametrize("turns", [2, pytest.param(6, marks=pytest.mark.slow)])
@pytest.mark.parametrize("same", [True, False], ids=["same bytes", "other bytes"])
def test_of_eight_writers_of_one_name_one_wins_and_no_bytes_mix(
    tmp_path: Path, same: bool, turns: int
) -> None:
    for turn in range(turns):
        path = tmp_path / f"part{turn}"
        contents = [bytes([0 if same else writer]) * 200_000 for writer in range(8)]

        def write(writer: int, path: Path = path, contents: list[bytes] = contents) -> int:
            try:
                publish(path, contents[writer], replace=False)
            except IntegrityError:
                return 3
            return 0

        codes = race(8, write)
        assert sorted(codes) == ([0] * 8 if same else [0] + [3] * 7)
        assert path.read_bytes() == contents[codes.index(0)]
    assert not leftovers(tmp_path)
