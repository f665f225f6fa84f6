"""`appliance boot host set|list|rm|import`: machines change only when everything is right together."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from appliance.boot import armed, hostsfolder
from appliance.boot.model import Machine
from tests.cli.conftest import Call, Said

MAC, OTHER = "52:54:00:12:34:56", "52:54:00:12:34:57"
MANIFEST = """\
recipes: [pxelinux, local-disk]
profiles: {linux: {kernel: k, args: "x={{ disk | default('a') }}"}}
machines: {fixed: {mac: 52:54:00:00:00:01, profile: local-disk}}
"""


class Hosts:
    """The command line over one configuration, and what it leaves in hosts.d."""

    def __init__(self, call: Call, folder: Path) -> None:
        self.call = call
        self.folder = folder

    def __call__(self, *arguments: object) -> Said:
        return self.call("boot", "host", *arguments, "-c", self.folder / "appliance.yaml")

    def file(self, name: str) -> Any:
        return json.loads((self.folder / f"hosts.d/{name}.yaml").read_text())["machines"][name]

    def files(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "hosts.d").glob("*.yaml"))


@pytest.fixture
def hosts(call: Call, tmp_path: Path) -> Hosts:
    (tmp_path / "boot.yaml").write_text(MANIFEST)
    (tmp_path / "appliance.yaml").write_text(
        f"state_dir: {tmp_path}\nrun_dir: {tmp_path}/run\nboot: {{manifest: {tmp_path}/boot.yaml}}\n"
    )
    return Hosts(call, tmp_path)


def test_a_machine_is_added_changed_and_removed(hosts: Hosts) -> None:
    said = hosts(
        "set",
        MAC.upper(),
        "--name",
        "web1",
        "--profile",
        "linux",
        "--ip",
        "10.0.0.1",
        "--label",
        "rack=12",
        "--var",
        "disk=b",
    )
    assert (said.code, said.out) == (0, "web1: added\n")
    assert hosts.file("web1") == {
        "mac": [MAC],
        "ip": "10.0.0.1",
        "profile": "linux",
        "labels": {"rack": "12"},
        "vars": {"disk": "b"},
    }
    assert (
        hosts("set", "web1", "--mac", OTHER, "--label", "rack=", "--serial", "S1", "--arch", "bios").out
        == "web1: changed\n"
    )
    assert hosts.file("web1")["mac"] == [MAC, OTHER] and "labels" not in hosts.file("web1")
    said = hosts("rm", OTHER, "--json")
    assert (said.code, said.json()["done"], hosts.files()) == (0, "removed", [])


def test_a_machine_without_a_name_is_called_by_its_address(hosts: Hosts) -> None:
    assert hosts("set", MAC, "--profile", "linux").out == "52-54-00-12-34-56: added\n"
    assert hosts.files() == ["52-54-00-12-34-56.yaml"]


def test_a_machine_is_armed_once_and_that_is_taken_back(hosts: Hosts) -> None:
    hosts("set", MAC, "--name", "web1", "--profile", "local-disk")
    before = time.time()
    said = hosts("set", "web1", "--profile", "linux", "--once", "--for", "2h")
    assert said.out == "web1: changed, once linux\n"
    first = hosts.file("web1")
    assert first["profile"] == "local-disk" and first["once"]["profile"] == "linux"
    assert before + 7199 <= first["once"]["until"] <= time.time() + 7201
    hosts("set", "web1", "--profile", "linux", "--once")
    assert hosts.file("web1")["once"]["id"] != first["once"]["id"]
    assert "once linux, for 24.0 h more" in hosts("list").out
    hosts("set", "web1", "--no-once")
    assert "once" not in hosts.file("web1") and hosts.file("web1")["profile"] == "local-disk"
    hosts("set", "web1", "--no-once", "--profile", "linux")
    assert hosts.file("web1")["profile"] == "linux"


@pytest.mark.parametrize(("hold", "code"), [("59s", 2), ("1m", 0), ("365d", 0), ("366d", 2), ("soon", 2)])
def test_an_arming_lasts_a_minute_to_a_year(hosts: Hosts, hold: str, code: int) -> None:
    assert hosts("set", MAC, "--profile", "linux", "--once", "--for", hold).code == code
    assert len(hosts.files()) == (code == 0)


def test_an_arming_that_is_over_is_listed_as_such(hosts: Hosts) -> None:
    (hosts.folder / "hosts.d").mkdir()
    (hosts.folder / "hosts.d/a.yaml").write_text(
        f"machines: {{a: {{mac: '{MAC}', once: {{profile: linux, until: 5, id: x}}}}}}"
    )
    assert "once linux, expired" in hosts("list").out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((MAC, "--profile", "linx"), 2, "no profile linx (did you mean linux?)"),
        ((MAC, "--once"), 2, "--once needs --profile"),
        ((MAC, "--ip", "10.0.0.300"), 2, "10.0.0.300 is not an IPv4 address"),
        ((MAC, "--arch", "vax"), 2, "vax is none of the choices"),
        ((MAC, "--label", "x"), 2, "x is not NAME=VALUE"),
        ((MAC, "--name", "a b"), 2, "a b is no name"),
        (("newname",), 2, "nothing tells this machine from others"),
        (("52:54:00:00:00:01", "--profile", "linux"), 1, "fixed was written by hand, at "),
        ((MAC, "--mac", "52:54:00:00:00:01"), 2, "is also that of fixed"),
        ((MAC, "--name", "x", "--profile", "linux", "--var", "disk=a b"), 2, "a value with a space"),
    ],
)
def test_nothing_is_written_when_anything_is_wrong(
    hosts: Hosts, arguments: tuple[str, ...], code: int, said: str
) -> None:
    told = hosts("set", *arguments)
    assert (told.code, said in told.err, hosts.files()) == (code, True, []), told.err


def test_machines_are_listed_with_what_they_boot_and_why(hosts: Hosts) -> None:
    hosts("set", MAC, "--name", "web1", "--profile", "linux")
    hosts("set", OTHER, "--name", "web2")
    assert hosts("list").out.splitlines() == [
        "fixed  52:54:00:00:00:01  local-disk (machines.fixed.profile)",
        f"web1  {MAC}  linux (machines.web1.profile)",
        f"web2  {OTHER}  the menu (menu)",
    ]
    facts = hosts("list", "--json").json()
    assert [(fact["name"], fact["boots"], fact["rule"]) for fact in facts][2] == ("web2", None, "menu")


def test_what_is_unknown_or_written_by_hand_is_not_removed(hosts: Hosts) -> None:
    assert "no machine web9" in hosts("rm", "web9").err
    said = hosts("rm", "fixed")
    assert (said.code, "written by hand" in said.err) == (1, True)
    hosts("set", MAC, "--name", "web1")
    assert hosts("rm", "web1", "web9").code == 1
    assert hosts.files() == ["web1.yaml"]  # all of them, or none


def test_a_hand_written_file_of_that_name_is_never_replaced(hosts: Hosts) -> None:
    (hosts.folder / "hosts.d").mkdir()
    text = f"# mine\nmachines: {{web1: {{mac: '{MAC}'}}}}\n"
    (hosts.folder / "hosts.d/web1.yaml").write_text(text)
    assert hosts("set", "web1", "--profile", "linux").code == 1
    assert (hosts.folder / "hosts.d/web1.yaml").read_text() == text


def test_machines_come_from_a_list(hosts: Hosts) -> None:
    (hosts.folder / "list.csv").write_text(f"name,mac,profile\nweb1,{MAC},linux\nold,52:54:00:00:00:01,\nbad,zz,\n")
    said = hosts("import", hosts.folder / "list.csv", "--format", "csv", "--dry-run")
    assert (said.code, said.out) == (1, "web1: would be written\n1 known already, left as they are\n")
    assert "list.csv:4:1: warning: zz is not a MAC address" in said.err and hosts.files() == []
    assert hosts("import", hosts.folder / "list.csv", "--format", "csv").code == 1
    assert hosts.file("web1") == {"mac": [MAC], "profile": "linux"}
    (hosts.folder / "leases").write_text(f"1700000000 {MAC} 10.0.0.7 web1 *\n1700000000 {OTHER} 10.0.0.8 web1 *\n")
    said = hosts("import", hosts.folder / "leases", "--format", "dnsmasq", "--update", "--profile", "local-disk")
    assert said.code == 0
    assert hosts.file("web1") == {"mac": [MAC], "ip": "10.0.0.7", "profile": "local-disk"}
    assert hosts.file("web1-525400123457")["ip"] == "10.0.0.8"


def test_a_long_list_is_told_shortly(hosts: Hosts) -> None:
    text = "mac\n" + "".join(f"52:54:00:00:01:{i:02x}\n" for i in range(25))
    (hosts.folder / "list.csv").write_text(text)
    said = hosts("import", hosts.folder / "list.csv", "--format", "csv")
    assert said.out.splitlines()[-1] == "and 5 more" and len(hosts.files()) == 25


@pytest.mark.parametrize(
    ("file", "form", "code", "said"),
    [
        ("gone", "csv", 1, "No such file or directory"),
        ("bad", "csv", 1, "not UTF-8"),
        ("bad", "excel", 2, "excel is none of csv, dnsmasq, isc"),
    ],
)
def test_a_list_that_cannot_be_read_is_told(hosts: Hosts, file: str, form: str, code: int, said: str) -> None:
    (hosts.folder / "bad").write_bytes(b"\xff")
    told = hosts("import", hosts.folder / file, "--format", form)
    assert (told.code, said in told.err) == (code, True)


def test_a_folder_that_cannot_be_made_is_told(hosts: Hosts) -> None:
    (hosts.folder / "hosts.d").write_text("")
    said = hosts("set", MAC)
    assert (said.code, "run as root, or as who owns it" in said.err) == (1, True)


def test_an_armed_machine_is_handed_to_the_keeper_and_taken_back(hosts: Hosts) -> None:
    hosts("set", MAC, "--name", "web1", "--profile", "linux", "--once")
    (path,) = (hosts.folder / "armed").iterdir()
    found = armed.decode(path.read_bytes())
    assert path.name == f"{hosts.file('web1')['once']['id']}.json"
    assert (found.machine, found.profile, found.overlay) == ("web1", "linux", 1)
    assert (found.loads, found.configs) == (("k",), ("pxelinux.cfg/01-52-54-00-12-34-56",))
    assert found.expires == hosts.file("web1")["once"]["until"]
    before = path.read_bytes()
    hosts("set", "web1", "--label", "a=b")
    assert path.read_bytes() == before
    (hosts.folder / "boot").mkdir()
    (hosts.folder / "boot/current").write_text("20260101-000000-00000000 41\n")
    hosts("set", "web1", "--profile", "linux", "--once")  # armed anew: another key, and the old one is taken back
    (again,) = (hosts.folder / "armed").iterdir()
    assert again != path and armed.decode(again.read_bytes()).overlay == 42
    hosts("set", "web1", "--no-once")
    assert list((hosts.folder / "armed").iterdir()) == []


def test_a_machine_that_is_removed_is_not_armed_any_more_and_others_are(hosts: Hosts) -> None:
    hosts("set", MAC, "--name", "web1", "--profile", "linux", "--once")
    hosts("set", OTHER, "--name", "web2", "--profile", "linux", "--once")
    (hosts.folder / "armed/note.state").write_text("the keeper's")
    hosts("rm", "web1")
    left = sorted(path.name for path in (hosts.folder / "armed").iterdir())
    assert left == sorted([f"{hosts.file('web2')['once']['id']}.json", "note.state"])


def state(hosts: Hosts, key: str, stage: str) -> None:
    (hosts.folder / f"armed/{key}.state").write_text(
        f'{{"stage": "{stage}", "client": "", "got": [], "at": 1700000000}}'
    )


def test_how_far_a_one_shot_boot_is_stands_in_the_list_and_the_unconfirmed_are_found(hosts: Hosts) -> None:
    hosts("set", MAC, "--name", "web1", "--profile", "linux", "--once")
    hosts("set", OTHER, "--name", "web2", "--profile", "linux", "--once")
    one, two = (hosts.file(name)["once"]["id"] for name in ("web1", "web2"))
    assert json.loads(hosts("list", "--unconfirmed", "--json").out) == []
    state(hosts, one, "loaded")
    (found,) = json.loads(hosts("list", "--unconfirmed", "--json").out)
    assert (found["name"], found["once"]["state"], found["once"]["since"]) == ("web1", "loaded", 1700000000)
    assert "loaded: it boots the rest" in hosts("list").out
    assert hosts("confirm", "web1").code == 0
    assert (hosts.folder / f"armed/{one}.confirm").exists()
    assert hosts("confirm", "web1").code == 0  # not heard yet: once more is no mistake
    state(hosts, one, "confirmed")
    (hosts.folder / f"armed/{two}.state").symlink_to("/etc/hostname")  # what a keeper that fell may write
    (hosts.folder / "armed/0123456789abcdef.state").write_text("[" * 5000)
    assert hosts("list", "--unconfirmed").out == ""


def test_an_arming_whose_time_is_over_and_that_nobody_keeps_is_told_as_expired(hosts: Hosts) -> None:
    hosts("set", MAC, "--name", "web1", "--profile", "linux", "--once")
    place = hosts.folder / "hosts.d/web1.yaml"
    place.write_text(place.read_text().replace(str(hosts.file("web1")["once"]["until"]), "1700000000"))
    (found,) = [one for one in json.loads(hosts("list", "--json").out) if one["name"] == "web1"]
    assert (found["once"]["state"], found["once"]["since"]) == ("expired", None)


def test_who_arms_a_machine_that_nobody_would_see_boot_is_told(hosts: Hosts) -> None:
    assert "observe.events" not in hosts("set", MAC, "--name", "web1", "--profile", "linux", "--once").err
    config = hosts.folder / "appliance.yaml"
    config.write_text(f"{config.read_text()}observe: {{events: false}}\n")
    said = hosts("set", "web1", "--profile", "linux", "--once")
    assert said.code == 0 and "observe.events is off, so nobody sees machines boot" in said.err


def test_only_a_machine_that_is_armed_is_confirmed(hosts: Hosts) -> None:
    hosts("set", MAC, "--name", "web1", "--profile", "linux")
    said = hosts("confirm", "web1")
    assert (said.code, "web1 is not armed" in said.err) == (1, True)
    assert hosts("confirm", "nobody").code == 1
    hosts("set", "web1", "--profile", "linux", "--once")
    for path in (hosts.folder / "armed").iterdir():
        path.unlink()
    (hosts.folder / "armed").rmdir()
    said = hosts("confirm", "web1")
    assert (said.code, "nobody keeps what is armed" in said.err) == (1, True)


def test_what_loads_nothing_needs_nobody_who_watches_it(hosts: Hosts) -> None:
    assert hosts("set", MAC, "--profile", "local-disk", "--once").code == 0
    assert not (hosts.folder / "armed").exists()


def test_a_keepers_folder_that_cannot_be_written_is_told(hosts: Hosts) -> None:
    (hosts.folder / "armed").write_text("")
    said = hosts("set", MAC, "--profile", "linux", "--once")
    assert (said.code, "run as root, or as who runs the appliance" in said.err) == (1, True)


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_whatever_fails_no_half_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with hostsfolder.changing(str(tmp_path)) as folder:
        hostsfolder.put(folder, [Machine("a", (MAC,))])
        before = (Path(folder) / "a.yaml").read_bytes()
        monkeypatch.setattr(os, "fdopen" if call == "write" else call, fail)
        with pytest.raises(hostsfolder.HostsError, match="No space left"):
            hostsfolder.put(folder, [Machine("a", (OTHER,)), Machine("b", (MAC,))])
        monkeypatch.undo()
        assert sorted(os.listdir(folder)) == [".lock", "a.yaml"]
        assert (Path(folder) / "a.yaml").read_bytes() == before


def test_a_file_that_is_gone_cannot_be_removed(tmp_path: Path) -> None:
    with hostsfolder.changing(str(tmp_path)) as folder, pytest.raises(hostsfolder.HostsError, match="No such file"):
        hostsfolder.remove(folder, Machine("a"))


def test_a_file_that_cannot_be_read_is_nobodys(tmp_path: Path) -> None:
    with hostsfolder.changing(str(tmp_path)) as folder:
        os.mkdir(os.path.join(folder, "a.yaml"))
        with pytest.raises(hostsfolder.HostsError, match="Is a directory"):
            hostsfolder.mine(folder, Machine("a"))
