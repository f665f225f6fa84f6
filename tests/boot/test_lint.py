"""What keeps a machine from booting is told before anything is published."""

from __future__ import annotations

import pytest

from appliance.boot import plan as planning
from appliance.boot.layout import Placed
from appliance.boot.lint import Tree, lint, plaintext
from tests.boot.support import LINUX, MAC, resolved
from tests.boot.test_binaries import SHIM, program

SOURCE = "sources: {s: {deb: aa}}\n"
BIOS = "loaders: {bios: {file: pxelinux.0, kind: pxelinux}}\n"
SHIMS = "loaders: {x64-efi: {file: shimx64.efi, kind: shim}}\n"
KERNEL = "{from: s, take: k, to: linux/vmlinuz}, {from: s, take: i, to: linux/initrd}"
FILES = ("pxelinux.0", "ldlinux.c32", "menu.c32", "libutil.c32", "linux/vmlinuz", "linux/initrd")


def tree(*paths: str) -> str:
    takes = ", ".join(f"{{from: s, take: {path}, to: {path}}}" for path in paths)
    return f"{SOURCE}tree: [{takes}]\n"


def told(
    text: str, *hosts: str, files: dict[str, bytes] | None = None, sizes: dict[str, int] | None = None, **secrets: str
) -> list[str]:
    found = resolved(text, *hosts, secrets=tuple(secrets))
    done = planning.plan(found.manifest, found.hosts, secrets, 1000)
    everyone = planning.everyone(found.manifest, found.hosts)
    if files is None:
        return [str(one) for one in lint(Tree(done, everyone, None, lambda _file, _length: b""))]
    placed = [Placed("tftp", path, "s", path, (sizes or {}).get(path, len(data))) for path, data in files.items()]
    return [str(one) for one in lint(Tree(done, everyone, placed, lambda file, length: files[file.path][:length]))]


def test_a_whole_tree_is_no_problem() -> None:
    assert told(tree(*FILES) + BIOS + LINUX) == []
    assert told(tree(*FILES) + BIOS + LINUX, files=dict.fromkeys(FILES, b"x")) == []


@pytest.mark.parametrize("missing", FILES)
def test_each_file_that_is_missing_is_told_before_and_after_fetching(missing: str) -> None:
    text = tree(*FILES) + BIOS + LINUX
    rest = [path for path in FILES if path != missing]
    assert any(f"{missing} is missing" in line for line in told(tree(*rest) + BIOS + LINUX))
    assert any(f"{missing} is missing" in line for line in told(text, files=dict.fromkeys(rest, b"x")))


def test_a_file_that_lies_in_the_root_by_hand_counts() -> None:
    found = resolved(tree(*(path for path in FILES if path != "menu.c32")) + BIOS + LINUX)
    done = planning.plan(found.manifest, found.hosts, {}, 1000)
    assert lint(Tree(done, (), None, lambda _file, _length: b"", lambda path: path == "menu.c32")) == []


def test_a_missing_module_is_told_with_the_package_that_has_it() -> None:
    found = told(tree(*(path for path in FILES if path != "ldlinux.c32")) + BIOS + LINUX)
    assert found == [
        "loaders.bios: ldlinux.c32 is missing: PXELINUX consists of two files "
        "(take it from the Debian package syslinux-common, or name the recipe pxelinux)"
    ]


def test_what_comes_with_a_folder_may_be_there_until_it_was_fetched() -> None:
    text = f"{SOURCE}tree: [{{from: s, take: x/, to: linux/}}, {{from: s, take: /, to: /}}]\n" + BIOS + LINUX
    assert told(text) == []
    text = f"{SOURCE}tree: [{{from: s, take: x/, to: linux/}}]\n" + LINUX
    assert told(text) == []
    assert len(told(text, files={"other": b""})) == 2


def test_a_profile_that_nobody_can_boot_needs_no_files() -> None:
    assert told("profiles: {a: {action: local}, b: {kernel: k}}\nmenu: {entries: [a]}\n") == []


