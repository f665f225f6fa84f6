"""The service `dhcp` as a whole: the real program with the real dnsmasq in a network namespace, and real clients."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.dhcp.client import firmware, ipxe, leased
from tests.qemu.lab import CONFIG, ROUTER, Lab
from tests.support import needs_root, until
from tests.system.running import Appliance

pytestmark = [
    *needs_root,
    pytest.mark.skipif(
        not all(map(shutil.which, ("ip", "dnsmasq", "busybox"))), reason="needs ip, dnsmasq and busybox"
    ),
]
RANGE = CONFIG + "boot:\n  dhcp: range\n  dhcp_server: {{interface: br0, range: 192.0.2.50-192.0.2.60}}\n"
PROXY = CONFIG + "boot:\n  dhcp: proxy\n  dhcp_server: {{interface: br0}}\n"
CAPABILITIES = 1 << 10 | 1 << 12  # NET_BIND_SERVICE, NET_ADMIN


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def server(appliance: Appliance) -> int:
    """The process of dnsmasq: the grandchild of the service's own."""
    return next((pid for one in appliance.pids("dhcp") for guard in children(one) for pid in children(guard)), 0)


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists() or status(pid)["State"].startswith("Z")


def test_range_gives_each_architecture_an_address_and_its_loader(room: Lab) -> None:
    room.appliance(RANGE)
    uefi = leased(room, *firmware(7))
    assert (uefi["boot_file"], uefi["siaddr"], uefi["serverid"]) == ("shimx64.efi", "192.0.2.1", "192.0.2.1")
    assert 50 <= int(uefi["ip"].rpartition(".")[2]) <= 60
    assert "router" not in uefi and "dns" not in uefi  # this machine is neither
    bios = leased(room, *firmware(0))
    assert bios["boot_file"] == "pxelinux.0"
    assert leased(room, *ipxe(0))["boot_file"] == "boot.ipxe"


def test_what_was_given_to_whom_is_in_the_log(room: Lab) -> None:
    made = room.appliance(RANGE)
    address = leased(room)["ip"]
    line = next(line for line in made.said("DHCPACK").splitlines() if "DHCPACK" in line)
    assert '"room": "dhcp"' in line and address in line and '"client": "' in line
    assert made.workers("dhcp")[0]["transfers"] == 1


def test_answers_are_events_and_tell_a_machine_that_boots_from_one_that_runs(room: Lab) -> None:
    made = room.appliance(RANGE)

    def events() -> list[dict[str, Any]]:
        lines = made.verb("log", "--event", "dhcp", "--json").stdout.splitlines()
        return [json.loads(line) for line in lines]

    address = leased(room)["ip"]
    (ran,) = until(events, 60, "an event")
    assert (ran["pxe"], ran["client"], ran["message"], ran["interface"]) == (False, address, "DHCPACK", "br0")
    leased(room, *firmware(7))
    boots = until(lambda: [one for one in events() if one["pxe"]], 60, "another event")[0]
    assert boots["mac"] == ran["mac"] and len(boots["mac"]) == 17


def test_range_refuses_to_start_beside_another_server_and_says_which(room: Lab) -> None:
    room.dnsmasq("dhcp-range=192.0.2.100,192.0.2.110,255.255.255.0,1h", elsewhere=True)
    with pytest.raises(pytest.fail.Exception, match=rf"another DHCP server answers on br0: {ROUTER} \(write proxy"):
        room.appliance(RANGE)


def test_a_proxy_starts_beside_another_server_and_gives_no_address(room: Lab) -> None:
    room.dnsmasq("dhcp-range=192.0.2.100,192.0.2.110,255.255.255.0,1h", elsewhere=True)
    made = room.appliance(PROXY)
    assert "proxy on subnet 192.0.2.0" in made.said("DHCP, proxy")
    assert not (made.home / "state/dhcp/leases").read_text()


def test_dnsmasq_has_an_account_two_capabilities_and_a_filter(room: Lab) -> None:
    made = room.appliance(RANGE)
    found = status(server(made))
    assert found["Name"] == "dnsmasq"
    assert found["Uid"].split() == found["Gid"].split() == ["64626"] * 4
    assert found["Groups"] == ""
    assert {int(found[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {CAPABILITIES}
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
    worker = made.workers("dhcp")[0]
    assert (worker["confinement"]["level"], worker["uid"]) == ("full", 64626)
    guard = status(children(worker["pid"])[0])
    assert (int(guard["CapEff"], 16), guard["Seccomp"]) == (0, "2")


@pytest.mark.parametrize("victim", ["the child", "its guard", "dnsmasq"])
def test_whichever_process_is_killed_all_are_replaced(room: Lab, victim: str) -> None:
    made = room.appliance(RANGE)
    before = server(made)
    child = made.workers("dhcp")[0]["pid"]
    os.kill({"the child": child, "its guard": children(child)[0], "dnsmasq": before}[victim], signal.SIGKILL)
    until(lambda: gone(before), 10, "dnsmasq ended")
    until(lambda: server(made) not in (0, before), 30, "a new dnsmasq")
    until(lambda: made.workers("dhcp") and made.workers("dhcp")[0]["restarts"] == 1, 30, "one restart")
    assert leased(room)["serverid"] == "192.0.2.1"
    assert made.workers("tftp")[0]["restarts"] == 0


def test_a_reload_changes_the_range_and_nothing_is_left_of_the_old_server(room: Lab) -> None:
    made = room.appliance(RANGE)
    before = server(made)
    made.write(RANGE.replace("192.0.2.50-192.0.2.60", "192.0.2.70-192.0.2.80").format(home=made.home))
    made.signal(signal.SIGHUP)
    until(lambda: server(made) not in (0, before), 30, "a new dnsmasq")
    until(lambda: gone(before), 10, "the old one ended")
    assert 70 <= int(leased(room)["ip"].rpartition(".")[2]) <= 80


def test_nothing_is_left_running_when_the_appliance_ends(room: Lab) -> None:
    made = room.appliance(RANGE)
    pids = [server(made), *made.pids("dhcp")]
    made.stop()
    until(lambda: all(gone(pid) for pid in pids), 10, "all ended")


def test_an_interface_without_an_address_is_told_before_anything_serves(room: Lab) -> None:
    room.ip("link", "add", "bare0", "type", "bridge")
    with pytest.raises(pytest.fail.Exception, match="interface bare0 has no IPv4 address"):
        room.appliance(RANGE.replace("br0", "bare0"))
