"""Every judgement about the world, with its exact words and the command that mends it."""

from __future__ import annotations

import dataclasses
import errno
import os
import pwd
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance import world
from appliance.machine import Machine
from appliance.settings.board import BoardSettings
from appliance.settings.ftp import FtpSite, IncomingScan
from appliance.settings.main import ObserveSettings, Settings
from appliance.settings.tftp import TftpNetwork, TftpSite
from tests.ftp.tlskit import certificate, expired
from tests.judged import ORDINARY, OURSELVES, ROOT_USER, WORKER, changed, found, ftp_only, made, tftp_only, tls


@pytest.fixture(autouse=True)
def no_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only root, and one account of the machine's own."""
    known = {"root": (0, 0), "mirror": (777, 778), "toor": (0, 5)}

    def getpwnam(name: str) -> pwd.struct_passwd:
        uid, gid = known[name]
        return pwd.struct_passwd((name, "x", uid, gid, "", "/", "/bin/sh"))

    monkeypatch.setattr(pwd, "getpwnam", getpwnam)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A root folder as it should be."""
    root = tmp_path / "tree"
    root.mkdir()
    root.chmod(0o755)
    return root


# --- the whole


def test_good_folders_and_the_shipped_limits_pass_without_a_word(tree: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(world.landlock, "abi", lambda: 4)
    settings = changed(
        state_dir=str(tmp_path / "state"),
        run_dir=str(tmp_path / "run"),
        tftp={"root": str(tree), "listen": ("127.0.0.1:0",)},
        ftp={"root": str(tree), "listen": ("127.0.0.1:0", "[::1]:0")},
    )
    machine = proc_of_debian(tmp_path, uid=os.geteuid())
    assert world.judged(settings, machine, (*world._JUDGEMENTS, world.ports)) == []


def proc_of_debian(folder: Path, uid: int) -> Machine:
    files = {
        "self/status": "CapEff:\t000001ffffffffff\n",
        "meminfo": "MemTotal: 1000000 kB\n",
        "sys/net/ipv4/ip_local_port_range": "32768\t60999\n",
        "sys/kernel/ostype": "Linux\n",
        "sys/kernel/seccomp/actions_avail": "kill allow\n",
        "sys/user/max_user_namespaces": "5000\n",
    }
    return made(folder / "proc", files, uid)


def test_an_unknown_account_does_not_hide_a_root_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = ftp_only(root=str(tmp_path / "file"), user="no-such-account-here")
    assert "ftp.root" in [problem.key for problem in world.judge(settings)]


def test_a_running_appliance_holds_its_own_ports(tree: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = ftp_only(root=str(tree), listen=(f"127.0.0.1:{port}",))
        ours = frozenset({f"tcp 127.0.0.1:{port}"})
        for known in (ours, None):
            assert "ftp.listen[0]" not in [problem.key for problem in world.judge(settings, ours=known)]
        assert "ftp.listen[0]" in [problem.key for problem in world.judge(settings, ours=frozenset({"tcp [::1]:1"}))]
        assert "ftp.listen[0]" in [problem.key for problem in world.judge(settings)]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), ValueError("odd")])
def test_a_judgement_that_cannot_be_made_is_a_warning(error: Exception) -> None:
    def odd_judgement(settings: Settings, machine: Machine) -> world.Findings:
        raise error
        yield

    for machine, helps in ((ROOT_USER, type(error) is OSError), (ORDINARY, False)):
        problems = world.judged(Settings(), machine, (odd_judgement,))
        remedy = "findmnt; dmesg | tail" if helps else "run the check as root"
        assert [str(problem) for problem in problems] == [
            f"warning: odd judgement: cannot be judged: {error} ({remedy})"
        ]


# --- accounts


def test_a_named_account_that_does_not_exist_is_an_error_for_root() -> None:
    text = (
        "tftp.user: there is no account nonsuch (useradd --system --no-create-home --shell /usr/sbin/nologin nonsuch)"
    )
    assert found(world.accounts, tftp_only(user="nonsuch")) == [text]
    assert found(world.accounts, tftp_only(user="nonsuch"), ORDINARY) == [f"warning: {text}"]


def test_a_second_name_of_root_is_an_error() -> None:
    assert found(world.accounts, ftp_only(user="toor")) == [
        "ftp.user: toor is root (name another account, or take the key out)"
    ]


def test_default_accounts_need_not_exist() -> None:
    assert found(world.accounts, Settings()) == []
    assert found(world.accounts, ftp_only(user="mirror")) == []


# --- roots


def test_a_missing_root_is_an_error(tmp_path: Path) -> None:
    root = f"{tmp_path}/none"
    assert found(world.roots, tftp_only(root=root)) == [
        f"tftp.root: there is no folder {root} (install -d -m 0755 {root})"
    ]


def test_a_root_that_is_a_link_to_nothing_is_an_error_that_install_would_not_mend(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.symlink_to("green")
    said = f"tftp.root: {root} is a link that leads nowhere (ln -sfn FOLDER {root})"
    assert found(world.roots, tftp_only(root=str(root))) == [said]
    settings = changed(state_dir=str(tmp_path), ftp={"root": str(root), "incoming": {"enabled": True}})
    assert [said for said in found(world.disk, settings) if "state_dir" not in said] == []  # seen: cannot be judged


def test_a_root_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert found(world.roots, ftp_only(root=f"{tmp_path}/file")) == [
        f"ftp.root: {tmp_path}/file is not a folder (name the folder that is served, like {tmp_path})"
    ]
    assert found(world.roots, ftp_only(root=f"{tmp_path}/file/below")) == [
        f"ftp.root: {tmp_path}/file/below cannot be looked at: Not a directory (namei -l {tmp_path}/file/below)"
    ]


def test_a_root_that_the_worker_cannot_read_is_an_error(tree: Path) -> None:
    tree.chmod(0o750)
    assert found(world.roots, tftp_only(root=str(tree))) == [
        f"tftp.root: {tree} cannot be read by uid {WORKER} (chmod a+rx {tree})"
    ]


def test_a_root_that_everybody_writes_is_an_error(tree: Path) -> None:
    tree.chmod(0o777)
    expected = f"tftp.root: {tree} can be written by its worker (uid {{}}) (chown root:root {tree}; chmod go-w {tree})"
    assert found(world.roots, tftp_only(root=str(tree))) == [expected.format(WORKER)]
    assert found(world.roots, tftp_only(root=str(tree)), ORDINARY) == [expected.format(1000)]


def stat_of(mode: int, uid: int, gid: int) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "reads", "writes"),
    [
        (0o040755, 0, 0, True, False),
        (0o040750, 0, 0, False, False),
        (0o040750, 0, 8, True, False),
        (0o040770, 0, 8, True, True),
        (0o040775, 0, 0, True, False),
        (0o040500, 7, 0, True, True),  # its owner may change the mode
        (0o040055, 7, 0, False, True),
        (0o040744, 0, 0, False, False),  # a folder needs x too
        (0o100644, 0, 0, True, False),
        (0o100640, 0, 0, False, False),
        (0o100666, 0, 0, True, True),
    ],
)
def test_modes_say_who_reads_and_writes(mode: int, uid: int, gid: int, *, reads: bool, writes: bool) -> None:
    entry = stat_of(mode, uid, gid)
    assert world._may_read(entry, (7, 8)) is reads
    assert world._may_write(entry, (7, 8), ROOT_USER) is writes


def test_the_files_of_an_ordinary_user_are_that_users_own() -> None:
    assert not world._may_write(stat_of(0o040755, 1000, 1000), (1000, 1000), ORDINARY)
    assert world._may_write(stat_of(0o040757, 1000, 1000), (1000, 1000), ORDINARY)


def test_entries_that_are_unreadable_or_writable_are_warned_of(tree: Path) -> None:
    for name, mode in {"b": 0o600, "a": 0o640, "w": 0o666, "ok": 0o644, ".hidden": 0o600}.items():
        (tree / name).touch()
        (tree / name).chmod(mode)
    (tree / "link").symlink_to("b")
    assert found(world.roots, tftp_only(root=str(tree))) == [
        f"warning: tftp.root: uid {WORKER} cannot read a and 1 more in it (chmod -R a+rX {tree}/a {tree}/b)",
        f"warning: tftp.root: uid {WORKER} can write w (chown -R root:root {tree}/w; chmod -R go-w {tree}/w)",
    ]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_no_remedy_opens_a_drop_box_or_what_was_one(tree: Path) -> None:
    """Seen: with the drop box moved, `check` advised `chmod -R a+rX` for all of the root, and so for every upload."""
    (tree / "old").mkdir(mode=0o700)
    os.chown(tree / "old", 64612, 64612)
    assert found(world.roots, ftp_only(root=str(tree))) == []
    for name in ("d", "c", "b", "a b"):
        (tree / name).touch(mode=0o600)
    assert found(world.roots, ftp_only(root=str(tree))) == [
        "warning: ftp.root: uid 64611 cannot read a b and 3 more in it "
        f"(chmod -R a+rX '{tree}/a b' {tree}/b {tree}/c ...)"
    ]


def test_lost_and_found_of_a_root_on_a_partition_of_its_own_is_no_finding(tree: Path) -> None:
    """Seen: `check` advised `chmod -R a+rX lost+found`, and so to publish what fsck had found of anybody's files."""
    (tree / "lost+found").mkdir(mode=0o700)
    for settings in (tftp_only(root=str(tree)), ftp_only(root=str(tree))):
        assert found(world.roots, settings) == []


