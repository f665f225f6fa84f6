"""What each boot loader is given: its own grammar and quoting, under the names that it asks for."""

from __future__ import annotations

import pytest

from appliance.boot import loaders
from appliance.boot.loaders import Entry, Screen, hex_ip, hex_prefixes, own_names, words_of, write
from appliance.boot.model import Loader, Machine, Profile, Var

UUID = "4c4c4544-0043-3510-8052-b4c04f4e3732"
MACHINE = Machine("m", ("52:54:00:12:34:56",), UUID, "S1", "10.77.0.101")
BIOS = Loader("bios", "sub/pxelinux.0", "pxelinux")
GRUB = Loader("x64-efi", "shimx64.efi", "shim", "grub")
IPXE = Loader("ipxe", "boot.ipxe", "ipxe", "ipxe")
UBOOT = Loader("arm64-uboot", "", "uboot")
RPI = Loader("rpi", "", "rpi")
LINUX = Profile("linux", "Linux", kernel="l/vmlinuz", initrd=("l/initrd", "l/more"), arch=("x86_64", "arm64"))
LOCAL = Profile("local", "Disk", action="local")
CHAIN = Profile("chain", "Other", action="chain", chain=(Var("bios", "c.bin"), Var("x64-efi", "c.efi")))


def screen(*profiles: Profile, args: str = "quiet", **more: object) -> Screen:
    entries = tuple(Entry(one.name, one.title, one, args if one.action == "linux" else "") for one in profiles)
    return Screen(entries, entries[-1].label if entries else "", **more)  # type: ignore[arg-type]


def test_hexadecimal_addresses_are_those_of_pxelinux() -> None:
    assert hex_ip("10.77.0.101") == "0A4D0065"
    assert hex_prefixes("10.77.0.0/16") == ("0A4D",)
    assert hex_prefixes("10.76.0.0/15") == ("0A4C", "0A4D")
    assert hex_prefixes("192.0.2.128/25") == tuple(f"C00002{i:X}" for i in range(8, 16))
    assert hex_prefixes("192.0.2.7") == ("C0000207",)
    assert hex_prefixes("0.0.0.0/0") == () and hex_prefixes("2001:db8::/32") == ()


def test_names_of_a_machine_are_those_asked_for_first() -> None:
    assert own_names(BIOS, MACHINE) == (f"sub/pxelinux.cfg/{UUID}", "sub/pxelinux.cfg/01-52-54-00-12-34-56")
    assert own_names(GRUB, MACHINE) == ("grub/grub.cfg-01-52-54-00-12-34-56",)
    assert own_names(IPXE, MACHINE) == ("ipxe/mac-52-54-00-12-34-56.ipxe",)
    assert own_names(UBOOT, MACHINE) == (f"pxelinux.cfg/{UUID}", "pxelinux.cfg/01-52-54-00-12-34-56")
    assert own_names(RPI, MACHINE) == ("52-54-00-12-34-56/config.txt",)


def test_a_machine_that_is_known_by_less_has_the_name_that_is_left() -> None:
    only_ip, only_uuid = Machine("m", ip="10.77.0.101"), Machine("m", uuid=UUID)
    assert own_names(BIOS, only_ip) == ("sub/pxelinux.cfg/0A4D0065",)
    assert own_names(BIOS, Machine("m", serial="x")) == ()
    assert own_names(GRUB, only_ip) == ("grub/grub.cfg-0A4D0065",)
    assert own_names(GRUB, only_uuid) == (f"grub/uuid-{UUID}.cfg",)
    assert own_names(GRUB, Machine("m", serial="x")) == ()
    assert own_names(IPXE, Machine("m", uuid=UUID, serial="S1", ip="10.0.0.1")) == (
        f"ipxe/uuid-{UUID}.ipxe",
        "ipxe/serial-S1.ipxe",
        "ipxe/ip-10.0.0.1.ipxe",
    )
    assert own_names(IPXE, Machine("m", serial="a/b")) == ()
    assert own_names(RPI, Machine("m", serial="10000000ABCDEF12")) == ("abcdef12/config.txt",)


