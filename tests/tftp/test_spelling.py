"""spelling: the same name in another case, from an index of each folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from appliance.tftp import spelling
from appliance.tftp.spelling import RETRY_S, SETTLE_NS, Spellings

LATER_NS = SETTLE_NS * 1000


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root, which is the working directory, and something beside it."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "Secret").touch()
    root = tmp_path / "root"
    (root / "Boot" / "EFI").mkdir(parents=True)
    (root / "Boot" / "EFI" / "Shim.EFI").touch()
    monkeypatch.chdir(root)
    return root


class Asked:
    """Spellings with a clock of its own, far after the last change of any folder."""

    def __init__(self) -> None:
        self.told: list[tuple[bytes, bytes, bytes]] = []
        self.spellings = Spellings(lambda *about: self.told.append(about))
        self.now = 0.0
        self.settled_ns = os.stat(".").st_ctime_ns + LATER_NS

    def find(self, path: bytes, root: bytes = b"", *, fresh: bool = False) -> bytes | None:
        now_ns = 0 if fresh else self.settled_ns
        return self.spellings.find(root, path, chrooted=False, now=self.now, now_ns=now_ns)


def scans(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by one with each folder that is read."""
    read: list[int] = []
    listdir = os.listdir

    def counted(descriptor: int) -> list[str]:
        read.append(descriptor)
        return listdir(descriptor)

    monkeypatch.setattr(spelling.os, "listdir", counted)
    return read


@pytest.mark.usefixtures("tree")
def test_every_folder_of_the_path_may_be_spelled_differently() -> None:
    asked = Asked()
    assert asked.find(b"bOOT/efi/shim.efi") == b"Boot/EFI/Shim.EFI"
    assert asked.find(b"efi/SHIM.efi", b"Boot") == b"Boot/EFI/Shim.EFI"
    assert asked.find(b"EFI/Shim.EFI", b"boot") is None, "the folder of the settings is taken as it is written"
    assert asked.find(b"boot/none") is asked.find(b"none/x") is asked.find(b"boot/efi/shim.efi/x") is None


def test_the_spelling_that_was_asked_for_counts_first_then_byte_order_told_once(tree: Path) -> None:
    for name in ("grub.cfg", "GRUB.cfg", "Grub.cfg"):
        (tree / name).touch()
    asked = Asked()
    assert asked.find(b"grub.cfg") == b"grub.cfg"
    assert asked.told == []
    assert asked.find(b"GRUB.CFG") == asked.find(b"grub.CFG") == b"GRUB.cfg"
    (tree / "new").touch()
    assert asked.find(b"NEW") == b"new", "the index is a new one"
    assert asked.find(b"grub.CFG") == b"GRUB.cfg"
    assert asked.told == [(b".", b"GRUB.cfg", b"Grub.cfg")]


def test_a_folder_is_read_once_until_it_changes(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = scans(monkeypatch)
    asked = Asked()
    for _ in range(10):
        assert asked.find(b"boot/none") is None
    assert len(read) == 2
    (tree / "Boot" / "New").touch()
    os.utime(tree / "Boot", ns=(1, 1))
    assert asked.find(b"boot/new") == b"Boot/New"
    assert len(read) == 3


@pytest.mark.usefixtures("tree")
def test_a_folder_that_has_just_changed_is_read_again_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    read = scans(monkeypatch)
    asked = Asked()
    for now, expected in ((0.0, 1), (RETRY_S / 2, 1), (RETRY_S, 2), (RETRY_S * 1.5, 2)):
        asked.now = now
        assert asked.find(b"none", fresh=True) is None
        assert len(read) == expected


def test_no_index_leaves_the_root(tree: Path) -> None:
    (tree / "Up").symlink_to("../outside")
    (tree / "Abs").symlink_to("/")
    asked = Asked()
    assert asked.find(b"up/secret") is None
    assert asked.find(b"abs/boot/efi/shim.efi") == b"Abs/Boot/EFI/Shim.EFI", "/ is the root, as in a chroot"


@pytest.mark.parametrize(("names", "found"), [(2, True), (3, True), (4, False)])
def test_a_folder_with_too_many_names_is_not_searched(
    tree: Path, monkeypatch: pytest.MonkeyPatch, names: int, found: bool
) -> None:
    monkeypatch.setattr(spelling, "_NAMES_MAX", 3)
    for number in range(names):
        (tree / "Boot" / "EFI" / f"F{number}").touch()
    (tree / "Boot" / "EFI" / "Shim.EFI").unlink()
    assert (Asked().find(b"efi/f0", b"Boot") is not None) == found


def test_indexes_are_bounded(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spelling, "_FOLDERS_MAX", 4)
    for number in range(8):
        (tree / f"D{number}").mkdir()
        (tree / f"D{number}" / "F").touch()
    asked = Asked()
    for number in range(8):
        assert asked.find(b"f", b"D%d" % number) == b"D%d/F" % number
    assert list(asked.spellings._indexes) == [b"D4", b"D5", b"D6", b"D7"]
    assert asked.spellings._held == 4


@pytest.mark.usefixtures("tree")
def test_no_descriptor_stays_open_and_none_left_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))
    asked = Asked()
    asked.find(b"boot/efi/shim.efi/x/y")
    asked.find(b"x", b"Boot/EFI/Shim.EFI")
    assert len(os.listdir("/proc/self/fd")) == before

    def full(*_path: object, **_more: object) -> int:
        raise OSError(errno.EMFILE, "full")

    monkeypatch.setattr(spelling, "open_folder", full)
    with pytest.raises(OSError, match="full"):
        asked.find(b"x")