def test_folders_that_ftp_does_not_serve_without_root_are_told(tree: Path) -> None:
    """Seen: with umask 077, `check` found nothing, and FTP answered 550 to everything."""
    (tree / "pub").mkdir(mode=0o700)
    (tree / "open").mkdir(mode=0o710)
    (tree / "box").mkdir(mode=0o700)
    owner = (tree / "pub").stat()
    ours = Machine(uid=owner.st_uid or 1000, gid=1000)
    os.chown(tree / "pub", ours.uid, -1)
    incoming = {"enabled": True, "path": "box"}
    closed, *others = found(world.roots, ftp_only(root=str(tree), incoming=incoming), ours)
    assert closed == (
        f"warning: ftp.root: nothing is served from pub, which nobody but uid {ours.uid} may enter "
        f"(chmod go+rx {tree}/pub, unless it was a drop box once)"
    )
    assert not any("pub" in other for other in others)
    assert not any("nothing is served" in one for one in found(world.roots, tftp_only(root=str(tree)), ours))


def test_the_drop_box_is_private_and_no_finding(tree: Path) -> None:
    (tree / "in").mkdir(mode=0o700)
    box = {"enabled": True, "path": "in"}
    assert found(world.roots, changed(tftp={"root": str(tree)}, ftp={"root": str(tree), "incoming": box})) == []
    off = {"enabled": False, "path": "in"}
    assert len(found(world.roots, changed(tftp={"root": str(tree)}, ftp={"root": str(tree), "incoming": off}))) == 2


