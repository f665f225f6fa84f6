"""boot.archives, unpacker, fetching: archives and folders, opened by the confined child; what is hostile is refused."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pycdlib
import pytest
import zstandard

from appliance.boot import apt, archives, verify
from appliance.boot.house import House
from appliance.boot.model import Source
from appliance.boot.records import BootError
from tests.boot.mirror import Silent, fetch, house, keys, sha, source, stored
from tests.support import ROOT


@pytest.fixture
def rooms(tmp_path: Path) -> House:
    return house(tmp_path)


def info(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.size, found.mode = kind, target, size, 0o4755
    return found


def tar(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> str:
    with tarfile.open(path, mode.removesuffix(":zst")) as archive:  # type: ignore[call-overload]
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    if mode.endswith(":zst"):  # in two frames, as parallel compressors write it
        content = path.read_bytes()
        path.write_bytes(zstandard.compress(content[:700]) + zstandard.compress(content[700:]))
    path.chmod(0o644)
    return str(path)


def unpacked(rooms: House, at: str, form: str = "tar", **more: Any) -> Any:
    return fetch(rooms, [source("it", at, unpack=form, **more)])["it"]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2", "w:zst"])
def test_a_tar_archive_is_unpacked_with_its_links(rooms: House, tmp_path: Path, mode: str) -> None:
    at = tar(
        tmp_path / "t",
        (info("./a/b"), b"one"),
        (info("./a/b"), b"two"),
        (info("link", tarfile.SYMTYPE, "a/b"), b""),
        (info("hard", tarfile.LNKTYPE, "./a/b"), b""),
        (info("folder", tarfile.SYMTYPE, "a"), b""),
        (info("dev", tarfile.CHRTYPE), b""),
        (info("disk", tarfile.BLKTYPE), b""),
        (info("fifo", tarfile.FIFOTYPE), b""),
        (info("strange", b"Z"), b""),
        (info("out", tarfile.SYMTYPE, "../../etc/passwd"), b""),
        mode=mode,
    )
    found = unpacked(rooms, at)
    assert found.state == "fetched", found.why
    assert {file.path for file in found.fetched.files} == {"a/b", "link", "hard", "folder/b"}
    assert stored(rooms, found, "folder/b") == b"two"
    assert [line.partition(":")[0] for line in found.fetched.left_out] == ["dev", "disk", "fifo", "out", "strange"]
    assert os.listdir(f"{rooms.state_dir}/boot-unpack") == []


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil"])
def test_a_member_that_leads_out_refuses_the_whole_archive(rooms: House, tmp_path: Path, name: str) -> None:
    found = unpacked(rooms, tar(tmp_path / "t", (info("fine"), b"x"), (info(name), b"evil")))
    assert found.state == "failed" and "leads out of the tree" in found.why and "evil" in found.why
    assert rooms.sources() == {} and not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"\x1f\x8b\x08\x00 no gzip", b"\xfd7zXZ\0 no xz", b"BZh no bzip", b"\x28\xb5\x2f\xfd no zstd", b"x" * 10_000],
)
def test_what_is_no_archive_is_told(rooms: House, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t").write_bytes(content)
    found = unpacked(rooms, str(tmp_path / "t"))
    assert (found.state, found.fetched) == ("failed", None) or found.fetched.files == ()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2", "w:zst"])
def test_an_archive_that_is_cut_off_is_told(rooms: House, tmp_path: Path, mode: str) -> None:
    at = Path(tar(tmp_path / "t", *[(info(f"f{n}"), os.urandom(50_000)) for n in range(6)], mode=mode))
    at.write_bytes(at.read_bytes()[:150_000])
    found = unpacked(rooms, str(at))
    assert found.state == "failed" and "damaged or cut off" in found.why
    assert rooms.sources() == {}


@pytest.mark.parametrize("mode", ["w:gz", "w:zst"])
def test_a_bomb_is_refused_by_its_size(rooms: House, tmp_path: Path, mode: str) -> None:
    at = tar(tmp_path / "t", (info("zeros"), bytes(20_000_000)), mode=mode)
    assert Path(at).stat().st_size < 100_000
    found = unpacked(rooms, at, max_size=10_000_000)
    assert found.state == "failed" and "its members have 20000000 bytes, and max_size is 10000000" in found.why


def test_a_zstd_frame_that_wants_too_much_memory_is_refused(rooms: House, tmp_path: Path) -> None:
    def frame(power: int) -> bytes:  # RFC 8878 section 3.1.1: a window of 2^power bytes, then one raw block
        return b"\x28\xb5\x2f\xfd\x00" + bytes(((power - 10) << 3,)) + b"\x01\x40\x01"

    tar(tmp_path / "small", (info("a"), b"one"))
    raw = (tmp_path / "small").read_bytes()
    assert len(raw) == 10 * 1024
    for power, state in ((27, "fetched"), (28, "failed")):
        (tmp_path / "t").write_bytes(frame(power) + raw)
        found = unpacked(rooms, str(tmp_path / "t"))
        assert found.state == state, (power, found.why)
    assert "too much memory" in found.why


def test_without_its_library_zstd_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "zstandard", None)
    with pytest.raises(archives.ArchiveError, match=r"compressed with zstd.*python3-zstandard"):
        archives.Tar(io.BytesIO(zstandard.compress(b"x"))).tree()


def image(path: Path, *, rock: bool, joliet: bool) -> str:
    iso = pycdlib.PyCdlib()
    iso.new(rock_ridge="1.09" if rock else None, joliet=3 if joliet else None)
    more = {**({"rr_name": "boot"} if rock else {}), **({"joliet_path": "/boot"} if joliet else {})}
    iso.add_directory("/BOOT", **more)
    more = {**({"rr_name": "vmlinuz-6.1"} if rock else {}), **({"joliet_path": "/boot/vmlinuz-6.1"} if joliet else {})}
    iso.add_fp(io.BytesIO(b"kernel"), 6, "/BOOT/VMLINUZ.;1", **more)
    if rock:
        iso.add_symlink("/LINK.;1", rr_symlink_name="link", rr_path="boot/vmlinuz-6.1")
        iso.add_symlink("/OUT.;1", rr_symlink_name="out", rr_path="../../etc/passwd")
    iso.write(str(path))
    iso.close()
    path.chmod(0o644)
    return str(path)


@pytest.mark.parametrize(
    ("rock", "joliet", "names"),
    [
        (True, False, {"boot/vmlinuz-6.1", "link"}),
        (True, True, {"boot/vmlinuz-6.1", "link"}),
        (False, True, {"boot/vmlinuz-6.1"}),
        (False, False, {"boot/vmlinuz"}),
    ],
)
def test_an_iso_image_is_unpacked(rooms: House, tmp_path: Path, rock: bool, joliet: bool, names: set[str]) -> None:
    found = unpacked(rooms, image(tmp_path / "i", rock=rock, joliet=joliet), "iso")
    assert found.state == "fetched", found.why
    assert {file.path for file in found.fetched.files} == names
    assert stored(rooms, found, min(names)) == b"kernel"
    assert [line.partition(":")[0] for line in found.fetched.left_out] == (["out"] if rock else [])


def test_a_device_in_an_image_is_left_out_and_told(rooms: House, tmp_path: Path) -> None:
    at = Path(image(tmp_path / "i", rock=True, joliet=False))
    content, regular = at.read_bytes(), 0o100444
    entry = b"PX$\1" + regular.to_bytes(4, "little") + regular.to_bytes(4, "big")  # RRIP 1.12 section 4.1.1
    assert content.count(entry) == 1
    device = 0o020444
    at.write_bytes(content.replace(entry, b"PX$\1" + device.to_bytes(4, "little") + device.to_bytes(4, "big")))
    found = unpacked(rooms, str(at), "iso")
    assert {line.partition(":")[0]: line for line in found.fetched.left_out}.keys() == {
        "boot/vmlinuz-6.1",
        "link",
        "out",
    }
    assert found.fetched.files == ()


def test_a_damaged_image_is_told(rooms: House, tmp_path: Path) -> None:
    at = Path(image(tmp_path / "i", rock=True, joliet=False))
    for content in (at.read_bytes()[:40_000], b"x" * 100_000):
        at.write_bytes(content)
        found = unpacked(rooms, str(at), "iso")
        assert found.state == "failed" and "damaged or cut off" in found.why


def test_a_folder_is_taken_without_leaving_it(rooms: House, tmp_path: Path) -> None:
    place = tmp_path / "mirror"
    (place / "deep").mkdir(parents=True)
    (place / "deep" / "file").write_bytes(b"content")
    (place / "link").symlink_to("deep/file")
    (place / "out").symlink_to("../outside")
    (place / "absolute").symlink_to("/etc/passwd")
    os.mkfifo(place / "fifo")
    (tmp_path / "outside").write_text("secret")
    for path in (place, place / "deep"):
        path.chmod(0o755)
    found = unpacked(rooms, str(place), "none", kind="dir")
    assert found.state == "fetched", found.why
    assert {file.path for file in found.fetched.files} == {"deep/file", "link"}
    assert [line.partition(":")[0] for line in found.fetched.left_out] == ["absolute", "fifo", "out"]
    assert unpacked(rooms, str(place), "none", kind="dir").state == "unchanged"


@pytest.mark.skipif(not ROOT, reason="the owner may read it")
def test_what_not_everybody_may_read_is_not_served(rooms: House, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    (tmp_path / "f").chmod(0o640)
    assert "may not be read by everybody" in fetch(rooms, [source("it", str(tmp_path / "f"))])["it"].why
    place = tmp_path / "d"
    place.mkdir(mode=0o755)
    (place / "f").write_text("x")
    (place / "f").chmod(0o640)
    assert "cannot read 'f': Permission denied" in unpacked(rooms, str(place), "none", kind="dir").why


def test_a_file_that_is_none_is_told(rooms: House, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for at, why in (("none", "No such file"), ("fifo", "no regular file"), (".", "no regular file")):
        assert why in fetch(rooms, [source("it", str(tmp_path / at))])["it"].why
    assert "cannot open" in unpacked(rooms, str(tmp_path / "none"), "none", kind="dir").why


def test_a_pin_on_a_file_is_held(rooms: House, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    (tmp_path / "f").chmod(0o644)
    assert fetch(rooms, [source("it", str(tmp_path / "f"), sha256=sha(b"x"))])["it"].fetched.verified == "sha256"
    assert "its SHA-256 is" in fetch(rooms, [source("it", str(tmp_path / "f"), sha256=sha(b"y"))])["it"].why


class Archive:
    """A small APT archive in a folder, signed by a key of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.etc = place / "etc"
        self.pool = place / "pool"
        for folder in (self.etc / "sources.list.d", self.etc / "preferences.d", self.etc / "apt.conf.d", self.pool):
            folder.mkdir(parents=True)

    def add(self, name: str, version: str, compression: str = "xz", **files: bytes) -> None:
        root = self.place / "build"
        (root / "DEBIAN").mkdir(parents=True)
        (root / "DEBIAN" / "control").write_text(
            f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\n"
            f"Description: a test\n"
        )
        for path, content in files.items():
            where = root / path.replace("__", "/")
            where.parent.mkdir(parents=True, exist_ok=True)
            where.write_bytes(content)
        subprocess.run(["dpkg-deb", f"-Z{compression}", "-b", root, self.pool], check=True, capture_output=True)
        shutil.rmtree(root)

    def publish(self, key: Any, date: str = "Sat, 01 Jan 2022 00:00:00 UTC", valid: str = "") -> None:
        packages = b""
        for deb in sorted(self.pool.glob("*.deb")):
            control = subprocess.run(["dpkg-deb", "-f", deb], check=True, capture_output=True).stdout
            content = deb.read_bytes()
            packages += (
                control + f"Filename: pool/{deb.name}\nSize: {len(content)}\nSHA256: {sha(content)}\n\n".encode()
            )
        (self.place / "Packages").write_bytes(packages)
        until = f"Valid-Until: {valid}\n" if valid else ""
        text = f"Origin: test\nSuite: test\nDate: {date}\n{until}SHA256:\n {sha(packages)} {len(packages)} Packages\n"
        (self.place / "InRelease").write_bytes(key.clear(text.encode()))
        (self.etc / "sources.list").write_text(f"deb [signed-by={key.public}] file:{self.place} ./\n")


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """Where other accounts can read it: pytest's own folder is root's alone."""
    if ROOT:
        for above in (tmp_path, *tmp_path.parents):
            if above.stat().st_mode & 0o005 != 0o005 and above.stat().st_uid == os.geteuid():
                above.chmod(above.stat().st_mode | 0o055)
    return Archive(tmp_path / "archive")


