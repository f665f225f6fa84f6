"""What a machine will ask for, in which order, and what comes of it."""

from __future__ import annotations

from appliance.boot import names
from appliance.boot import plan as planning
from appliance.boot.explain import Explanation, Way, explain
from appliance.boot.model import Machine
from tests.boot.support import ALL, LINUX, MAC, resolved

UUID = "4c4c4544-0043-3510-8052-b4c04f4e3732"
DASHED = MAC.replace(":", "-")
TREE = (
    "sources: {s: {deb: aa}}\ntree: [{from: s, take: k, to: linux/vmlinuz}, {from: s, take: d/, to: d/}, "
    + ", ".join(
        f"{{from: s, take: {name}, to: {name}}}"
        for name in (
            "pxelinux.0",
            "ldlinux.c32",
            "menu.c32",
            "libutil.c32",
            "shimx64.efi",
            "grubx64.efi",
            "linux/initrd",
        )
    )
    + "]\n"
)


def told(
    text: str,
    machine: Machine | str,
    *hosts: str,
    arch: str = "",
    by_hand: str = "",
    dhcp: dict[str, str] | None = None,
) -> Explanation:
    found = resolved(text, *hosts)
    done = planning.plan(found.manifest, found.hosts, {}, 1000)
    everyone = {one.name: one for one in planning.everyone(found.manifest, found.hosts)}
    who = everyone[machine] if isinstance(machine, str) else machine
    return explain(done, who, arch, lambda path: "by hand" if path == by_hand else "", told=dhcp)


def way(text: str, machine: Machine | str, *hosts: str, arch: str = "bios", by_hand: str = "") -> Way:
    (found,) = told(text, machine, *hosts, arch=arch, by_hand=by_hand).ways
    return found


def lines(found: Way) -> list[str]:
    return [f"{step.state} {step.ask.path}" for step in found.steps]


HOST = f"machines: {{m: {{mac: '{MAC}', ip: 10.77.0.101, uuid: {UUID}, profile: linux}}}}\n"


def test_pxelinux_stops_at_the_first_configuration_that_is_there() -> None:
    found = way(TREE + ALL + LINUX + HOST, "m")
    assert lines(found) == [
        "hit pxelinux.0",
        "hit ldlinux.c32",
        f"hit pxelinux.cfg/{UUID}",
        "hit linux/vmlinuz",
        "hit linux/initrd",
    ]
    assert (found.boots, found.ends) == (True, "boots linux")
    assert [step.found for step in found.steps][1:3] == ["from s", "rendered for m"]


def test_a_stranger_shrinks_its_address_and_sees_the_menu() -> None:
    found = way(TREE + ALL + LINUX, Machine("", (MAC,), ip="10.77.0.101"))
    assert lines(found)[2:] == [
        f"passed pxelinux.cfg/01-{DASHED}",
        *(f"passed pxelinux.cfg/{'0A4D0065'[:digits]}" for digits in range(8, 0, -1)),
        "hit pxelinux.cfg/default",
        "hit menu.c32",
        "hit libutil.c32",
    ]
    assert found.ends == "shows the menu"


def test_a_stranger_of_a_network_boots_what_its_group_says() -> None:
    text = TREE + ALL + LINUX + "groups: [{name: g, match: {net: 10.77.0.0/16}, profile: linux}]\n"
    found = told(text, Machine("", ip="10.77.0.5"), arch="bios")
    assert found.choice.rule == "groups.g"
    assert "hit pxelinux.cfg/0A4D" in lines(found.ways[0]) and found.ways[0].ends == "boots linux"
    assert told(text, Machine("", ip="10.78.0.5")).choice.rule == "menu: nobody wrote this machine down"


def test_shim_and_a_signed_grub_ask_as_they_were_seen_to() -> None:
    found = way(TREE + ALL + LINUX + HOST, "m", arch="x64-efi")
    assert lines(found) == [
        "hit shimx64.efi",
        "passed revocations_sku.efi",
        "passed revocations_sbat.efi",
        "passed shim_certificate_0.efi",
        "hit grubx64.efi",
        *(f"passed grub/x86_64-efi/{name}.lst" for name in ("command", "fs", "crypto", "terminal")),
        "hit grub/grub.cfg",
        f"hit grub/grub.cfg-01-{DASHED}",
        "hit linux/vmlinuz",
        "hit linux/initrd",
    ]