def test_an_unknown_account_is_told_once(tree: Path) -> None:
    assert found(world.roots, tftp_only(root=str(tree), user="nonsuch")) == []


# --- views


def test_a_folder_that_some_clients_shall_see_and_that_is_not_there_is_a_warning(tree: Path) -> None:
    networks = (TftpNetwork("10.0.0.0/8", root="none"), TftpNetwork("10.1.0.0/16"))
    tftp = {"root": str(tree), "networks": networks, "sites": (TftpSite("127.0.0.1:69", "absent", networks),)}
    settings = changed(tftp=tftp, ftp={"root": str(tree), "sites": (FtpSite(root="no/where"), FtpSite())})
    assert found(world.views, settings) == [
        f"warning: tftp.networks[0].root: there is no folder {tree}/none (install -d -m 0755 {tree}/none)",
        f"warning: tftp.sites[0].root: there is no folder {tree}/absent (install -d -m 0755 {tree}/absent)",
        f"warning: tftp.sites[0].networks[0].root: there is no folder {tree}/none (install -d -m 0755 {tree}/none)",
        f"warning: ftp.sites[0].root: there is no folder {tree}/no/where (install -d -m 0755 {tree}/no/where)",
    ]
    for folder in ("none", "absent", "no/where"):
        (tree / folder).mkdir(parents=True)
    assert found(world.views, settings) == []


# --- the drop box


def boxed(tree: Path, path: str = "incoming") -> Settings:
    return ftp_only(root=str(tree), incoming={"enabled": True, "path": path})


def test_a_missing_drop_box_is_made_at_the_start(tree: Path) -> None:
    assert found(world.drop_boxes, boxed(tree)) == []
    assert found(world.drop_boxes, boxed(tree / "none")) == []
    assert found(world.drop_boxes, ftp_only(root=str(tree))) == []


def test_a_drop_box_that_cannot_be_made_is_an_error(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_args, **_kwargs: False)
    assert found(world.drop_boxes, boxed(tree), ORDINARY) == [
        f"ftp.incoming.path: {tree}/incoming cannot be made (install -d -o 1000 -m 0700 {tree}/incoming)"
    ]