def test_shim_needs_grub_beside_itself() -> None:
    found = told(tree("shimx64.efi", "linux/vmlinuz", "linux/initrd") + SHIMS + LINUX)
    assert len(found) == 1 and "grubx64.efi is missing: shim looks for GRUB beside itself" in found[0]
    assert "name the recipe grub" in found[0]


def secure(shim: bytes, grub: bytes) -> list[str]:
    files = {"shimx64.efi": shim, "grubx64.efi": grub, "linux/vmlinuz": b"", "linux/initrd": b""}
    return told(tree(*files) + SHIMS + LINUX, files=files)


def test_a_grub_that_shim_does_not_trust_or_revokes_is_told() -> None:
    assert secure(SHIM, program(sbat="grub,5,x\n", signed_by="Debian CA")) == []
    (found,) = secure(SHIM, program(sbat="grub,5,x\n", signed_by="Fedora CA"))
    assert "warning: " in found and "signed by Fedora CA, and this shim trusts Debian CA" in found
    (found,) = secure(SHIM, program(sbat="grub,5,x\n"))
    assert "signed by nobody" in found
    (found,) = secure(SHIM, program(sbat="grub,4,x\n", signed_by="Debian CA"))
    assert "grub of generation 4, and this shim lets run 5 and newer" in found


def test_a_shim_without_its_grub_is_told_once() -> None:
    files = {"shimx64.efi": SHIM, "linux/vmlinuz": b"", "linux/initrd": b""}
    assert len(told(tree(*files) + SHIMS + LINUX, files=files)) == 1


@pytest.mark.parametrize(
    ("data", "said"),
    [(program(0xAA64), "shimx64.efi is for arm64-efi"), (b"text", "shimx64.efi is no EFI program"), (program(1), "")],
)
def test_a_loader_for_another_processor_is_told(data: bytes, said: str) -> None:
    found = secure(data, program())
    assert any(said in line for line in found) if said else found == []


def test_a_kernel_for_another_processor_is_told() -> None:
    arm = b"\0" * 0x38 + b"ARM\x64"
    text = tree(*FILES) + BIOS + "profiles: {p: {kernel: linux/vmlinuz, arch: x86_64}}\n"
    (found,) = told(text, files=dict.fromkeys(FILES, b"") | {"linux/vmlinuz": arm})
    assert "linux/vmlinuz is a kernel for arm64, the profile is for x86_64" in found
    i386 = b"\0" * 0x202 + b"HdrS" + b"\0" * 99
    assert told(text, files=dict.fromkeys(FILES, b"") | {"linux/vmlinuz": i386}) == []


def test_a_module_of_another_syslinux_is_told() -> None:
    files = dict.fromkeys(FILES, b"") | {"menu.c32": b"\x7fELF\2"}
    (found,) = told(tree(*FILES) + BIOS + LINUX, files=files)
    assert "menu.c32 is the module of another Syslinux" in found


def test_ipxe_without_a_script_would_load_itself_for_ever() -> None:
    text = (
        tree("undionly.kpxe") + "loaders: {bios: {file: undionly.kpxe, kind: ipxe}}\nprofiles: {p: {action: local}}\n"
    )
    (found,) = told(text)
    assert "it would load itself again and again" in found


def test_a_raspberry_pi_needs_its_firmware_and_its_kernel_in_one_folder() -> None:
    rpi = "loaders: {rpi: {kind: rpi}}\nprofiles: {p: {kernel: k, files: pi/}, q: {kernel: k}, r: {files: pi/}}\n"
    found = told(tree("k") + rpi)
    assert sum("pi/start4.elf is missing" in line for line in found) == 2
    assert sum("k is not in pi/" in line for line in found) == 1
    good = rpi.replace("kernel: k, files", "kernel: pi/k, files")
    assert told(tree("k", "pi/k", "pi/start.elf") + good) == []


def test_a_chain_that_is_not_there_is_told() -> None:
    text = tree("a") + "profiles: {p: {chain: {bios: a, x64-efi: b}}}\n"
    (found,) = told(text)
    assert "profiles.p: b is missing: the profile p hands over to it" in found


