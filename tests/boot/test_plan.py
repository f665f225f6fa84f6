"""From a manifest to what is published and rendered: which machine finds what under which name."""

from __future__ import annotations

import json

import pytest

from appliance.boot import plan
from appliance.boot.model import Alias, Manifest, Plan
from appliance.settings.plain import decode, encode
from tests.boot.support import ALL, LINUX, MAC, planned, rendered, resolved, unplanned

DASHED = MAC.replace(":", "-")
ANSWERS = """\
profiles:
  linux: {title: Linux, kernel: linux/vmlinuz, initrd: linux/initrd, args: "host={{ machine.name }}"}
  install:
    inherit: linux
    answers: {"answers/{{ machine.name }}.cfg": {template: answer}}
templates: {answer: {text: "name {{ machine.name }}\\npassword {{ secret.root }}\\n"}}
"""


def machine(name: str = "m", **more: str) -> str:
    given = "".join(f", {key}: {value}" for key, value in more.items())
    return f"machines: {{{name}: {{mac: '{MAC}'{given}}}}}\n"


def test_a_plan_survives_json() -> None:
    host = machine("h", profile="linux", once="{profile: install, until: 2000, id: x}").replace(
        MAC, "52:54:00:00:00:01"
    )
    done = planned(ALL + ANSWERS + machine(profile="install"), host, secrets={"root": "$6$x"})
    assert decode(Plan, json.loads(json.dumps(encode(done)))) == done
    assert done.overlay.once and done.overlay.machines


def test_a_machine_of_unknown_architecture_is_found_by_every_loader() -> None:
    done = planned(ALL + LINUX + machine(profile="linux"))
    (owned,) = done.overlay.machines
    assert owned.configs == (f"pxelinux.cfg/01-{DASHED}", f"grub/grub.cfg-01-{DASHED}", f"ipxe/mac-{DASHED}.ipxe")
    assert owned.loads == ("linux/vmlinuz", "linux/initrd")
    assert (owned.key, owned.profile, owned.once) == ("m", "linux", None)


@pytest.mark.parametrize(
    ("arch", "configs"),
    [("bios", ("pxelinux.cfg/01-",)), ("x64-efi", ("grub/grub.cfg-01-",)), ("arm64-efi", ())],
)
def test_a_machine_of_known_architecture_has_the_files_of_its_loader_only(arch: str, configs: tuple[str, ...]) -> None:
    done = planned(ALL + LINUX + machine(profile="linux", arch=arch))
    assert done.overlay.machines[0].configs == tuple(f"{start}{DASHED}" for start in configs)


TWO = """\
loaders: {bios: {file: pxelinux.0, kind: pxelinux}, arm64-uboot: {kind: uboot}}
profiles:
  pc: {title: PC, arch: x86_64, kernel: pc/linux}
  board: {title: Board, arch: arm64, kernel: board/linux}
  disk: {title: Disk, action: local}
"""


@pytest.mark.parametrize(
    ("profile", "says"), [("pc", "KERNEL ::pc/linux"), ("board", "kernel board/linux"), ("disk", "LOCALBOOT 0")]
)
def test_names_that_pxelinux_and_u_boot_ask_for_belong_to_who_can_start_the_profile(profile: str, says: str) -> None:
    """A PC whose manifest also had the recipe for boards stopped at a configuration without an entry."""
    done = planned(TWO + machine(profile=profile))
    (owned,) = done.overlay.machines
    assert owned.configs == (f"pxelinux.cfg/01-{DASHED}",)
    assert says in owned.files[0].text and len(owned.files) == 1
    group = f"groups: [{{name: g, match: {{net: 192.0.2.0/24}}, profile: {profile}}}]\n"
    (file,) = (file for file in planned(TWO + group).files if file.path == "pxelinux.cfg/C00002")
    assert says in file.text


def test_a_machine_whose_firmware_gets_ipxe_has_an_ipxe_script() -> None:
    text = "loaders: {bios: {file: undionly.kpxe, kind: ipxe}, ipxe: {file: boot.ipxe, kind: ipxe}}\n"
    done = planned(text + LINUX + machine(profile="linux", arch="bios"))
    assert done.overlay.machines[0].configs == (f"ipxe/mac-{DASHED}.ipxe",)


