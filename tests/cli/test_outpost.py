"""`appliance doctor --as` and `--dhcp`: a client in a namespace meets the firewall; what machines boot is asked for."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from appliance.cli import answers, outpost
from appliance.cli.reach import Target
from appliance.errors import ApplianceError
from tests.qemu.lab import CONFIG, SERVER, Lab, lab
from tests.support import needs_root
from tests.system.running import PROGRAM

pytestmark = [
    *needs_root,
    pytest.mark.slow,
    pytest.mark.skipif(not all(map(shutil.which, ("ip", "nft", "dnsmasq"))), reason="needs ip, nft and dnsmasq"),
]
CLIENT = "192.0.2.77"
TEXT = CONFIG.replace("\nftp:\n", '\nftp:\n  passive_ports: "61000-61999"\n  limits: {{sessions: 900}}\n')
OTHER_SERVER = "dhcp-range=192.0.2.100,192.0.2.110,255.255.255.0,1h"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One appliance for all tests of this file: they change the firewall and the DHCP server, and nothing of it."""
    home = tmp_path_factory.mktemp("room")
    for folder in (*home.parents[:2], home):
        folder.chmod(0o755)
    with lab(home) as made:
        made.appliance(TEXT)
        yield made


@pytest.fixture
def rules(room: Lab) -> Iterator[Any]:
    """Give nft rules for the input chain that drops everything else."""

    def give(*lines: str) -> None:
        chain = (
            "type filter hook input priority filter; policy drop; ct state established,related accept; iif lo accept;"
        )
        text = "".join(f"{line}\n" for line in lines)
        argv = room.enter("nft", "-f", "-")
        whole = f"table inet test {{ chain input {{ {chain}\n{text}}}\n}}\n"
        subprocess.run(argv, input=whole, text=True, check=True, capture_output=True)

    yield give
    subprocess.run(room.enter("nft", "flush", "ruleset"), check=True, capture_output=True)


def doctor(room: Lab, *words: str) -> list[dict[str, str]]:
    argv = room.enter(*PROGRAM, "doctor", "-c", str(room.home / "appliance.yaml"), "--json", *words)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=200)
    assert done.stdout, done.stderr
    found: list[dict[str, str]] = json.loads(done.stdout)["findings"]
    return found


def by(found: list[dict[str, str]], source: str = CLIENT) -> dict[str, dict[str, str]]:
    """What the client found, by check."""
    return {one["check"]: one for one in found if one["what"].endswith(f", asked by {source}")}


def links(room: Lab) -> str:
    return subprocess.run(room.enter("ip", "link"), capture_output=True, text=True, check=True).stdout


def test_a_client_without_a_firewall_reaches_every_port_and_leaves_no_trace(room: Lab) -> None:
    before = links(room)
    found = by(doctor(room, "--as", CLIENT))
    assert {name: one["state"] for name, one in found.items()} == {"tftp": "ok", "ftp": "ok", "passive ports": "ok"}
    assert "61000" in found["passive ports"]["what"] and "61999" in found["passive ports"]["what"]
    assert "a passive connection came through" in found["ftp"]["what"]
    assert links(room) == before
    assert "doctor" not in subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout


def test_a_firewall_that_drops_is_met_by_the_client_and_not_by_this_machine(room: Lab, rules: Any) -> None:
    rules("tcp dport 21 accept", "tcp dport 61000-61400 accept")
    found = doctor(room, "--as", CLIENT)
    own = {one["check"]: one["state"] for one in found if one["check"] in ("tftp", "ftp") and CLIENT not in one["what"]}
    assert own == {"tftp": "ok", "ftp": "ok"}
    met = by(found)
    assert (met["tftp"]["state"], met["passive ports"]["state"]) == ("error", "error")
    assert "61999" in met["passive ports"]["what"] and "61000" not in met["passive ports"]["what"]
    for one in (met["tftp"], met["passive ports"]):
        assert "appliance firewall nft" in one["remedy"]


def test_the_rules_that_we_write_let_such_a_client_in(room: Lab, rules: Any) -> None:
    argv = room.enter(*PROGRAM, "firewall", "nft", "-c", str(room.home / "appliance.yaml"))
    written = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout
    rules(*(line for line in written.splitlines() if "accept comment" in line))
    assert {one["state"] for one in by(doctor(room, "--as", CLIENT)).values()} == {"ok"}