def test_a_drop_box_that_is_a_link_or_a_file_is_an_error(tree: Path) -> None:
    (tree / "link").symlink_to("/tmp")
    (tree / "file").touch()
    assert found(world.drop_boxes, boxed(tree, "link")) == [
        f"ftp.incoming.path: {tree}/link is a symbolic link (rm {tree}/link: it is made anew at the start)"
    ]
    assert found(world.drop_boxes, boxed(tree, "file")) == [
        f"ftp.incoming.path: {tree}/file is not a folder (rm {tree}/file: it is made anew at the start)"
    ]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_drop_box_of_a_third_account_is_an_error(tree: Path) -> None:
    box = tree / "incoming"
    box.mkdir()
    for keeper in (0, 64612):
        os.chown(box, keeper, 0)
        assert found(world.drop_boxes, boxed(tree)) == []
    os.chown(box, 777, 0)
    assert found(world.drop_boxes, boxed(tree)) == [
        f"ftp.incoming.path: {box} belongs to uid 777 (chown -R 64612:64612 {box})"
    ]
    assert found(world.drop_boxes, boxed(tree), ORDINARY) == [
        f"ftp.incoming.path: {box} belongs to uid 777 (chown -R 1000:{ORDINARY.gid} {box})"
    ]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_folder_full_of_published_files_is_no_drop_box(tree: Path) -> None:
    """Seen: `path: pub` closed the folder to the public and gave it to the sweep, without a word."""
    box = tree / "pub"
    box.mkdir(mode=0o755)
    assert found(world.drop_boxes, boxed(tree, "pub")) == []
    (box / "lost+found").mkdir()  # the root of a file system of its own, as mkfs leaves it
    assert found(world.drop_boxes, boxed(tree, "pub")) == []
    (box / "a.iso").touch()
    assert found(world.drop_boxes, boxed(tree, "pub")) == [
        f"ftp.incoming.path: {box} holds files that nobody uploaded, and would be closed and swept "
        f"(name another folder; if it is the right one: chown -R 64612:64612 {box})"
    ]
    os.chown(box, 777, 777)  # of an operator: a remedy that only gives it away would end there, too
    assert found(world.drop_boxes, boxed(tree, "pub"))[0].endswith(f"right one: chown -R 64612:64612 {box})")
    os.chown(box, 64612, 64612)
    assert found(world.drop_boxes, boxed(tree, "pub")) == []


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mount")
def test_a_drop_box_that_is_read_only_is_warned_of_with_the_command_that_mends_it(tree: Path) -> None:
    """Seen: ok, while every upload was refused; for a folder that has to be made, a command that fails as well."""
    box = tree / "incoming"
    box.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,mode=0700", "none", str(tree)], check=True)
    try:
        remedy = f"(mount -o remount,rw {tree})"
        assert found(world.drop_boxes, boxed(tree)) == [f"ftp.incoming.path: {box} cannot be made {remedy}"]
        state = changed(state_dir=f"{tree}/state/here")
        assert f"as root: {remedy[1:]}" in found(world.folders, state)[0]
        subprocess.run(["mount", "-o", "remount,rw", str(tree)], check=True)
        box.mkdir(mode=0o700)
        subprocess.run(["mount", "-o", "remount,ro", str(tree)], check=True)
        assert found(world.drop_boxes, boxed(tree)) == [
            f"warning: ftp.incoming.path: {box} is read-only, so nothing can be uploaded {remedy}"
        ]
    finally:
        subprocess.run(["umount", "-l", str(tree)], check=True)


def test_a_drop_box_below_a_folder_that_others_write_is_an_error(tree: Path) -> None:
    (tree / "in").mkdir()
    (tree / "in" / "box").mkdir(mode=0o700)
    ours = Machine(uid=os.geteuid(), gid=os.getegid())
    assert found(world.drop_boxes, boxed(tree, "in/box"), ours) == []
    (tree / "in").chmod(0o777)
    assert found(world.drop_boxes, boxed(tree, "in/box"), ours) == [
        f"ftp.incoming.path: {tree}/in can be written by everybody (chmod go-w {tree}/in)"
    ]
    (tree / "in").chmod(0o1777)
    assert found(world.drop_boxes, boxed(tree, "in/box"), ours) == []


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_drop_box_below_a_folder_of_a_third_account_is_an_error(tree: Path) -> None:
    (tree / "in" / "box").mkdir(parents=True)
    os.chown(tree / "in", 777, 0)
    assert found(world.drop_boxes, boxed(tree, "in/box")) == [
        f"ftp.incoming.path: {tree}/in belongs to uid 777 (chown 0 {tree}/in)"
    ]


# --- what is released, and the scanner