def test_a_machine_that_nothing_is_said_about_has_no_files_and_sees_the_menu() -> None:
    done = planned(ALL + LINUX + machine())
    assert (done.overlay.machines[0].files, done.overlay.machines[0].profile) == ((), "")
    assert [file.path for file in done.files] == ["pxelinux.cfg/default", "grub/grub.cfg", "boot.ipxe"]
    assert "LABEL linux" in done.files[0].text


def test_the_closest_profile_wins_and_a_group_gives_what_a_machine_does_not_say() -> None:
    text = ALL + (
        "profiles: {a: {action: local}, b: {action: local}, c: {action: local}}\ndefault: c\n"
        "groups: [{name: g, match: {mac: '52:54:00'}, profile: b}]\n"
        "machines:\n  own: {mac: 52:54:00:00:00:01, profile: a}\n  grouped: {mac: 52:54:00:00:00:02}\n"
        "  other: {ip: 10.0.0.1}\n"
    )
    assert [(one.key, one.profile) for one in planned(text).overlay.machines] == [
        ("own", "a"),
        ("grouped", "b"),
        ("other", "c"),
    ]


def test_variables_come_from_the_closest_place() -> None:
    text = ALL + (
        "vars: {a: 1, b: 1, c: 1, d: 1}\n"
        'profiles: {p: {kernel: k, args: "{{ a }}{{ b }}{{ c }}{{ d }}", vars: {b: 2, c: 2, d: 2}}}\n'
        "groups: [{name: g, match: {mac: '52:54:00'}, profile: p, vars: {c: 3, d: 3}}]\n"
        f"machines: {{m: {{mac: '{MAC}', vars: {{d: 4}}}}}}\n"
    )
    # the menu's entry has the profile's
    assert "APPEND 1222" in planned(text).files[0].text
    assert "APPEND 1234" in rendered(planned(text).overlay)[f"tftp:pxelinux.cfg/01-{DASHED}"]


def test_a_secret_is_rendered_only_while_the_machine_is_armed() -> None:
    host = machine("h", profile="linux", once="{profile: install, until: 2000, id: x}")
    done = planned(ALL + ANSWERS, host, secrets={"root": "$6$geheim"}, now=1999)
    assert rendered(done.overlay, once=True)["ftp:answers/h.cfg"] == "name h\npassword $6$geheim\n"
    (armed,) = done.overlay.once
    assert (armed.key, armed.profile, armed.once and armed.once.id) == ("h", "install", "x")
    assert armed.configs == done.overlay.machines[0].configs
    without = json.dumps(encode((done.manifest, done.files, done.overlay.machines, done.sources, done.takes)))
    assert "geheim" not in without


def test_an_armed_machine_has_a_file_by_which_its_installer_says_that_it_is_done() -> None:
    text = ALL + ANSWERS.replace("inherit: linux", 'inherit: linux\n    confirm: "done/{{ machine.name }}"')
    host = machine("h", profile="linux", once="{profile: install, until: 2000, id: x}")
    done = planned(text, host, secrets={"root": "x"})
    (armed,) = done.overlay.once
    assert armed.confirm == "done/h"
    files = rendered(done.overlay, once=True)
    assert files["tftp:done/h"] == files["ftp:done/h"] == "done\n"
    assert done.overlay.machines[0].confirm == "" and "tftp:done/h" not in rendered(done.overlay)
    wrong = text.replace("done/{{ machine.name }}", "{{ nothing }}/{{ machine.name }}")
    assert (
        "template confirm of install, its path: 'nothing' is undefined"
        in unplanned(wrong, host, secrets={"root": "x"})[0]
    )


def test_an_arming_ends_with_its_time() -> None:
    host = machine("h", profile="linux", once="{profile: install, until: 2000, id: x}")
    assert planned(ALL + ANSWERS, host, secrets={"root": "x"}, now=2000).overlay.once == ()


def test_a_template_with_a_secret_waits_for_the_arming_also_in_a_profile_that_is_always_there() -> None:
    done = planned(ALL + ANSWERS + machine(profile="install"), secrets={"root": "x"})
    assert [file.path for file in done.overlay.machines[0].files if "answers" in file.path] == []


def test_an_unknown_secret_is_told_without_any_value() -> None:
    host = machine("h", profile="linux", once="{profile: install, until: 2000, id: x}")
    found = unplanned(ALL + ANSWERS, host, secrets={"other": "geheim"})
    assert len(found) == 1 and "has no attribute 'root'" in found[0] and "geheim" not in found[0]
    assert found[0].startswith("hosts.d/0.yaml:1:1: machines.h: ")