def test_a_device_tree_that_is_not_there_is_told() -> None:
    (found,) = told(tree("k") + "profiles: {p: {kernel: k, fdt: x.dtb}, q: {kernel: k, fdt: dtbs/}}\n")
    assert "x.dtb is missing" in found


def test_a_machine_that_no_loader_asks_for_is_told() -> None:
    text = tree(*FILES) + BIOS + LINUX
    (found,) = told(text + "machines: {m: {serial: x, profile: linux}}\n")
    assert "machines.m: nothing can be rendered for it: pxelinux asks for nothing it is known by" in found
    (found,) = told(text, f"machines: {{m: {{mac: '{MAC}', arch: rpi, profile: linux}}}}")
    assert "no loader asks for nothing" in found
    assert (
        told(text.replace("profiles: {", "profiles: {n: {action: none}, ") + "machines: {m: {serial: x, profile: n}}\n")
        == []
    )


def test_two_machines_with_one_path_for_different_files_are_told() -> None:
    text = (
        "files: [{path: one.cfg, template: t}]\ntemplates: {t: {text: '{{ machine.name }}'}}\n"
        "machines: {a: {ip: 10.0.0.1}, b: {ip: 10.0.0.2}}\n"
    )
    (found,) = told(text)
    assert "machines.b: tftp:one.cfg is another file for a" in found
    assert told(text.replace("'{{ machine.name }}'", "same")) == []


HASH = "$6$salt$" + "x" * 20


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("d-i passwd/root-password password geheim", "preseed"),
        ("d-i passwd/user-password-again password geheim", "preseed"),
        ("d-i passwd/user-password-crypted password geheim", "preseed"),
        (f"d-i passwd/user-password-crypted password {HASH}", ""),
        ("d-i passwd/user-password-crypted password !", ""),
        ("d-i passwd/root-login boolean false", ""),
        ("rootpw geheim", "kickstart"),
        ("rootpw --plaintext geheim", "kickstart"),
        ("rootpw --iscrypted geheim", "kickstart"),
        (f"rootpw --iscrypted {HASH}", ""),
        (f"rootpw --iscrypted '{HASH}'", ""),
        ("rootpw --lock", ""),
        ("user --name=a --password=geheim", "kickstart"),
        (f"user --name=a --iscrypted --password={HASH}", ""),
        ("    password: geheim", "autoinstall"),
        (f'    password: "{HASH}"', ""),
        ("  plain_text_passwd: geheim", "cloud-init"),
        (f"  passwd: {HASH}", ""),
        ("<user_password>geheim</user_password>", "AutoYaST"),
        (f"<user_password>{HASH}</user_password>", ""),
        ("no password here", ""),
    ],
)
def test_a_password_in_the_clear_is_told_and_a_hash_passes(text: str, kind: str) -> None:
    assert plaintext(f"first line\n{text}\nlast line\n") == kind


def test_no_password_is_repeated_when_it_is_told() -> None:
    text = (
        "files: [{path: ks.cfg, template: t}]\ntemplates: {t: {text: 'rootpw geheim'}}\nmachines: {a: {ip: 10.0.0.1}}\n"
    )
    (found,) = told(text)
    assert "machines.a: ks.cfg has a password in the clear (kickstart)" in found and "geheim" not in found


def test_a_secret_that_is_no_hash_is_told_while_a_machine_is_armed() -> None:
    text = (
        tree(*FILES) + BIOS + "profiles: {p: {kernel: linux/vmlinuz, answers: {ks.cfg: {template: t}}}}\n"
        "templates: {t: {text: 'rootpw --iscrypted {{ secret.root }}'}}\n"
    )
    host = f"machines: {{m: {{mac: '{MAC}', once: {{profile: p, until: 2000, id: x}}}}}}"
    (found,) = told(text, host, root="geheim")
    assert "in the clear" in found and "geheim" not in found
    assert told(text, host, root=HASH) == []


