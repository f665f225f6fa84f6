"""Answer files of the catalogue's recipes, and files of phones, switches and WinPE, read as their readers read them.

A value may hold whatever an operator or an imported list writes: it stays one value of the file.
"""

from __future__ import annotations

import shlex
import xml.etree.ElementTree as ET

import pytest
import yaml

from tests.boot.support import planned, rendered, unplanned

HASH = "$6$rounds=5000$salt/salt.$abcDEF123./"
NASTY = ("a b; $(reboot)", 'it\'s "quoted"', "<x>&amp;]]>", "x: y # z", "- {a: 1}", "*alias &anchor", "%end", "ü €")
BASE = "server: 192.0.2.1\nrecipes: [pxelinux, {recipe}]\ndefault: {profile}\n"
HOST = (
    "machines: {{web1: {{mac: 52:54:00:12:34:56, arch: bios, profile: {profile}, vars: {{user: {user}}}, "
    "once: {{profile: {profile}-auto, until: 99999, id: x}}}}}}"
)


def texts(profile: str, user: str) -> tuple[str, str]:
    """A manifest and a file of hosts.d."""
    recipe = {"opensuse-15.6": "opensuse"}.get(profile, profile)
    quoted = yaml.safe_dump(user, default_style='"', allow_unicode=True).strip()
    return BASE.format(recipe=recipe, profile=profile), HOST.format(profile=profile, user=quoted)


def answers(profile: str, user: str) -> dict[str, str]:
    """What the armed machine is given by FTP."""
    done = planned(*texts(profile, user), secrets={"user_password_hash": HASH})
    return {path.rpartition("/")[2]: text for path, text in rendered(done.overlay, once=True).items() if "ftp:" in path}


@pytest.mark.parametrize("user", NASTY)
def test_a_value_in_debians_preseed_is_the_rest_of_its_line(user: str) -> None:
    lines = answers("debian-12", user)["preseed.cfg"].splitlines()
    assert [line for line in lines if "passwd/username" in line] == [f"d-i passwd/username string {user}"]
    assert [line for line in lines if "crypted" in line] == [f"d-i passwd/user-password-crypted password {HASH}"]
    assert all(not line or line.split()[0] in ("d-i", "tasksel", "popularity-contest") for line in lines)


@pytest.mark.parametrize("user", NASTY)
def test_a_value_in_rockys_kickstart_is_one_word_of_its_command(user: str) -> None:
    """pykickstart splits each line with shlex."""
    text = answers("rocky-9", user)["ks.cfg"]
    (words,) = [shlex.split(line) for line in text.splitlines() if line.startswith("user ")]
    assert words == ["user", f"--name={user}", "--groups=wheel", "--iscrypted", f"--password={HASH}"]
    assert [line for line in text.splitlines() if line.startswith("%")] == ["%packages", "%end"]


@pytest.mark.parametrize("user", NASTY)
def test_a_value_in_ubuntus_autoinstall_is_one_scalar(user: str) -> None:
    found = answers("ubuntu-24.04", user)
    assert found["user-data"].startswith("#cloud-config\n")
    document = yaml.safe_load(found["user-data"])["autoinstall"]
    assert document["identity"] == {"hostname": "web1", "username": user, "password": HASH}
    assert document["ssh"] == {"install-server": True}
    assert yaml.safe_load(found["meta-data"]) == {"instance-id": "web1"}


@pytest.mark.parametrize("user", NASTY)
def test_a_value_in_opensuses_autoyast_is_text_of_its_element(user: str) -> None:
    space = "{http://www.suse.com/1.0/yast2ns}"
    root = ET.fromstring(answers("opensuse-15.6", user)["autoinst.xml"])
    (one,) = root.iter(f"{space}user")
    assert [(child.tag.removeprefix(space), child.text) for child in one] == [
        ("username", user),
        ("encrypted", "true"),
        ("user_password", HASH),
    ]


@pytest.mark.parametrize("recipe", ["debian-12", "rocky-9"])
def test_a_value_of_two_lines_is_refused_where_a_line_is_a_command(recipe: str) -> None:
    found = unplanned(*texts(recipe, "a\nd-i preseed/late_command string reboot"), secrets={"user_password_hash": HASH})
    assert any("a value with a line break or a control character" in line for line in found)


DEVICES = """\
templates:
  phone: {text: "<device><user>{{ machine.labels.owner }}</user></device>\\n"}
  polycom: {text: '<PHONE CONFIG_FILES="{{ machine.name }}-lines.cfg"/>'}
  switch: {text: "hostname {{ machine.name }}\\nusername admin secret {{ secret.switch_hash }}\\n"}
  poap: {text: "serial={{ machine.serial }}\\nimage={{ image }}\\n"}
  unattend: {text: "<unattend><ComputerName>{{ machine.labels.owner }}</ComputerName></unattend>"}
  startnet: {text: "wpeinit\\nping {{ server }}\\n"}
files:
  - {path: "SEP{{ machine.mac_plain | upper }}.cnf.xml", template: phone, match: {mac: "00:1b:54"}}
  - {path: "{{ machine.mac_plain }}.cfg", template: polycom, escape: xml, match: {mac: "00:04:f2"}}
  - {path: "{{ machine.name }}-confg", template: switch, match: {labels: {kind: ios}}}
  - {path: "poap/conf.{{ machine.serial }}", template: poap, match: {labels: {kind: nxos}}}
  - {path: "winpe/{{ machine.mac_dashes }}/unattend.xml", template: unattend, match: {labels: {kind: pc}}, in: ftp}
  - {path: "winpe/{{ machine.mac_dashes }}/startnet.cmd", template: startnet, match: {labels: {kind: pc}}, in: ftp}
vars: {image: nxos.10.4.bin}
server: 192.0.2.1
profiles: {none: {action: none}}
default: none
"""
HOSTS = """\
machines:
  desk: {mac: "00:1b:54:aa:bb:cc", labels: {owner: "Smith & Sons"}}
  hall: {mac: "00:04:f2:aa:bb:cc"}
  sw1: {mac: "00:25:45:00:00:01", labels: {kind: ios}, profile: none, once: {profile: none, until: 99999, id: x}}
  leaf: {serial: FDO21120V5A, labels: {kind: nxos}}
  pc: {mac: "52:54:00:00:00:09", labels: {kind: pc, owner: "<pc>"}}
"""


def test_phones_switches_and_winpe_get_their_files_by_rules() -> None:
    done = planned(DEVICES, HOSTS, secrets={"switch_hash": HASH})
    assert rendered(done.overlay) == {
        "tftp:SEP001B54AABBCC.cnf.xml": "<device><user>Smith &amp; Sons</user></device>\n",
        "tftp:0004f2aabbcc.cfg": '<PHONE CONFIG_FILES="hall-lines.cfg"/>',
        "tftp:poap/conf.FDO21120V5A": "serial=FDO21120V5A\nimage=nxos.10.4.bin\n",
        "ftp:winpe/52-54-00-00-00-09/unattend.xml": "<unattend><ComputerName>&lt;pc&gt;</ComputerName></unattend>",
        "ftp:winpe/52-54-00-00-00-09/startnet.cmd": "wpeinit\nping 192.0.2.1\n",
    }
    assert rendered(done.overlay, once=True) == {
        "tftp:sw1-confg": f"hostname sw1\nusername admin secret {HASH}\n",
    }
