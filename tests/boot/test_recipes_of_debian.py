"""The recipes of Debian 12 against the real packages: every member is there, and the lint is content."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from appliance.boot import binaries
from appliance.boot import plan as planning
from appliance.boot.layout import Placed, layout
from appliance.boot.lint import Tree, lint
from tests.boot.support import resolved
from tests.qemu.tree import package

HERE = ("pxelinux", "grub", "ipxe", "debian-12", "debian-12-arm64", "memtest", "rescue", "local-disk")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("apt-get") is None, reason="fetches packages of Debian with apt-get"),
]


def folder(at: str) -> Path:
    return package(at.partition(":")[0])


def members(at: str) -> dict[str, int]:
    """What an unpacked package has, links followed, as the unpacker tells it."""
    base = folder(at)
    found = {}
    for where, _, names in os.walk(base):
        for name in names:
            path = Path(where, name)
            target = path.resolve() if not path.is_symlink() else base / os.readlink(path).lstrip("/")
            if target.is_file():
                found[str(path.relative_to(base))] = target.stat().st_size
    return found


@pytest.mark.parametrize("chosen", [(name,) for name in HERE] + [HERE])
def test_a_recipe_of_debian_12_makes_a_whole_tree(chosen: tuple[str, ...]) -> None:
    found = resolved(f"recipes: [{', '.join(chosen)}]").manifest
    done = planning.plan(found, (), {}, 0)
    at = {source.name: source.at for source in done.sources}
    placed, left = layout(done.takes, {name: members(one) for name, one in at.items()})

    def peek(file: Placed, length: int) -> bytes:
        with (folder(at[file.source]) / file.member).open("rb") as stream:
            return stream.read(length)

    wanted = {take.path for take in done.takes}
    assert ({one.path for one in placed}, left) == (wanted, ())
    assert [str(problem) for problem in lint(Tree(done, (), placed, peek))] == []


def test_debians_shim_trusts_debians_grub() -> None:
    shim = (package("shim-signed") / "usr/lib/shim/shimx64.efi.signed").read_bytes()
    grub = (package("grub-efi-amd64-signed") / "usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed").read_bytes()
    assert "Debian Secure Boot CA" in binaries.signers(grub)
    assert binaries.trusts(shim, grub) is True
    assert binaries.revoked(shim, grub) is None
    assert binaries.sbat_level(shim)["grub"] >= 5
    ipxe = (package("ipxe") / "usr/lib/ipxe/snponly.efi").read_bytes()
    assert binaries.trusts(shim, ipxe) is False