def test_a_client_with_an_address_of_ours_or_of_a_family_that_is_not_served_is_refused(room: Lab) -> None:
    (one,) = [one for one in doctor(room, "--as", SERVER) if one["check"] == "network"]
    assert one["state"] == "error" and "is an address of this machine" in one["what"]
    (one,) = [one for one in doctor(room, "--as", "2001:db8::77") if one["check"] == "network"]
    assert one["state"] == "warning" and "no listener on the network has IPv6" in one["what"]


def test_whatever_fails_nothing_is_left(room: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[list[str]] = []
    monkeypatch.setattr(outpost, "_run", lambda argv: (_ for _ in ()).throw(ApplianceError("no")))
    monkeypatch.setattr(outpost.subprocess, "run", lambda argv, **_more: left.append(argv))
    with pytest.raises(ApplianceError, match="no"), outpost.outpost("203.0.113.7", ["192.0.2.1"]):
        pass
    assert [argv[1:3] for argv in left] == [["link", "delete"], ["netns", "delete"]]


def test_an_ordinary_user_is_told_who_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(ApplianceError, match="is made by root"):
        outpost.findings("203.0.113.7", [Target("tftp", "192.0.2.1", 69)], range(50000, 50010))


@pytest.fixture
def server(room: Lab) -> Iterator[Any]:
    """Start another DHCP server with these lines."""
    yield lambda *lines: room.dnsmasq("no-ping", OTHER_SERVER, *lines, elsewhere=True)
    room.end_servers()


def told(room: Lab) -> list[dict[str, str]]:
    return [one for one in doctor(room, "--dhcp", room.bridge) if one["check"] == "dhcp"]


def test_a_dhcp_server_that_sends_machines_here_for_a_file_we_serve_is_well(room: Lab, server: Any) -> None:
    server(f"dhcp-boot=hello.txt,,{SERVER}")
    found = told(room)
    assert [one["state"] for one in found] == ["ok", "ok"], found
    assert "offers 192.0.2.1" in found[0]["what"] and "BIOS" in found[0]["what"] and "UEFI x64" in found[1]["what"]
    assert found[0]["what"].endswith("sends it to 192.0.2.1 for hello.txt: this machine, and the file is served")


@pytest.mark.parametrize(
    ("lines", "state", "what"),
    [
        (["dhcp-boot=gone.0,,192.0.2.1"], "error", "gone.0, a file that is not served"),
        (["dhcp-boot=x,,192.0.2.9"], "warning", "sends it to 192.0.2.9 for x, which is not this machine"),
        ([], "warning", "tells it nothing to boot"),
    ],
)
def test_a_dhcp_server_that_does_not_is_told_with_the_lines_it_needs(
    room: Lab, server: Any, lines: list[str], state: str, what: str
) -> None:
    server(*lines)
    found = told(room)
    assert {one["state"] for one in found} == {state} and all(what in one["what"] for one in found), found
    assert all(one["remedy"].startswith("appliance boot") for one in found)


def test_nobody_who_answers_is_told_for_each_kind_of_machine(room: Lab) -> None:
    found = told(room)
    assert [one["state"] for one in found] == ["warning", "warning"]
    assert "nobody answers a BIOS machine on br0" in found[0]["what"] and "boot.dhcp: range" in found[0]["remedy"]


def test_beside_a_server_of_addresses_a_proxy_tells_what_to_boot(room: Lab, server: Any) -> None:
    server()
    services = [f'pxe-service={name},"Boot",hello.txt,{SERVER}' for name in ("x86PC", "BC_EFI", "x86-64_EFI")]
    room.dnsmasq("dhcp-range=192.0.2.0,proxy,255.255.255.0", *services)
    found = told(room)
    assert {one["state"] for one in found} == {"ok"}, found
    said = "\n".join(one["what"] for one in found)
    assert said.count("leaves what it boots to another server") == 2
    assert said.count("answers beside another server") == 2 and said.count("this machine, and the file is served") == 2


def test_an_interface_without_an_address_cannot_be_asked_on() -> None:
    (one,) = answers.findings("none0")
    assert one.state == "error" and "no IPv4 address" in one.what and one.remedy
