"""Images of GRUB that have the address of the server built in: what is built in, and that grub-mkimage makes them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from appliance.boot import assemble, binaries, grub, grubimage, plan
from appliance.boot.model import Source
from appliance.boot.records import BootError, Fetched, File
from tests.boot.mirror import fetch, house, stored
from tests.boot.support import problems, resolved

RECIPE = "server: 192.0.2.1\nrecipes: [grub-proxy]\n"
KERNEL = "usr/lib/grub/x86_64-efi/kernel.img"
PREFIX = "(tftp,192.0.2.1)/grub"


def test_an_image_looks_where_the_configurations_of_its_loader_are() -> None:
    assert grub.images(resolved(RECIPE).manifest) == {"grub-modules": PREFIX}
    own = (
        RECIPE + "sources: {g: {deb: grub-efi-amd64-bin, unpack: grub}}\ntree: [{from: g, take: grub.efi, to: PATH}]\n"
    )
    for path, prefix in (("a.efi", PREFIX), ("deep/a.efi", "(tftp,192.0.2.1)/deep/grub")):
        assert grub.images(resolved(own.replace("PATH", path)).manifest)["g"] == prefix


@pytest.mark.parametrize("server", ["", "server: boot.example.org\n"])
def test_without_the_address_of_the_server_nothing_can_be_built_in(server: str) -> None:
    (found,) = problems(server + "recipes: [grub-proxy]\n")
    assert "sources.grub-modules: an image of GRUB has the address of this server built in" in found
    assert "write server: with an IPv4 address" in found


def test_the_parts_of_an_image_are_those_of_one_platform() -> None:
    members = {KERNEL: 1, "usr/lib/grub/x86_64-efi/normal.mod": 2, "usr/lib/grub/x86_64-efi/monolithic/x.mod": 3,
               "usr/lib/grub/i386-pc/normal.mod": 4, "usr/share/doc/x": 5}  # fmt: skip
    assert grub.platform(members) == "x86_64-efi"
    assert grub.parts(members, "x86_64-efi") == {"kernel.img": 1, "normal.mod": 2}
    assert grub.platform({"usr/lib/grub/i386-pc/kernel.img": 1}) == ""
    assert grub.arguments("x86_64-efi", PREFIX, {"normal.mod", "linux.mod", "zfs.mod"}) == [
        "--format", "x86_64-efi", "--prefix", PREFIX, "linux", "normal",
    ]  # fmt: skip


def test_an_image_of_another_server_is_not_published() -> None:
    done = plan.plan(resolved(RECIPE).manifest, (), {}, 0)

    def fetched(prefix: str) -> dict[str, Fetched]:
        file = File("grub.efi", 3, "ab" * 32)
        where = f"deb:x.deb, image for {prefix}"
        return {"grub-modules": Fetched("grub-modules", "s", where, "cd" * 32, 9, 1, "apt", 0, (file,), (), {})}

    assert [file.path for file in assemble.release(done, fetched(PREFIX)).files if file.origin != "rendered"] == [
        "grub-net.efi"
    ]
    with pytest.raises(BootError, match=r"made for another server or folder than \(tftp,192"):
        assemble.release(done, fetched("(tftp,192.0.2.9)/grub"))


def test_a_package_without_grub_and_a_machine_without_the_program_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = house(tmp_path)
    with pytest.raises(BootError, match="no modules of GRUB for UEFI"), grubimage.made(rooms, -1, {}, PREFIX):
        pass
    monkeypatch.setattr(grubimage, "_PROGRAM", "/nowhere/grub-mkimage")
    with pytest.raises(BootError, match="apt-get install grub-common"), grubimage.made(rooms, -1, {KERNEL: 1}, PREFIX):
        pass


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("grub-mkimage"), reason="needs grub-mkimage and APT")
def test_grub_mkimage_makes_it_of_debians_modules_in_the_room_of_the_unpacker(tmp_path: Path) -> None:
    for above in (tmp_path, *tmp_path.parents[:2]):
        above.chmod(0o755)
    rooms = house(tmp_path)
    wanted = Source("grub-modules", "deb", "grub-efi-amd64-bin:amd64", "grub")

    def made(prefix: str) -> tuple[str, bytes]:
        found = fetch(rooms, [wanted], images={"grub-modules": prefix})["grub-modules"]
        return found.state, stored(rooms, found, grub.MEMBER)

    state, image = made(PREFIX)
    head = binaries.pe(image)
    assert state == "fetched" and head is not None and head.arch == "x64-efi"
    assert image.count(PREFIX.encode()) == 1 and binaries.signers(image) == []
    assert made(PREFIX) == ("unchanged", image)
    other = "(tftp,192.0.2.99)/grub"
    before = os.umask(0o077)
    try:
        assert made(other)[0] == "fetched" and other.encode() in made(other)[1]
    finally:
        os.umask(before)
    assert os.listdir(f"{rooms.state_dir}/boot-unpack") == []
    assert fetch(rooms, [wanted])["grub-modules"].why == "nothing takes the image of this GRUB"
