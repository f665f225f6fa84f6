"""`appliance backup` and `restore`: another machine serves the same; a hostile or damaged file changes nothing."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import boxes
from appliance.cli.main import main
from tests.cli.conftest import PROGRAM
from tests.cli.test_bootfiles import Lab
from tests.support import needs_root


@pytest.fixture
def lab(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Lab:
    (tmp_path / "one").mkdir()
    tmp_path.chmod(0o755)
    return Lab(tmp_path / "one", capsys)


@pytest.fixture
def other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Lab:
    (tmp_path / "two").mkdir()
    made = Lab(tmp_path / "two", capsys)
    (made.place / "boot.yaml").unlink()
    return made


@pytest.fixture
def saved(lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    lab.run("fetch")
    lab.run("publish", "--note", "carried")
    hosts = lab.place / "state" / "hosts.d"
    hosts.mkdir()
    (hosts / "web2.yaml").write_text("machines: {web2: {mac: '52:54:00:00:00:02', profile: one}}\n")
    (lab.place / "key.pem").write_text("PRIVATE")
    (lab.place / "key.pem").chmod(0o600)
    assert main(["backup", str(tmp_path / "b.tar"), "-c", str(lab.config)]) == 0
    assert "1 releases, 2 sources" in capsys.readouterr().out
    return tmp_path / "b.tar"


def names(path: Path) -> set[str]:
    with tarfile.open(path) as tar:
        return set(tar.getnames())


def test_another_machine_serves_the_same_release(
    lab: Lab, other: Lab, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {"backup.json", "config/a.yaml", "manifest/boot.yaml", "hosts.d/web2.yaml"} <= names(saved)
    assert not any("key.pem" in name for name in names(saved))
    assert main(["restore", str(saved), "-c", str(other.config)]) == 0
    assert "is served" in capsys.readouterr().out
    assert other.served("tftp", "linux/kernel") == "kernel one"
    assert "linux/kernel" in other.served("tftp", "pxelinux.cfg/01-52-54-00-00-00-02")
    mine, theirs = lab.json("releases")["releases"], other.json("releases")["releases"]
    assert mine == theirs and theirs[0]["note"] == "carried"
    assert other.json("publish")["files"] == 6  # its sources came along


@pytest.mark.root
@needs_root[1]
def test_what_is_taken_in_belongs_to_the_accounts_of_the_machine_that_takes_it_in(
    other: Lab, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = {"appliance-boot": 64921, "appliance-fetch": 64922, "appliance-unpack": 64923}
    monkeypatch.setattr(boxes, "identity", lambda _machine, name: (accounts[name], accounts[name]))
    assert main(["restore", str(saved), "-c", str(other.config)]) == 0
    folders = [other.place / "state" / "boot", other.place / "tftp" / ".releases", other.place / "ftp" / ".releases"]
    owners = {(path.stat().st_uid, path.stat().st_gid) for folder in folders for path in (folder, *folder.rglob("*"))}
    assert owners == {(64921, 64921)}
    hosts = other.place / "state" / "hosts.d"
    assert {path.stat().st_uid for path in (hosts, *hosts.iterdir())} == {0}  # an operator's
    assert other.served("tftp", "linux/kernel") == "kernel one"


def test_files_that_differ_are_kept_unless_they_are_to_be_replaced(
    other: Lab, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = other.config.read_text()
    assert main(["restore", str(saved), "-c", str(other.config), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == [str(other.config)]
    assert other.config.read_text() == before
    hosts = other.place / "state" / "hosts.d" / "web2.yaml"
    hosts.write_text("machines: {}\n")
    assert main(["restore", str(saved), "-c", str(other.config)]) == 0
    assert hosts.read_text() == "machines: {}\n" and "kept, and differs" in capsys.readouterr().err


def test_a_backup_can_go_through_a_pipe(lab: Lab, other: Lab, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [*PROGRAM, "backup", "-", "-c", str(lab.config)]
    text = subprocess.run(command, capture_output=True, check=True).stdout
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert main(["restore", "-", "-c", str(other.config)]) == 0
    assert other.served("tftp", "linux/kernel") == "kernel one"


def rewritten(
    saved: Path, change: dict[str, bytes], extra: tuple[tarfile.TarInfo, ...] = (), *, late: bool = False
) -> Path:
    """A copy with other content under some names, and more members, before its end or after."""
    out = saved.with_suffix(".changed")
    with tarfile.open(saved) as old, tarfile.open(out, "w") as new:
        for member in old:
            for info in extra if member.name == "end" and not late else ():
                new.addfile(info, io.BytesIO(bytes(info.size)))
            content = change.get(member.name, old.extractfile(member).read())  # type: ignore[union-attr]
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))
        for info in extra if late else ():
            new.addfile(info, io.BytesIO(bytes(info.size)))
    return out


def hostile(saved: Path) -> Iterator[tuple[str, Path]]:
    digest = next(name for name in names(saved) if name.startswith("store/"))
    link = tarfile.TarInfo("hosts.d/x.yaml")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    yield "its SHA-256 is", rewritten(saved, {digest: b"evil"})
    yield "which is no file", rewritten(saved, {}, (link,))
    yield "goes on after its end", rewritten(saved, {}, (tarfile.TarInfo("hosts.d/x.yaml"),), late=True)
    for name in ("../evil", "/etc/evil", "config/../evil", "hosts.d/../evil.yaml", "config/sub/evil", "store/xyz"):
        yield "which no backup has", rewritten(saved, {}, (tarfile.TarInfo(name),))
    yield "use the newer build", rewritten(saved, {"backup.json": b'{"format": 2, "current": null}'})
    yield "this is no backup", rewritten(saved, {"backup.json": b"{}"})
    short = saved.with_suffix(".short")
    short.write_bytes(saved.read_bytes()[:5000])
    yield "damaged or cut off", short
    short.write_bytes(b"")
    yield "this is no backup", short


def test_a_hostile_or_damaged_backup_changes_nothing_that_is_served(
    other: Lab, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for why, path in hostile(saved):
        capsys.readouterr()
        assert main(["restore", str(path), "-c", str(other.config)]) == 1, why
        assert why in (said := capsys.readouterr().err) or "damaged" in said, said
        assert not (other.place / "state" / "boot" / "current").exists()
    assert not list(other.place.rglob("evil*"))