def package(name: str, **more: Any) -> Source:
    return Source(name, "deb", name, "deb", **more)


def test_packages_come_from_the_archives_of_apt_and_nothing_else(
    rooms: House, archive: Archive, tmp_path: Path
) -> None:
    archive.add("loader", "1:2.0-1", usr__lib__loader=b"loads", usr__lib__more=b"more")
    with keys(tmp_path / "k") as key, keys(tmp_path / "o", "other") as other:
        for one in (tmp_path / "k", tmp_path / "o"):
            one.chmod(0o755)
        archive.publish(key)
        found = fetch(rooms, [package("loader"), package("ghost")], apt=str(archive.etc))
        assert found["loader"].state == "fetched", found["loader"].why
        assert stored(rooms, found["loader"], "usr/lib/loader") == b"loads"
        assert found["loader"].fetched is not None and found["loader"].fetched.verified == "apt"
        assert "no archive has the package ghost" in found["ghost"].why
        assert fetch(rooms, [package("loader")], apt=str(archive.etc))["loader"].state == "unchanged"
        archive.add("loader", "1:2.0-2", usr__lib__loader=b"newer")
        archive.publish(key, "Sun, 02 Jan 2022 00:00:00 UTC")
        newer = fetch(rooms, [package("loader")], apt=str(archive.etc))["loader"]
        assert stored(rooms, newer, "usr/lib/loader") == b"newer"
        # somebody else signs, or the list is changed after it was signed
        archive.add("loader", "9", usr__lib__loader=b"evil")
        archive.publish(other, "Mon, 03 Jan 2022 00:00:00 UTC")
        (archive.etc / "sources.list").write_text(f"deb [signed-by={key.public}] file:{archive.place} ./\n")
        evil = fetch(rooms, [package("loader")], apt=str(archive.etc))["loader"]
        assert evil.state in ("failed", "unchanged") and evil.fetched.sha256 == newer.fetched.sha256  # type: ignore[union-attr]


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_packages_of_other_compressions_are_opened(
    rooms: House, archive: Archive, tmp_path: Path, compression: str
) -> None:
    content = os.urandom(300_000) + bytes(300_000)
    archive.add("loader", "1", compression, usr__lib__loader=content)
    with keys(tmp_path / "k") as key:
        (tmp_path / "k").chmod(0o755)
        archive.publish(key)
        found = fetch(rooms, [package("loader")], apt=str(archive.etc))["loader"]
    assert stored(rooms, found, "usr/lib/loader") == content


