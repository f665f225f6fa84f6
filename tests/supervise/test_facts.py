"""facts and group: what `status` tells of the folder of a service, with a remedy that works."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from appliance.supervise import facts, group
from appliance.supervise.group import Group
from appliance.supervise.states import Slot


def made(jail: Path, *, owns: bool = False, promise: str = "ftp") -> Group:
    service = SimpleNamespace(
        name=promise, jail=str(jail), files=(), workers=0, owns=owns, promise=promise, uid=64611, gid=64611
    )
    return Group(cast(Any, None), cast(Any, service), {}, 0, 1.0)


def problems(group: Group) -> list[tuple[str, str]]:
    return [(found["what"], found["remedy"]) for found in facts.problems([group], ())]


def test_a_folder_that_is_gone_is_told_and_one_that_is_there_is_not(tmp_path: Path) -> None:
    jail = tmp_path / "srv"
    jail.mkdir()
    ftp = made(jail)
    assert (ftp.jail_moved(), problems(ftp)) == ("", [])
    jail.rmdir()
    assert problems(ftp) == [(f"ftp: {jail} is gone", f"mkdir -p {jail}")]


def test_where_a_link_leads_nowhere_no_folder_is_to_be_made(tmp_path: Path) -> None:
    """Seen: `mkdir -p` for a root that is a link, which says that it exists."""
    (tmp_path / "blue" / "incoming").mkdir(parents=True)
    link = tmp_path / "current"
    link.symlink_to("blue")
    groups = made(link), made(link / "incoming", owns=True)
    link.unlink()
    link.symlink_to("green")
    for found in groups:
        assert [remedy for _what, remedy in problems(found)] == [f"ln -sfn FOLDER {link}, a link that leads nowhere"]


def test_a_folder_of_the_services_own_is_made_anew_where_its_root_is_another_one(tmp_path: Path) -> None:
    """Seen: after the disk of the root was changed, uploads went on into the old one, with 226."""
    root = tmp_path / "root"
    (root / "incoming").mkdir(parents=True)
    box = made(root / "incoming", owns=True)
    root.rename(tmp_path / "old")
    assert box.jail_moved() == "missing"
    root.mkdir()
    assert box.jail_moved() == "replaced"
    assert problems(box) == []


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE, errno.ENOTCONN])
def test_a_dead_disk_is_not_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """Seen: `is gone (mkdir -p ...)` for a disk that answered every look with Input/output error."""
    ftp = made(tmp_path)

    def stat(_path: str) -> os.stat_result:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(group.os, "stat", stat)
    assert ftp.jail_moved() == "broken"
    ((what, remedy),) = problems(ftp)
    assert what == f"ftp: {tmp_path} cannot be looked at" and remedy.startswith(f"findmnt -T {tmp_path}")


@pytest.mark.parametrize(("last", "memory"), [("signal SIGKILL", True), ("exit status 1", False)])
def test_a_worker_that_the_kernel_killed_for_want_of_memory_has_no_reason_in_our_log(
    tmp_path: Path, last: str, memory: bool
) -> None:
    """Seen in a control group of 96 MiB: FTP workers killed again and again, and a log that says SIGKILL."""
    ftp = made(tmp_path)
    slot = SimpleNamespace(
        counters=lambda: {"fault": 0}, state=Slot.BACKOFF, failures=7, index=1, due=None, last_exit=last
    )
    ftp.slots.append(cast(Any, slot))
    ((what, remedy),) = problems(ftp)
    assert what == f"ftp worker 1 died 7 times, last by {last}"
    assert remedy.startswith("its reason is in the log") and ("MemoryMax=" in remedy) is memory


@pytest.mark.parametrize(("mode", "closed"), [(0o700, True), (0o701, False), (0o755, False)])
def test_a_folder_that_its_workers_may_not_enter_is_not_told_as_a_kernel_without_landlock(
    tmp_path: Path, mode: int, closed: bool
) -> None:
    """Seen: `no Landlock (a kernel with Landlock)` for each worker, where `chmod` was what helped."""
    jail = tmp_path / "srv"
    jail.mkdir()
    ftp = made(jail)
    slot = SimpleNamespace(
        counters=lambda: {"fault": 0}, state=Slot.SERVING, failures=0, index=0,
        report=SimpleNamespace(level="full", landlock_abi=0),
    )  # fmt: skip
    ftp.slots += [cast(Any, slot)] * 2
    jail.chmod(mode)
    ((what, remedy),) = problems(ftp)
    assert (what, remedy) == (
        (f"ftp: uid 64611 may not enter {jail}, so nothing is served", f"chmod a+rx {jail}; appliance reload")
        if closed
        else ("ftp worker 0 has no Landlock", "a kernel with Landlock (5.13)")
    )
    jail.chmod(0o755)


@pytest.mark.parametrize(
    ("error", "helps"),
    [(errno.EROFS, "remount,rw"), (errno.ENOSPC, "df -h"), (errno.EPERM, "take ext4, xfs or btrfs")],
)
def test_uploads_that_cannot_be_stored_are_a_problem_with_its_cause(tmp_path: Path, error: int, helps: str) -> None:
    box = made(tmp_path, owns=True, promise="custody")
    slot = SimpleNamespace(counters=lambda: {"fault": error}, state=None, failures=0)
    box.slots.append(cast(Any, slot))
    assert [what for what, _remedy in problems(box)] == [f"custody: uploads cannot be stored: {os.strerror(error)}"]
    assert helps in problems(box)[0][1]