def test_a_missing_grub_beside_shim_is_the_end_and_said_in_words() -> None:
    found = way(TREE.replace("to: grubx64.efi", "to: grub.efi") + ALL + LINUX + HOST, "m", arch="x64-efi")
    assert (lines(found)[-1], found.boots) == ("miss grubx64.efi", False)
    assert found.ends.startswith("stops: grubx64.efi is missing (shim looks for GRUB beside itself)")


def test_a_file_that_lies_in_the_root_by_hand_counts() -> None:
    found = way(TREE.replace("to: pxelinux.0", "to: other") + ALL + LINUX + HOST, "m", by_hand="pxelinux.0")
    assert found.steps[0].found == "by hand" and found.boots


def test_an_unsigned_grub_looks_for_its_machine_itself() -> None:
    text = TREE.replace("shimx64.efi", "core.efi") + "loaders: {x64-efi: {file: core.efi, kind: grub}}\n" + LINUX
    host = "machines: {m: {ip: 10.77.0.101, profile: linux}}\n"
    assert lines(way(text + host, "m", arch="x64-efi"))[1:2] == ["hit grub/grub.cfg-0A4D0065"]
    assert lines(way(text, Machine("", (MAC,)), arch="x64-efi"))[1] == f"passed grub/grub.cfg-01-{DASHED}"
    found = lines(way(text, Machine("", ip="10.77.0.101"), arch="x64-efi"))
    assert found[1:9] == [f"passed grub/grub.cfg-{'0A4D0065'[:n]}" for n in range(8, 0, -1)]
    assert found[-1] == "hit grub/grub.cfg"


def test_a_machine_known_by_its_uuid_is_found_by_a_signed_grub() -> None:
    host = f"machines: {{m: {{uuid: {UUID}, profile: linux}}}}\n"
    assert f"hit grub/uuid-{UUID}.cfg" in lines(way(TREE + ALL + LINUX + host, "m", arch="x64-efi"))


def test_ipxe_asks_again_and_gets_its_script() -> None:
    text = TREE + "loaders: {bios: {file: pxelinux.0, kind: ipxe}, ipxe: {file: boot.ipxe, kind: ipxe}}\n" + LINUX
    assert lines(way(text + HOST, "m")) == [
        "hit pxelinux.0",
        "hit boot.ipxe",
        f"hit ipxe/mac-{DASHED}.ipxe",
        "hit linux/vmlinuz",
        "hit linux/initrd",
    ]
    nothing = text.replace(", ipxe: {file: boot.ipxe, kind: ipxe}", "")
    assert lines(way(nothing, Machine("", (MAC,)))) == ["hit pxelinux.0"]
    same = "loaders: {bios: {file: boot.ipxe, kind: ipxe}, ipxe: {file: boot.ipxe, kind: ipxe}}\n"
    assert lines(way(TREE + same + LINUX, Machine("", ip="10.0.0.1"))) == [
        "hit boot.ipxe",
        "passed ipxe/ip-10.0.0.1.ipxe",
    ]


def test_u_boot_falls_back_to_what_is_for_arm() -> None:
    text = TREE + "loaders: {arm64-uboot: {kind: uboot}}\n" + LINUX
    assert lines(way(text, Machine("", (MAC,)), arch="arm64-uboot")) == [
        f"passed pxelinux.cfg/01-{DASHED}",
        "hit pxelinux.cfg/default-arm",
    ]


def test_a_raspberry_pi_finds_its_firmware_below_its_own_prefix() -> None:
    text = (
        "sources: {s: {deb: aa}}\ntree: [{from: s, take: f/, to: pi/}]\nloaders: {rpi: {kind: rpi}}\n"
        "profiles: {p: {kernel: pi/kernel8.img, files: pi/}}\n"
        "machines: {m: {serial: 10000000abcdef12, arch: rpi, profile: p}}\n"
    )
    found = way(text, "m", arch="rpi")
    assert lines(found) == [
        "hit abcdef12/start4.elf",
        "hit abcdef12/config.txt",
        "hit abcdef12/cmdline.txt",
        "hit pi/kernel8.img",
    ]
    assert found.steps[0].found == "from s, if it is in f/"
    stranger = way(text, Machine("", ip="10.0.0.1"), arch="rpi")
    assert lines(stranger) == ["passed start4.elf", "passed start.elf"]