def test_a_command_line_never_holds_a_secret() -> None:
    text = ALL + 'profiles: {p: {kernel: k, args: "x={{ secret.root }}"}}\nmenu: {entries: [p]}\n'
    assert planned(text.replace("menu", "vars")).manifest.menu.entries == ()
    found = unplanned(text, secrets={"root": "geheim"})
    assert len(found) == 1 and "args of p: a secret in a command line" in found[0] and "geheim" not in found[0]


def test_every_file_that_cannot_be_rendered_is_told_once_with_the_first_machine() -> None:
    many = "".join(f"  m{i}: {{mac: '52:54:00:00:00:{i:02x}', profile: linux}}\n" for i in range(5))
    text = ALL + 'profiles: {linux: {kernel: k, args: "{{ gone }}"}, x: {kernel: k, args: "a${b}"}}\n'
    found = unplanned(text + "menu: {entries: [x]}\nmachines:\n" + many)
    assert len(found) == 2
    assert "args of x: ${ is a command to a loader" in found[0] and "profiles.x" in found[0]
    assert "args of linux: 'gone' is undefined" in found[1] and "machines.m0" in found[1]


def test_beyond_a_hundred_the_rest_is_counted() -> None:
    many = "".join(f"  p{i}: {{kernel: k, args: '{{{{ gone{i} }}}}'}}\n" for i in range(130))
    found = unplanned(ALL + "profiles:\n" + many)
    assert len(found) == 101 and found[-1] == "30 more problems (mend these first)"


def test_a_path_that_a_value_leads_out_of_the_tree_is_refused() -> None:
    text = (
        'files: [{path: "cfg/{{ machine.serial }}", template: t}]\ntemplates: {t: {text: "x {{ server }}"}}\n'
        "server: h.lan\nmachines: {m: {serial: ../../x}}\n"
    )
    assert "template t: its path: cfg/../../x is not a plain path" in unplanned(text)[0]


def test_a_files_rule_is_for_machines_that_fit_whatever_they_boot() -> None:
    text = (
        'files: [{path: "SEP{{ machine.mac_plain | upper }}.cnf.xml", template: t, '
        "match: {labels: {kind: phone}}, in: both}]\n"
        'templates: {t: {text: "<n>{{ machine.labels.owner }}</n>"}}\n'
        f"machines:\n  a: {{mac: '{MAC}', labels: {{kind: phone, owner: 'A & B'}}}}\n  b: {{ip: 10.0.0.1}}\n"
    )
    done = rendered(planned(text).overlay)
    assert done == {f"{root}:SEP525400123456.cnf.xml": "<n>A &amp; B</n>" for root in ("tftp", "ftp")}


def test_a_profile_of_action_none_leaves_the_loaders_to_the_rules() -> None:
    text = ALL + "profiles: {p: {action: none}}\n" + machine(profile="p")
    owned = planned(text).overlay.machines[0]
    assert (owned.files, owned.configs, owned.loads, owned.profile) == ((), (), (), "p")


def test_a_chain_loads_the_file_of_the_architecture() -> None:
    text = ALL + "profiles: {p: {chain: {bios: a.bin, x64-efi: a.efi}, args: x}}\n"
    assert planned(text + machine(profile="p", arch="x64-efi")).overlay.machines[0].loads == ("a.efi",)
    assert planned(text + machine(profile="p", arch="bios")).overlay.machines[0].loads == ("a.bin",)
    assert planned(text + machine(profile="p", arch="rpi")).overlay.machines[0].loads == ()
    assert planned(text + machine(profile="p")).overlay.machines[0].loads == ("a.bin",)


def test_a_raspberry_pi_has_everything_below_its_own_prefix() -> None:
    text = (
        "loaders: {rpi: {kind: rpi}}\nmenu: {serial: true}\n"
        "profiles: {p: {kernel: pi/kernel8.img, initrd: pi/initrd, files: pi/, args: 'console=serial0', arch: arm64}}\n"
        "machines:\n  a: {serial: 10000000ABCDEF12, arch: rpi, profile: p}\n"
        "  b: {mac: dc:a6:32:00:00:01, arch: rpi, profile: p}\n"
    )
    first, second = planned(text).overlay.machines
    assert {file.path: file.text for file in first.files} == {
        "abcdef12/config.txt": "arm_64bit=1\nkernel=kernel8.img\ninitramfs initrd followkernel\nenable_uart=1\n",
        "abcdef12/cmdline.txt": "console=serial0\n",
    }
    assert first.aliases == (Alias("tftp", "abcdef12/", "pi/"),)
    assert second.configs == ("dc-a6-32-00-00-01/config.txt", "dc-a6-32-00-00-01/cmdline.txt")