def test_a_package_that_is_too_large_is_refused(rooms: House, archive: Archive, tmp_path: Path) -> None:
    archive.add("loader", "1", usr__lib__loader=os.urandom(5000))
    with keys(tmp_path / "k") as key:
        (tmp_path / "k").chmod(0o755)
        archive.publish(key)
        found = fetch(rooms, [package("loader", max_size=1000)], apt=str(archive.etc))["loader"]
    assert found.state == "failed" and "max_size is 1000" in found.why


def test_without_apt_or_its_folder_a_package_is_told(rooms: House, monkeypatch: pytest.MonkeyPatch) -> None:
    report = Silent()
    found = fetch(rooms, [package("x")], apt="/nowhere", report=report)["x"]
    assert found.state == "failed" and "/nowhere is not there" in found.why and "ended x" in report.said
    monkeypatch.setattr(apt, "_APT", "/nowhere/apt-get")
    assert "has no apt-get" in fetch(rooms, [package("x")])["x"].why


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (b"", "no key of the keyring"),
        (b"[GNUPG:] VALIDSIG short\n", "no key of the keyring"),
        (b"[GNUPG:] ERRSIG AA 1 8 00 1 9\n[GNUPG:] NO_PUBKEY AA\n", "no key of the keyring"),
        (b"[GNUPG:] VALIDSIG AA 2026-01-01 7 0 4 0 1 8 00 AA\n[GNUPG:] BADSIG AA x\n", "the signature is bad"),
        (b"[GNUPG:] EXPKEYSIG AA x\n[GNUPG:] VALIDSIG AA 2026-01-01 7 0 4 0 1 8 00 AA\n", "has expired"),
        (b"[GNUPG:] REVKEYSIG AA x\n[GNUPG:] VALIDSIG AA 2026-01-01 7 0 4 0 1 8 00 AA\n", "was revoked"),
        (b"[GNUPG:] EXPSIG AA x\n", "the signature has expired"),
    ],
)
def test_only_a_good_signature_counts(status: bytes, why: str) -> None:
    with pytest.raises(BootError, match=why):
        verify.judge(status)


def test_the_newest_of_several_good_signatures_tells_the_time() -> None:
    two = b"[GNUPG:] VALIDSIG AA 2026-01-01 7 0 4 0 1 8 00 AA\n[GNUPG:] VALIDSIG BB 2026-01-01 9 0 4 0 1 8 00 BB\n"
    assert verify.judge(two + b"[GNUPG:] NO_PUBKEY CC\n") == ("BB", 9)
