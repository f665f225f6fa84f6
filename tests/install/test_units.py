"""The units of systemd: nothing in them is unknown to it, and what they leave open does not grow."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.confine.foreign import CAP_NET_ADMIN
from appliance.install import layout

TOP = Path(__file__).parents[2]
WORKER = TOP / "appliance" / "dhcp" / "worker.py"
SERVICE = TOP / "systemd" / "appliance.service"
EXAMPLES = TOP / "rootfs/usr/share/appliance/examples"
pytestmark = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
# what `systemd-analyze security` of systemd 252 says; vsftpd, proftpd, dnsmasq and tftpd-hpa: 9.6, atftpd: 8.4
EXPOSURE = {"appliance.service": 2.5, "unprivileged": 1.4, "socket-activated": 1.1, "dhcp": 2.7}
PROVISIONING = {"appliance-boot.service": 1.5, "appliance-boot-fetch.service": 1.1}


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Every unit, starting a program that exists."""
    program = tmp_path / "appliance"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for item in layout.items(str(program), {}):
        if item.path.startswith(layout.UNITS):
            (tmp_path / Path(item.path).name).write_bytes(item.content)
    instance = tmp_path / "appliance@.service"
    instance.rename(tmp_path / "appliance@second.service")
    return tmp_path


def test_systemd_knows_every_line(units: Path) -> None:
    found = sorted(str(path) for path in units.iterdir() if path.suffix in {".service", ".socket", ".timer"})
    assert len(found) >= 7
    said = subprocess.run(["systemd-analyze", "verify", "--man=no", *found], capture_output=True, text=True, timeout=60)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


def test_an_unknown_line_would_be_told(units: Path) -> None:
    unit = units / "appliance.service"
    unit.write_text(unit.read_text().replace("[Service]", "[Service]\nProtectEverything=yes"))
    said = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True)
    assert "ProtectEverything" in said.stderr


def exposure(unit: Path) -> float:
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)], capture_output=True, text=True
    )
    found = re.search(r"exposure level for \S+: ([0-9.]+)", said.stdout)
    assert found, said
    return float(found[1])


@pytest.mark.parametrize("variant", EXPOSURE)
def test_the_exposure_of_a_unit_does_not_grow(tmp_path: Path, variant: str) -> None:
    more = EXAMPLES / variant / "unit.conf"
    unit = tmp_path / f"{variant.removesuffix('.service')}.service"
    unit.write_text(SERVICE.read_text() + (more.read_text() if more.exists() else ""))
    assert exposure(unit) <= EXPOSURE[variant]


@pytest.mark.parametrize("name", PROVISIONING)
def test_the_exposure_of_provisioning_does_not_grow(name: str) -> None:
    assert exposure(SERVICE.with_name(name)) <= PROVISIONING[name]


def test_of_provisioning_one_half_has_the_network_and_the_other_one_root() -> None:
    fetch, publish = (SERVICE.with_name(name).read_text().splitlines() for name in sorted(PROVISIONING))
    assert {"User=appliance-boot", "CapabilityBoundingSet=", "RestrictNamespaces=yes"} <= set(fetch)
    assert {"PrivateNetwork=yes", "RestrictAddressFamilies=AF_UNIX"} <= set(publish)


def test_the_template_differs_from_the_service_in_names_only() -> None:
    def lines(path: Path) -> list[str]:
        text = re.sub("@INSTANCE| %i|-%i", "", path.read_text()).replace("%i.yaml", "appliance.yaml")
        return [line for line in text.splitlines()[text[: text.index("[Unit]")].count("\n") :] if line]

    assert lines(SERVICE.with_name("appliance@.service")) == lines(SERVICE)


def test_the_supervisor_gets_the_capabilities_it_needs_and_no_others() -> None:
    line = re.search(r"^CapabilityBoundingSet=(.*)$", SERVICE.read_text(), re.M)
    assert line and set(line[1].split()) == {
        "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_KILL", "CAP_CHOWN",
    }  # fmt: skip


def test_dhcp_adds_what_dnsmasq_keeps_and_nothing_else() -> None:
    text = (EXAMPLES / "dhcp" / "unit.conf").read_text()
    settings = [line for line in text.splitlines() if "=" in line and not line.startswith("#")]
    assert settings == ["CapabilityBoundingSet=CAP_NET_ADMIN", "RestrictAddressFamilies=AF_NETLINK"]
    assert CAP_NET_ADMIN == 12 and "(CAP_NET_BIND_SERVICE, CAP_NET_ADMIN)" in WORKER.read_text()