def test_a_released_tree_that_is_missing_or_good_is_no_finding(tree: Path) -> None:
    assert found(world.released, boxed(tree), OURSELVES) == []
    (tree / "released").mkdir(mode=0o755)
    assert found(world.released, boxed(tree), OURSELVES) == []
    (tree / "released").chmod(0o777)
    assert found(world.released, ftp_only(root=str(tree)), OURSELVES) == []


def test_a_released_tree_that_others_could_write_is_warned_of(tree: Path) -> None:
    (tree / "released").mkdir()
    for mode in (0o775, 0o757):
        (tree / "released").chmod(mode)
        assert found(world.released, boxed(tree), OURSELVES) == [
            f"warning: ftp.incoming.released: {tree}/released can be written by others (chmod go-w {tree}/released)"
        ]
    (tree / "released").rmdir()
    (tree / "released").symlink_to("/tmp")
    assert found(world.released, boxed(tree), OURSELVES) == [
        f"warning: ftp.incoming.released: {tree}/released is not a folder (rm {tree}/released, or name another one)"
    ]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_released_tree_of_a_third_account_is_warned_of(tree: Path) -> None:
    (tree / "released").mkdir(mode=0o755)
    os.chown(tree / "released", 777, 0)
    assert found(world.released, boxed(tree)) == [
        f"warning: ftp.incoming.released: {tree}/released belongs to uid 777 (chown 0 {tree}/released)"
    ]


def scanning(tree: Path, scan: IncomingScan | None) -> Settings:
    return ftp_only(root=str(tree), incoming={"enabled": True, "scan": scan})


def test_a_scanner_that_is_there_is_no_finding(tree: Path) -> None:
    assert found(world.scanner, scanning(tree, None)) == []
    assert found(world.scanner, scanning(tree, IncomingScan(("/bin/true",)))) == []
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tree / "s"))
        assert found(world.scanner, scanning(tree, IncomingScan(clamd=str(tree / "s")))) == []


def test_a_scanner_that_is_not_there_is_warned_of(tree: Path) -> None:
    assert found(world.scanner, scanning(tree, IncomingScan((f"{tree}/x",)))) == [
        f"warning: ftp.incoming.scan.command: {tree}/x is no program, so every upload is held (ls -l {tree}/x)"
    ]
    assert found(world.scanner, scanning(tree, IncomingScan(clamd=f"{tree}/x"))) == [
        f"warning: ftp.incoming.scan.clamd: there is no socket {tree}/x, so every upload is held "
        "(systemctl start clamav-daemon, or name its LocalSocket)"
    ]
    for user in ("nonsuch", "toor"):
        assert found(world.scanner, scanning(tree, IncomingScan(("/bin/true",), user=user))) == [
            f"warning: ftp.incoming.scan.user: there is no account {user}, or it is root, so every upload is held "
            f"(useradd --system --no-create-home --shell /usr/sbin/nologin {user}, or take the key out)"
        ]
        assert found(world.scanner, scanning(tree, IncomingScan(("/bin/true",), user=user)), ORDINARY) == []


# --- uploads by TFTP


def uploading(tree: Path, path: str = "uploads", ftp: dict[str, Any] | None = None, **keys: Any) -> Settings:
    box = {"mode": "replace", "path": path, **keys}
    return changed(tftp={"root": str(tree), "uploads": box}, ftp=ftp or {"enabled": False})


def test_uploads_that_are_off_or_not_made_yet_are_no_finding(tree: Path) -> None:
    for judgement in (world.drop_boxes, world.uploads):
        assert found(judgement, uploading(tree), OURSELVES) == []
        assert found(judgement, uploading(tree, mode="none", readable="same-client"), OURSELVES) == []
    (tree / "uploads").mkdir(mode=0o700)
    assert found(world.roots, uploading(tree)) == []
    assert len(found(world.roots, uploading(tree, mode="none"))) == 1


def test_a_folder_of_uploads_is_judged_as_a_drop_box(tree: Path) -> None:
    (tree / "file").touch()
    assert found(world.drop_boxes, uploading(tree, "file"), OURSELVES) == [
        f"tftp.uploads.path: {tree}/file is not a folder (rm {tree}/file: it is made anew at the start)"
    ]


