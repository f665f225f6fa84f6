"""The lines of `boot dhcp` in the real servers, which then tell every firmware and iPXE what the manifest says."""

from __future__ import annotations

import json
import shutil

import pytest

from appliance.boot.dhcp import snippet
from appliance.boot.model import Manifest
from tests.boot.support import resolved
from tests.dhcp.client import firmware, ipxe, leased
from tests.qemu.lab import SERVER, Lab
from tests.support import needs_root

pytestmark = [
    *needs_root,
    pytest.mark.skipif(not all(map(shutil.which, ("ip", "busybox"))), reason="needs ip and busybox"),
]
FILES = {
    0: "pxelinux.0",
    6: "ia32/snponly.efi",
    7: "shimx64.efi",
    9: "shimx64.efi",
    10: "arm32.efi",
    11: "grubaa64.efi",
}
MANIFEST = f"""\
server: {SERVER}
loaders:
  bios: {{file: pxelinux.0, kind: pxelinux}}
  ia32-efi: {{file: ia32/snponly.efi, kind: ipxe}}
  x64-efi: {{file: shimx64.efi, kind: shim}}
  arm32-efi: {{file: arm32.efi, kind: grub}}
  arm64-efi: {{file: grubaa64.efi, kind: grub}}
  ipxe: {{file: boot.ipxe, kind: ipxe}}
"""


def dnsmasq(room: Lab, manifest: Manifest) -> None:
    room.dnsmasq("dhcp-range=192.0.2.50,192.0.2.99,255.255.255.0,1h", snippet("dnsmasq", manifest))


def dhcpd(room: Lab, manifest: Manifest) -> None:
    pool = "subnet 192.0.2.0 netmask 255.255.255.0 { range 192.0.2.50 192.0.2.99; }\n"
    (room.home / "dhcpd.conf").write_text(snippet("isc", manifest) + pool)
    (room.home / "leases").touch()
    room.serve("dhcpd", "-d", "-cf", f"{room.home}/dhcpd.conf", "-lf", f"{room.home}/leases",
               "-pf", f"{room.home}/dhcpd.pid", room.bridge, says="Server starting service")  # fmt: skip


def kea(room: Lab, manifest: Manifest) -> None:
    settings = {
        "interfaces-config": {"interfaces": [room.bridge]},
        "lease-database": {"type": "memfile", "persist": False},
        "subnet4": [{"id": 1, "subnet": "192.0.2.0/24", "pools": [{"pool": "192.0.2.50-192.0.2.99"}]}],
        "loggers": [{"name": "kea-dhcp4", "output_options": [{"output": "stdout"}], "severity": "INFO"}],
    }
    members = json.dumps(settings).removeprefix("{").removesuffix("}")
    (room.home / "kea.conf").write_text(f'{{"Dhcp4": {{{members},\n{snippet("kea", manifest)}}}}}\n')
    own = (f"KEA_PIDFILE_DIR={room.home}", f"KEA_LOCKFILE_DIR={room.home}")
    room.serve("env", *own, "kea-dhcp4", "-c", f"{room.home}/kea.conf", says="DHCP4_STARTED")


@pytest.mark.parametrize("server", ["dnsmasq", "dhcpd", "kea"])
def test_every_firmware_is_told_its_loader_and_ipxe_its_script(room: Lab, server: str) -> None:
    program = {"kea": "kea-dhcp4"}.get(server, server)
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    {"dnsmasq": dnsmasq, "dhcpd": dhcpd, "kea": kea}[server](room, resolved(MANIFEST).manifest)
    for arch, file in FILES.items():
        told = leased(room, *firmware(arch))
        assert (told["boot_file"], told["siaddr"]) == (file, SERVER), arch
        assert leased(room, *ipxe(arch))["boot_file"] == "boot.ipxe", arch
    assert "boot_file" not in leased(room)  # a machine that runs is not told to boot