def test_a_raspberry_pi_without_files_of_its_own_has_no_alias() -> None:
    text = "loaders: {rpi: {kind: rpi}}\nprofiles: {p: {kernel: k}}\n"
    text += "machines: {a: {serial: abcdef12, arch: rpi, profile: p}}\n"
    assert planned(text).overlay.machines[0].aliases == ()


def test_a_group_of_a_network_is_served_to_machines_that_are_known_by_nothing_else() -> None:
    text = ALL + LINUX + (
        "groups:\n"
        "  - {name: lab, match: {net: [10.77.0.0/16, 10.78.4.0/22, '2001:db8::/32']}, profile: linux}\n"
        "  - {name: some, match: {net: 10.79.0.0/16, mac: '52:54'}, profile: linux}\n"
        "  - {name: vars, match: {net: 10.80.0.0/16}, vars: {a: 1}}\n"
    )  # fmt: skip
    paths = [file.path for file in planned(text).files]
    assert [path for path in paths if path.startswith("pxelinux.cfg/0")] == [
        "pxelinux.cfg/0A4D",
        "pxelinux.cfg/0A4E04",
        "pxelinux.cfg/0A4E05",
        "pxelinux.cfg/0A4E06",
        "pxelinux.cfg/0A4E07",
    ]
    assert "grub/grub.cfg-0A4D" in paths


def test_a_group_whose_profile_needs_a_machine_is_not_served_to_a_network() -> None:
    text = (
        ALL
        + ANSWERS
        + "groups: [{name: lab, match: {net: 10.77.0.0/16}, profile: install}]\nmenu: {entries: [install]}\n"
    )
    assert [file.path for file in planned(text).files if "0A4D" in file.path] == []


def test_a_default_stands_in_the_menu_and_waits_only_shortly() -> None:
    text = ALL + "profiles: {a: {action: local}, b: {action: local}}\ndefault: b\nmenu: {entries: [a]}\n"
    assert "TIMEOUT 50" in planned(text).files[0].text
    assert "ONTIMEOUT b" in planned(text).files[0].text
    assert "TIMEOUT 300" in planned(ALL + LINUX).files[0].text


def test_only_sources_that_are_taken_from_are_fetched() -> None:
    text = "sources: {s: {deb: aa}, t: {deb: bb}}\ntree: [{from: t, take: a, to: c}]\n"
    done = planned(text)
    assert [source.name for source in done.sources] == ["t"]
    assert [source.name for source in done.manifest.sources] == ["s", "t"]


def test_an_older_release_is_rendered_for_the_machines_of_today() -> None:
    old = resolved(ALL + LINUX + machine("m", profile="linux"))
    stored = decode(Manifest, json.loads(json.dumps(encode(old.manifest))))
    today = resolved("", machine("m", ip="10.0.0.1"), "machines: {n: {mac: 52:54:00:00:00:09}}").hosts
    made = plan.overlay(stored, today, {}, 1000)
    assert [(one.key, one.profile) for one in made.machines] == [("m", ""), ("n", "")]


def test_a_machine_whose_profile_an_older_release_has_not_is_told_and_gets_the_menu() -> None:
    stored = resolved(ALL + LINUX).manifest
    today = resolved(LINUX.replace("linux:", "newer:"), machine("h", profile="newer")).hosts
    made = plan.overlay(stored, today, {}, 1000)
    assert made.warnings == ("h: this release has no profile newer",)
    assert (made.machines[0].profile, made.machines[0].files) == ("", ())
    armed = machine("h", profile="linux", once="{profile: newer, until: 2000, id: x}")
    today = resolved("profiles: {newer: {kernel: k}, linux: {kernel: k}}", armed).hosts
    made = plan.overlay(stored, today, {}, 1000)
    assert (made.warnings, made.once) == (("h: this release has no profile newer",), ())


def test_two_names_of_one_machine_share_their_text() -> None:
    text = ALL + LINUX + "machines: {m: {mac: [52:54:00:00:00:01, 52:54:00:00:00:02], profile: linux, arch: bios}}\n"
    first, second = planned(text).overlay.machines[0].files
    assert (first.text, first.data) == (second.text, second.text.encode())