def test_little_room_for_uploads_is_a_warning(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "free_bytes", space(5 << 30))
    assert found(world.disk, uploading(tree, quota=6 << 30)) == [
        "warning: tftp.uploads.quota: 5GiB are free for uploads by TFTP, which may take 6GiB more "
        f"(df -h {tree}; free as much, or write a smaller quota)"
    ]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_files_that_the_custodian_would_never_replace_are_warned_of(tree: Path) -> None:
    (tree / "uploads").mkdir()
    for name in ("b", "a", "mine"):
        (tree / "uploads" / name).touch()
    os.chown(tree / "uploads" / "mine", 64612, 64612)
    (tree / "uploads" / "folder").mkdir()
    expected = [
        "warning: tftp.uploads.mode: uid 64612, which keeps it, does not own a and 1 more in it, "
        f"and replaces its own files only (chown -R 64612:64612 {tree}/uploads)"
    ]
    assert found(world.uploads, uploading(tree)) == expected
    assert found(world.uploads, uploading(tree, mode="existing")) == expected
    assert found(world.uploads, uploading(tree, mode="create")) == []


def test_same_client_needs_a_file_system_that_keeps_who_it_was(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = uploading(tree, readable="same-client")
    assert found(world.uploads, settings, OURSELVES) == []

    def getxattr(path: str, _name: str) -> bytes:
        raise OSError(errno.ENOTSUP, "Operation not supported", path)

    monkeypatch.setattr(os, "getxattr", getxattr)
    assert found(world.uploads, settings, OURSELVES) == [
        f"tftp.uploads.readable: the file system of {tree} has no user attributes, so nobody knows who uploaded a file "
        "(put it on ext4, xfs or btrfs, or write networks or none)"
    ]
    assert found(world.uploads, uploading(tree), OURSELVES) == []


def test_uploads_below_the_root_of_ftp_are_open_where_all_children_are_one_user(tree: Path) -> None:
    ftp = {"root": str(tree)}
    assert found(world.uploads, uploading(tree, "deep/uploads", ftp), ORDINARY) == [
        f"tftp.uploads.path: {tree}/deep/uploads lies inside ftp.root, and the FTP workers of an ordinary user may "
        "read it (add uploads to ftp.hide, or name a root of its own, or run as root)"
    ]
    assert found(world.uploads, uploading(tree, "deep/uploads", ftp)) == []
    for hidden in (("uploads",), ("de*",)):
        assert found(world.uploads, uploading(tree, "deep/uploads", {**ftp, "hide": hidden}), ORDINARY) == []
    assert found(world.uploads, uploading(tree, ".uploads", ftp), ORDINARY) == []
    assert found(world.uploads, uploading(tree, ftp={"root": f"{tree}/ftp"}), ORDINARY) == []


# --- state_dir and run_dir


def test_folders_that_can_be_made_are_fine(tmp_path: Path) -> None:
    settings = changed(state_dir=f"{tmp_path}/a/b", run_dir=f"{tmp_path}/run")
    assert found(world.folders, settings, Machine(uid=os.geteuid())) == []


def test_an_xferlog_has_a_folder_that_is_there_and_not_everybodys_and_is_no_link(tmp_path: Path) -> None:
    folder, me = tmp_path / "log", Machine()
    path = folder / "xferlog"
    settings = changed(observe={"xferlog": str(path)})
    assert found(world.xferlog, changed()) == []
    (missing,) = found(world.xferlog, settings, me)
    assert f"there is no folder {folder}" in missing and f"install -d -o {me.uid} -m 0755 {folder}" in missing
    folder.mkdir(mode=0o755)
    assert found(world.xferlog, settings, me) == []
    path.write_bytes(b"")
    assert found(world.xferlog, settings, me) == []
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    folder.chmod(0o777)
    written, link = found(world.xferlog, settings, me)
    assert "can be written by others" in written and "is no plain file" in link


def test_a_file_in_the_way_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = changed(state_dir=f"{tmp_path}/file/state", run_dir=str(tmp_path))
    assert found(world.folders, settings, Machine(uid=os.geteuid())) == [
        f"state_dir: {tmp_path}/file is not a folder (name another folder, or move that file away)"
    ]


def test_a_folder_of_another_account_is_an_error(tmp_path: Path) -> None:
    owner = os.geteuid() or 777
    os.chown(tmp_path, owner, -1)
    settings = changed(state_dir=str(tmp_path), run_dir=f"{tmp_path}/run")
    expected = f"state_dir: {tmp_path} belongs to uid {owner} (chown 4711 {tmp_path}, or name another folder)"
    assert expected in found(world.folders, settings, Machine(uid=4711))
    assert found(world.folders, settings, Machine(uid=owner)) == []


def test_a_folder_that_everybody_writes_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o1777)
    settings = changed(state_dir=f"{tmp_path}/state", run_dir=f"{tmp_path}/run")
    assert found(world.folders, settings, Machine(uid=os.geteuid())) == [
        f"run_dir: {tmp_path}/run can be written by everybody (chmod go-w {tmp_path}/run)"
    ]


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_args, **_kwargs: False)
    uid = os.geteuid()
    settings = changed(state_dir=f"{tmp_path}/state", run_dir=str(tmp_path))
    assert found(world.folders, settings, Machine(uid=uid)) == [
        f"state_dir: {tmp_path}/state cannot be made in {tmp_path} by uid {uid} "
        f"(as root: install -d -o {uid} -m 0755 {tmp_path}/state)",
        f"run_dir: {tmp_path} cannot be written by uid {uid} (as root: install -d -o {uid} -m 0755 {tmp_path})",
    ]