def test_files_of_more_blocks_than_are_counted_are_told() -> None:
    files = dict.fromkeys(FILES, b"")
    at, beyond = 65535 * 1408, 65535 * 1408 + 1
    assert told(tree(*FILES) + BIOS + LINUX, files=files, sizes={"linux/initrd": at}) == []
    (found,) = told(tree(*FILES) + BIOS + LINUX, files=files, sizes={"linux/initrd": beyond})
    assert "warning: " in found and "linux/initrd, 88 MiB: more than 65535 blocks for pxelinux" in found
    shims = {"shimx64.efi": SHIM, "grubx64.efi": program(sbat="grub,5,x\n", signed_by="Debian CA"), **files}
    (found,) = told(tree(*shims) + SHIMS + LINUX, files=shims, sizes={"grubx64.efi": 40 << 20})
    assert "grubx64.efi, 40 MiB: more than 65535 blocks for shim" in found


@pytest.mark.parametrize(("ram", "count"), [("256MiB", 1), ("512MiB", 0), ("nonsense", 0)])
def test_a_machine_with_too_little_memory_is_told(ram: str, count: int) -> None:
    text = tree(*FILES) + BIOS + "profiles: {p: {kernel: linux/vmlinuz, memory: 512MiB}}\n"
    found = told(text + f"machines: {{m: {{mac: '{MAC}', profile: p, vars: {{ram: {ram}}}}}, n: {{ip: 10.0.0.1}}}}\n")
    assert len(found) == count
    assert all("p needs 512 MiB of memory, the machine has 256 MiB" in line for line in found)


def test_errors_stand_before_warnings() -> None:
    files = {"shimx64.efi": SHIM, "grubx64.efi": program(), "linux/initrd": b""}
    found = told(tree("linux/vmlinuz", *files) + SHIMS + LINUX, files=files)
    assert ["warning" in line for line in found] == [False, True]


def test_what_dhcp_tells_machines_has_to_be_there() -> None:
    found = resolved(tree(*FILES) + BIOS + LINUX)
    done = planning.plan(found.manifest, found.hosts, {}, 1000)
    tell = {"bios": "undionly.kpxe", "x64_efi": "shimx64.efi", "uboot": "boot.scr.uimg"}

    def told_of(files: dict[str, str]) -> list[str]:
        return [str(one) for one in lint(Tree(done, (), None, lambda _file, _length: b"", told=files))]

    assert told_of(tell) == [
        "warning: boot.dhcp_server.files.bios: machines of the kind bios are told to load undionly.kpxe, which is not "
        "there (write bios: pxelinux.0 there)",
        "warning: boot.dhcp_server.files.x64_efi: machines of the kind x64_efi are told to load shimx64.efi, which is "
        "not there (write x64_efi: null there, or take a recipe that has the file)",
    ]
    assert told_of({"bios": "pxelinux.0"}) == []


def test_halves_of_pxelinux_of_two_versions_are_told() -> None:
    text = "sources: {s: {deb: aa}, t: {deb: bb}}\n" + tree(*FILES).removeprefix(SOURCE) + BIOS + LINUX
    found = resolved(text)
    done = planning.plan(found.manifest, found.hosts, {}, 1000)
    placed = [Placed("tftp", path, "t" if path == "ldlinux.c32" else "s", path, 1) for path in FILES]

    def told_of(one: str, other: str) -> list[str]:
        origins = {"s": one, "t": other}
        return [str(line) for line in lint(Tree(done, (), placed, lambda _file, _length: b"x", origins=origins))]

    old, new = "deb:pxelinux_3%3a6.03-1_all.deb", "deb:syslinux-common_3%3a6.04-3+b1_amd64.deb"
    (said,) = told_of(old, new)
    assert said.startswith("warning: loaders.bios: pxelinux.0 is of Syslinux 3:6.03-1, ldlinux.c32 of 3:6.04-3: they")
    assert told_of("deb:pxelinux_3%3a6.04-3_all.deb", new) == [] == told_of("file:/x", new)
