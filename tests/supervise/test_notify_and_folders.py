"""sd_notify, the lock of run_dir, and folders that belong to a service."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from appliance.errors import StartError
from appliance.supervise import folders
from appliance.supervise.notify import Notify
from tests.support import ROOT


@pytest.mark.parametrize("abstract", [False, True])
def test_lines_reach_systemd_by_path_and_by_abstract_name(tmp_path: Path, abstract: bool) -> None:
    name = f"@appliance-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name[1:] if abstract else name)
        environment = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}
        notify = Notify(environment)
        assert environment == {}
        assert notify.watchdog_s == 5.0
        notify.send("READY=1", "STATUS=x")
        assert systemd.recv(100) == b"READY=1\nSTATUS=x"
        notify.reloading()
        assert systemd.recv(200).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        notify.close()


def test_without_systemd_nothing_happens_and_a_deaf_one_does_no_harm(tmp_path: Path) -> None:
    nobody = [Notify({}), Notify({"NOTIFY_SOCKET": str(tmp_path / "nobody")})]
    for notify in nobody:
        notify.send("READY=1")
        notify.close()
    assert Notify({"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}).watchdog_s == 0.0
    assert Notify({"WATCHDOG_USEC": "often"}).watchdog_s == 0.0


def test_the_lock_admits_one_instance_and_names_it(tmp_path: Path) -> None:
    held = folders.lock(str(tmp_path / "run"))
    with pytest.raises(StartError, match=rf"another appliance \(pid {os.getpid()}\) runs on"):
        folders.lock(str(tmp_path / "run"))
    os.close(held)
    os.close(folders.lock(str(tmp_path / "run")))


def test_a_lock_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="cannot make"):
        folders.lock(str(tmp_path / "file" / "run"))
    (tmp_path / "run" / "lock").mkdir(parents=True)
    with pytest.raises(StartError, match="must belong to this user"):
        folders.lock(str(tmp_path / "run"))


def test_the_empty_jail_is_empty_and_closed(tmp_path: Path) -> None:
    place = Path(folders.empty_jail(str(tmp_path)))
    assert stat.S_IMODE(place.stat().st_mode) == 0o555
    if ROOT:
        (place / "x").write_text("")
        with pytest.raises(StartError, match="is not empty"):
            folders.empty_jail(str(tmp_path))


def test_a_link_in_the_place_of_the_empty_jail_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir(mode=0o700)
    (tmp_path / "empty").symlink_to(tmp_path / "private")
    with pytest.raises(StartError, match="cannot use"):
        folders.empty_jail(str(tmp_path))
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o700


def test_a_run_dir_that_everybody_can_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o777)
    with pytest.raises(StartError, match="can be written by others"):
        folders.lock(str(tmp_path / "run"))


def test_a_folder_whose_parent_is_missing_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="install -d -o"):
        folders.own(str(tmp_path / "missing" / "box"), *mine())


def mine() -> tuple[int, int]:
    return (64612, 64612) if ROOT else (os.getuid(), os.getgid())


def test_a_missing_folder_is_made_for_its_service_alone(tmp_path: Path) -> None:
    uid, gid = mine()
    folders.own(str(tmp_path / "box"), uid, gid)
    found = (tmp_path / "box").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (uid, gid, 0o700)


def test_a_folder_of_files_that_were_to_be_served_is_not_taken_over(tmp_path: Path) -> None:
    """Seen: `ftp.incoming.path: pub` closed it to the public, and its first sweep removed what was old."""
    box = tmp_path / "pub"
    box.mkdir(mode=0o755)
    (box / "a.iso").touch()
    uid, gid = mine()
    give = f"chown -R {uid}:{gid}" if ROOT else "chmod 700"
    with pytest.raises(StartError, match=f"holds files that nobody uploaded .*{give} {box}"):
        folders.own(str(box), uid, gid, strangers=False)
    assert stat.S_IMODE(box.stat().st_mode) == 0o755 and box.stat().st_uid == os.geteuid()
    folders.own(str(box), uid, gid)
    folders.own(str(box), uid, gid, strangers=False)  # it is the service's own by now
    (box / "a.iso").unlink()
    box.chmod(0o755)
    folders.own(str(box), uid, gid, strangers=False)
    assert stat.S_IMODE(box.stat().st_mode) == 0o700


@pytest.mark.skipif(not ROOT, reason="needs root")
@pytest.mark.root
def test_no_remedy_gives_a_folder_of_somebody_elses_files_to_the_sweep(tmp_path: Path) -> None:
    """Seen: `ftp.incoming.path: pub`, with the files of an operator: `install -d`, as was advised, closed it to the
    public, and its first sweep removed what was old."""
    box = tmp_path / "pub"
    box.mkdir(mode=0o755)
    (box / "a.iso").touch()
    os.chown(box, 777, 777)
    with pytest.raises(StartError, match=r"pub holds files that nobody uploaded \(name another folder"):
        folders.own(str(box), *mine(), strangers=False)
    (box / "a.iso").unlink()
    with pytest.raises(
        StartError, match=r"pub belongs to uid 777 \(name another folder; if it is the right one: chown"
    ):
        folders.own(str(box), *mine(), strangers=False)


@pytest.mark.skipif(not ROOT, reason="needs root")
@pytest.mark.root
def test_a_folder_of_somebody_else_that_nobody_may_look_into_is_told_as_his(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the unit of systemd, where root has no right to read what belongs to others."""

    def closed(path: str) -> list[str]:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    box = tmp_path / "in"
    box.mkdir(mode=0o700)
    monkeypatch.setattr(os, "listdir", closed)
    with pytest.raises(StartError, match=r"cannot take over .*Permission denied"):
        folders.own(str(box), *mine(), strangers=False)
    os.chown(box, 777, 777)
    with pytest.raises(StartError, match=r"in belongs to uid 777 \(name another folder; if it is the right one: chown"):
        folders.own(str(box), *mine(), strangers=False)