# --- disk


def space(free: int) -> Callable[[str], int]:
    return lambda _path: free


def test_little_room_for_the_state_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "free_bytes", space((1 << 30) - 1))
    assert found(world.disk, changed(state_dir="/")) == [
        "warning: state_dir: 1023MiB are free for / (df -h /; free 1GiB, or name another folder)"
    ]
    monkeypatch.setattr(world, "free_bytes", space(1 << 30))
    assert found(world.disk, changed(state_dir="/")) == []


def test_little_room_for_the_drop_box_is_a_warning(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "free_bytes", space(5 << 30))
    settings = boxed(tree)
    assert found(world.disk, settings) == [
        "warning: ftp.incoming.quota: 5GiB are free for the drop box, which may take 10GiB more "
        f"(df -h {tree}; free as much, or write a smaller quota)"
    ]
    monkeypatch.setattr(world, "held_bytes", space(6 << 30))
    assert found(world.disk, settings) == []
    # seen: "may take 1GiB more", whatever the quota was
    assert found(world.disk, uploading(tree, quota=12 << 30))[0].endswith("a smaller quota)")
    assert found(world.disk, uploading(tree, quota=(6 << 30) + 1)) == []


# --- memory


def test_windows_that_do_not_fit_the_bound_are_a_warning(tmp_path: Path) -> None:
    assert found(world.memory, tftp_only(blksize_max=65464, workers=2), made(tmp_path, {})) == [
        "warning: tftp.limits.memory: 4096 transfers with 64 blocks of 65464 bytes need 15GiB, more than 512MiB "
        "(raise it, or lower tftp.windowsize_max, tftp.blksize_max or tftp.limits.transfers)"
    ]


def test_a_bound_that_many_workers_share_is_a_warning(tmp_path: Path) -> None:
    keys = {"workers": 64, "limits": {"memory": 128 << 20, "transfers": 100}}
    assert found(world.memory, tftp_only(**keys), made(tmp_path, {})) == [
        "warning: tftp.limits.memory: each of 64 workers gets 2MiB of it (write 256MiB, or fewer tftp.workers)"
    ]


def test_a_bound_beyond_the_machine_is_a_warning(tmp_path: Path) -> None:
    machine = made(tmp_path, {"meminfo": "MemTotal: 600000 kB\n"})
    assert found(world.memory, tftp_only(workers=2), machine) == [
        "warning: tftp.limits.memory: 512MiB is more than three quarters of this machine's 585MiB (write 292MiB)"
    ]
    assert found(world.memory, ftp_only(), machine) == []


# --- the kernel

LINUX = {
    "sys/kernel/ostype": "Linux\n",
    "sys/kernel/seccomp/actions_avail": "allow\n",
    "sys/user/max_user_namespaces": "5000\n",
}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, []),
        (
            {"sys/user/max_user_namespaces": "0\n"},
            [
                "confinement: an ordinary user may not make user namespaces (user.max_user_namespaces = 0) "
                "(sysctl -w user.max_user_namespaces=10000, or run as root, or write best-effort)"
            ],
        ),
        (
            {"sys/kernel/unprivileged_userns_clone": "0\n"},
            [
                "confinement: an ordinary user may not make user namespaces (kernel.unprivileged_userns_clone = 0) "
                "(sysctl -w kernel.unprivileged_userns_clone=1, or run as root, or write best-effort)"
            ],
        ),
        (
            {"sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"},
            [
                "confinement: an ordinary user may not make user namespaces "
                "(kernel.apparmor_restrict_unprivileged_userns = 1) "
                "(sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or run as root, or write best-effort)"
            ],
        ),
        (
            {"sys/user/max_user_namespaces": ""},
            ["confinement: this kernel has no user namespaces (run as root, or write best-effort)"],
        ),
    ],
)
def test_an_ordinary_user_needs_user_namespaces(tmp_path: Path, files: dict[str, str], expected: list[str]) -> None:
    ordinary = made(tmp_path, {**LINUX, **files}, uid=1000)
    assert found(world.kernel, Settings(), ordinary) == expected
    assert found(world.kernel, changed(confinement="best-effort"), ordinary) == []
    assert found(world.kernel, Settings(), dataclasses.replace(ordinary, uid=0)) == []