def test_common_names_and_those_of_networks() -> None:
    every = (BIOS, GRUB, IPXE, UBOOT, RPI, Loader("bios", "u", "ipxe", "ipxe"))
    assert [loaders.common_names(one) for one in every] == [
        ("sub/pxelinux.cfg/default",), ("grub/grub.cfg",), ("boot.ipxe",), ("pxelinux.cfg/default-arm",), (), (),
    ]  # fmt: skip
    assert loaders.network_names(IPXE, "10.0.0.0/8") == ()
    assert loaders.prefix(Loader("rpi", "", "rpi")) == ""


def test_pxelinux_boots_one_entry_at_once() -> None:
    assert write("pxelinux", screen(LINUX, serial=True), ("bios",)) == (
        "SERIAL 0 115200\nPROMPT 0\nTIMEOUT 0\nDEFAULT linux\nLABEL linux\n  MENU LABEL Linux\n"
        "  KERNEL ::l/vmlinuz\n  INITRD ::l/initrd,::l/more\n  APPEND quiet\n"
    )


def test_pxelinux_shows_a_menu() -> None:
    shown = write("pxelinux", screen(LINUX, CHAIN, LOCAL, title="Menu", timeout=7.5), ("bios",))
    assert shown == (
        "UI menu.c32\nMENU TITLE Menu\nTIMEOUT 75\nONTIMEOUT local\n"
        "LABEL linux\n  MENU LABEL Linux\n  KERNEL ::l/vmlinuz\n  INITRD ::l/initrd,::l/more\n  APPEND quiet\n"
        "LABEL chain\n  MENU LABEL Other\n  KERNEL ::c.bin\n"
        "LABEL local\n  MENU LABEL Disk\n  MENU DEFAULT\n  LOCALBOOT 0\n"
    )
    assert "ONTIMEOUT" not in write("pxelinux", screen(LINUX, title="Menu"), ("bios",))
    assert write("pxelinux", Screen((), ""), ("bios",)) == "PROMPT 0\nTIMEOUT 0\n"


def test_entries_that_a_processor_cannot_run_are_not_shown() -> None:
    arm = Profile("arm", "Arm", kernel="k", arch=("arm64",))
    none = Profile("none", "None", action="none")
    files = Profile("files", "Files", files="x/")
    shown = write("pxelinux", screen(LINUX, arm, none, files, CHAIN), ("bios",))
    assert [line for line in shown.splitlines() if line.startswith("LABEL")] == ["LABEL linux", "LABEL chain"]
    assert "LABEL" not in write("pxelinux", screen(CHAIN), ("rpi",))


def test_u_boot_gets_paths_as_it_takes_them() -> None:
    tree = Profile("p", "P", kernel="k", initrd=("i",), fdt="dtbs/", arch=("arm64",))
    assert write("uboot", screen(tree, title="Menu", timeout=3), ("arm64-uboot",)) == (
        "menu title Menu\ntimeout 30\nprompt 0\ndefault p\n"
        "label p\n  menu label P\n  kernel k\n  initrd i\n  fdtdir dtbs/\n  append quiet\n"
    )
    board = Profile("p", "P", kernel="k", fdt="board.dtb")
    assert "  fdt board.dtb\n" in write("uboot", screen(board), ("arm64-uboot",))
    chain = Profile("c", "C", action="chain", chain=(Var("arm64-uboot", "x"),))
    shown = write("uboot", Screen((Entry("l", "L", LOCAL, ""), Entry("c", "C", chain, "")), ""), ("arm64-uboot",))
    assert shown == "timeout 0\nprompt 0\nlabel l\n  menu label L\n  localboot 1\n"


def test_grub_quotes_what_would_be_a_command_of_its_own() -> None:
    odd = Profile("p", "it's; a {menu} $x", kernel="k", initrd=("i",), fdt="b.dtb")
    shown = write("grub", screen(odd, args='ds=nocloud;s=http://h/ a="b c" d'), ("x64-efi",))
    assert shown == (
        "set default=0\nset timeout=0\nmenuentry 'it'\\''s; a {menu} $x' --id p {\n"
        "  linux /k 'ds=nocloud;s=http://h/' 'a=b c' d\n  initrd /i\n  devicetree /b.dtb\n}\n"
    )