def test_an_armed_machine_is_explained_as_armed() -> None:
    host = f"machines: {{m: {{mac: '{MAC}', profile: disk, once: {{profile: linux, until: 2000, id: x}}}}}}"
    found = told(TREE + ALL + LINUX.replace("}}", "}, disk: {action: local}}"), "m", host, arch="bios")
    assert (found.armed, found.choice.rule, found.ways[0].ends) == (True, "machines.m.once", "boots linux")
    assert "rendered for m, armed" in {step.found for step in found.ways[0].steps}


def test_every_way_that_a_machine_may_come_is_told() -> None:
    assert [one.arch for one in told(TREE + ALL + LINUX + HOST, "m").ways] == ["bios", "x64-efi"]
    assert told("profiles: {p: {action: local}}\n", Machine("", ip="10.0.0.1")).ways == ()


def test_what_a_profile_does_is_said_in_words() -> None:
    profiles = (
        "profiles: {disk: {action: local}, none: {action: none}, other: {title: Other, experimental: never tried, "
    )
    profiles += "chain: {bios: d/x}}}\n"
    said = {}
    for name in ("disk", "none", "other"):
        said[name] = way(TREE + ALL + profiles + HOST.replace("linux", name), "m").ends
    assert said == {
        "disk": "goes on to its own disk",
        "none": "gets what files: renders for it",
        "other": "boots Other (experimental: never tried)",
    }
    assert lines(way(TREE + ALL + profiles + HOST.replace("linux", "other"), "m"))[-1] == "hit d/x"
    assert "d/x" not in str(lines(way(TREE + ALL + profiles + HOST.replace("linux", "other"), "m", arch="x64-efi")))


def test_a_folder_that_is_the_whole_tree_may_have_anything() -> None:
    text = "sources: {s: {deb: aa}}\ntree: [{from: s, take: /, to: /}]\n" + ALL + LINUX + HOST
    assert way(text, "m").steps[0].found == "from s, if it is in /"


def test_what_our_own_dhcp_service_tells_is_where_a_machine_begins() -> None:
    files = {"bios": "pxelinux.0", "x64_efi": "d/snponly.efi", "uboot": "boot.scr.uimg", "ipxe": "boot.ipxe"}
    found = told(TREE + ALL + LINUX + HOST, "m", dhcp=files)
    assert [(one.arch, one.loader, one.boots) for one in found.ways] == [
        ("bios", "pxelinux.0", True),
        ("x64-efi", "d/snponly.efi", True),
    ]
    assert lines(found.ways[1]) == [
        "hit d/snponly.efi",
        "hit boot.ipxe",
        f"hit ipxe/mac-{DASHED}.ipxe",
        "hit linux/vmlinuz",
        "hit linux/initrd",
    ]


def test_a_loader_that_dhcp_names_is_known_by_its_name() -> None:
    board = "loaders: {arm64-uboot: {kind: uboot}}\n"
    for name, kind, prefix in (
        ("x/grub-net.efi", "grub", "grub"),
        ("shimx64.efi", "shim", "grub"),
        ("own.efi", "ipxe", "ipxe"),
    ):
        given = "loaders: {x64-efi: {file: a.efi, kind: ipxe}, arm64-efi: {file: s.efi, kind: shim, prefix: grub/}}\n"
        own = resolved(given).manifest.loaders
        (found,) = names.as_told(own, {"x64_efi": name})
        assert (found.file, found.kind, found.prefix) == (name, kind, prefix)
    (uboot, other) = names.as_told(resolved(board).manifest.loaders, {"bios": "what.ever", "uboot": "boot.scr.uimg"})
    assert (uboot.kind, other.arch, other.kind, other.prefix) == ("uboot", "bios", "ipxe", "")