def test_a_fresh_file_system_of_its_own_is_taken_over_with_its_lost_and_found(tmp_path: Path) -> None:
    """Seen: a drop box on a partition of its own, as mkfs leaves it, kept the appliance from starting."""
    box = tmp_path / "incoming"
    (box / "lost+found").mkdir(parents=True, mode=0o700)
    folders.own(str(box), *mine(), strangers=False)
    assert stat.S_IMODE(box.stat().st_mode) == 0o700 and os.listdir(box) == ["lost+found"]


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root")
@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS])
def test_a_file_system_without_owners_is_refused_with_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """Seen: on a disk with FAT the remedy was the very command that had just failed."""

    def chown(*_args: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(folders.os, "chown", chown)
    with pytest.raises(StartError, match="keeps no owners or modes: take ext4, xfs or btrfs"):
        folders.own(str(tmp_path / "box"), 1234, 1234)


def test_an_open_folder_is_closed(tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    (tmp_path / "box").chmod(0o777)
    folders.own(str(tmp_path / "box"), *mine())
    assert stat.S_IMODE((tmp_path / "box").stat().st_mode) == 0o700


def test_a_link_or_a_file_in_the_place_of_the_folder_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file").write_text("")
    for name in ("link", "file"):  # `install -d` fails on the one, and gives away the folder that the other leads to
        with pytest.raises(StartError, match=f"is a link or a file .rm {tmp_path}/{name}: it is made anew"):
            folders.own(str(tmp_path / name), *mine())
    assert (tmp_path / "elsewhere").stat().st_uid == os.geteuid()


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root")
def test_a_folder_of_somebody_else_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    os.chown(tmp_path / "box", 1234, 1234)
    with pytest.raises(StartError, match="belongs to uid 1234"):
        folders.own(str(tmp_path / "box"), *mine())


def test_a_folder_in_a_place_that_everybody_can_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(StartError, match=f"can be written by everybody .chmod go-w {tmp_path}/open"):
        folders.own(str(tmp_path / "open" / "box"), *mine())


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root")
def test_a_folder_inside_that_of_somebody_else_is_refused_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 1234, 1234)
    with pytest.raises(StartError, match=f"theirs belongs to uid 1234 .chown 0 {tmp_path}/theirs"):
        folders.own(str(tmp_path / "theirs" / "box"), *mine())