def test_a_kernel_without_filters_is_an_error(tmp_path: Path) -> None:
    machine = made(tmp_path, {**LINUX, "sys/kernel/seccomp/actions_avail": ""})
    assert found(world.kernel, Settings(), machine) == [
        "confinement: this kernel has no system call filter "
        "(use a kernel with CONFIG_SECCOMP_FILTER, or write best-effort)"
    ]


def test_without_proc_the_kernel_is_not_judged(tmp_path: Path) -> None:
    assert found(world.kernel, Settings(), made(tmp_path, {}, uid=1000)) == []


def test_a_kernel_without_landlock_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.landlock, "abi", lambda: 0)
    assert found(world.landlock_layer, Settings()) == [
        "warning: confinement: this kernel has no Landlock, so one layer of the confinement is missing "
        "(boot it with lsm=landlock, before the modules of /sys/kernel/security/lsm)"
    ]
    monkeypatch.setattr(world.landlock, "abi", lambda: 1)
    assert found(world.landlock_layer, Settings()) == []


def test_a_good_certificate_is_told_nothing_and_so_is_one_that_is_not_used(tmp_path: Path) -> None:
    pair = certificate(tmp_path)
    assert found(world.certificate, tls(pair)) == []
    assert found(world.certificate, tls((tmp_path / "no", tmp_path / "no"), mode="off")) == []


def test_a_certificate_that_expired_or_soon_will(tmp_path: Path) -> None:
    pair = expired(tmp_path)
    assert found(world.certificate, tls(pair)) == [
        f"ftp.tls.certificate: {pair[0]}: the certificate expired on 2020-12-31 (renew it, then: appliance reload)"
    ]
    (told,) = found(world.certificate, tls(certificate(tmp_path, "soon", days=13)))
    assert told.startswith(f"warning: ftp.tls.certificate: {tmp_path}/soon.crt: the certificate expires on 20")
    assert found(world.certificate, tls(certificate(tmp_path, "later", days=16))) == []


def test_a_key_that_others_can_read(tmp_path: Path) -> None:
    pair = certificate(tmp_path)
    pair[1].chmod(0o644)
    what = f"{pair[1]} holds the private key, and every user of this machine can read or write it"
    assert found(world.certificate, tls(pair)) == [f"ftp.tls.key: {what} (chmod o-rwx {pair[1]})"]


def test_the_certificate_of_the_board_is_judged_as_well(tmp_path: Path) -> None:
    """Seen: `check` found nothing, and the board did not come up."""
    pair = certificate(tmp_path)
    board = BoardSettings(certificate=str(pair[0]), key=str(pair[1]))
    settings = Settings(observe=ObserveSettings(board_listen="127.0.0.1:8069", board=board))
    assert found(world.certificate, settings) == []
    assert [path for path, _days in world.validity(settings)] == [str(pair[0])]
    pair[1].write_text("no key\n")
    (told,) = found(world.certificate, settings)
    assert told.startswith(f"observe.board.key: {pair[1]}: there is no private key in it")
    unused = Settings(observe=ObserveSettings(board=board))
    assert found(world.certificate, unused) == []


def test_a_wrong_pair_and_a_missing_file(tmp_path: Path) -> None:
    one, two = certificate(tmp_path), certificate(tmp_path, "two")
    (told,) = found(world.certificate, tls((one[0], two[1])))
    assert told == f"ftp.tls.key: {two[1]} is not the key of {one[0]} (name the two files that were made together)"
    (told,) = found(world.certificate, tls((one[0], tmp_path / "no")))
    assert told.startswith(f"ftp.tls.key: there is no file {tmp_path}/no (name the file, or make one: appliance tls")


# --- the clock


def test_a_clock_before_the_program_was_made_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(world.clock, Settings(), Machine()) == []
    made = int(os.stat(world.__file__).st_mtime)
    assert world.behind(made - 86399) == "" and world.behind(made - 86401)
    monkeypatch.setattr("appliance.world.time.time", lambda: 60.0)
    assert found(world.clock, Settings(), Machine()) == [
        "warning: clock: the clock says 1970-01-01, before this program was made (timedatectl set-ntp true, or date -s)"
    ]