def test_grub_shows_a_menu_and_finds_the_disk() -> None:
    shown = write("grub", screen(LINUX, CHAIN, LOCAL, title="Menu", timeout=5, serial=True), ("x64-efi",))
    assert shown.startswith("serial --unit=0 --speed=115200\nterminal_input serial console\n")
    assert "set default=2\nset timeout=5\n" in shown
    assert "  chainloader /c.efi\n" in shown
    assert "chainloader ($disk)/EFI/$file" in shown and shown.endswith("  exit\n}\n")
    chained = Screen((Entry("c", "C", CHAIN, "a b;c"),), "c")
    assert "  chainloader /c.efi a 'b;c'\n" in write("grub", chained, ("x64-efi",))
    assert "set timeout=-1" in write("grub", screen(LINUX, title="Menu"), ("x64-efi",))
    assert "  linux /k\n}" in write("grub", screen(Profile("p", "P", kernel="k"), args=""), ("x64-efi",))


def test_grub_asks_for_the_file_of_its_machine_first() -> None:
    shown = loaders.grub_entrance(GRUB, screen(LINUX, title="Menu"), ("x64-efi",))
    assert "configfile /grub/grub.cfg-01-${mac1}-${mac2}-${mac3}-${mac4}-${mac5}-${mac6}\n" in shown
    assert "configfile /grub/uuid-$machine_uuid.cfg" in shown
    assert shown.index("configfile") < shown.index("menuentry")


def test_ipxe_boots_one_entry_at_once() -> None:
    assert write("ipxe", screen(LINUX), ("x64-efi",)) == (
        "#!ipxe\n:linux\nkernel /l/vmlinuz initrd=initrd initrd=more quiet\n"
        "initrd --name initrd /l/initrd\ninitrd --name more /l/more\nboot\n"
    )
    assert write("ipxe", screen(CHAIN), ("bios",)) == "#!ipxe\n:chain\nchain /c.bin\n"


def test_ipxe_shows_a_menu_and_expands_nothing_in_a_title() -> None:
    title = Profile("p", "a ${b}", kernel="k")
    shown = write("ipxe", screen(title, LOCAL, title="Menu", timeout=2), ("x64-efi",))
    assert "menu Menu\nitem p a $ {b}\nitem local Disk\nchoose --default local --timeout 2000 target || exit\n" in shown
    assert "choose target || exit" in write("ipxe", Screen((Entry("p", "P", LINUX, ""),), "", "Menu"), ("x64-efi",))
    assert "sanboot --no-describe --drive 0x80" in shown


def test_ipxe_asks_for_the_scripts_of_its_machine_first() -> None:
    lines = loaders.ipxe_entrance(IPXE, screen(LINUX, title="Menu")).splitlines()
    asked = [line.split()[1] for line in lines if line.startswith("chain")]
    assert asked == [
        "/ipxe/mac-${netX/mac:hexhyp}.ipxe",
        "/ipxe/mac-${net0/mac:hexhyp}.ipxe",
        "/ipxe/uuid-${uuid}.ipxe",
        "/ipxe/serial-${serial}.ipxe",
        "/ipxe/ip-${ip}.ipxe",
    ]
    assert lines.count("#!ipxe") == 1


def test_a_raspberry_pi_without_an_entry_has_an_empty_configuration() -> None:
    assert write("rpi", Screen((), ""), ("rpi",)) == ""
    assert write("rpi", screen(Profile("p", "P", kernel="a/k")), ("rpi",)) == "kernel=k\n"


@pytest.mark.parametrize(
    ("args", "words"),
    [("", []), ("a  b", ["a", "b"]), ('a="b c" d', ["a=b c", "d"]), ('"a b"', ["a b"]), ('a"b', ["ab"])],
)
def test_arguments_are_the_words_that_the_kernel_reads(args: str, words: list[str]) -> None:
    assert words_of(args) == words
