"""Manifests for the tests of boot provisioning, and what comes of them."""

from __future__ import annotations

from collections.abc import Mapping

from appliance.boot import folder, plan
from appliance.boot.draft import Draft, Unreadable
from appliance.boot.manifest import read
from appliance.boot.model import Overlay, Plan
from appliance.boot.resolve import Resolved, resolve
from appliance.errors import ConfigError

LINUX = "profiles: {linux: {kernel: linux/vmlinuz, initrd: linux/initrd}}\n"
ALL = """\
loaders:
  bios: {file: pxelinux.0, kind: pxelinux}
  x64-efi: {file: shimx64.efi, kind: shim}
  ipxe: {file: boot.ipxe, kind: ipxe}
"""
MAC = "52:54:00:12:34:56"
TEMPLATES = {"there.cfg": "host {{ machine.name }}\n"}


def text_of(name: str) -> str:
    if name in TEMPLATES:
        return TEMPLATES[name]
    raise Unreadable(f"{name} cannot be read: No such file or directory")


def draft(text: str, *, hosts: bool = False, name: str = "boot.yaml") -> Draft:
    return read(name, text.encode(), text_of, machines_only=hosts)


def resolved(
    text: str, *hosts: str, catalog: Mapping[str, Draft] | None = None, secrets: tuple[str, ...] = ()
) -> Resolved:
    drafts = [draft(host, hosts=True, name=f"hosts.d/{i}.yaml") for i, host in enumerate(hosts)]
    return resolve(draft(text), drafts, folder.catalog() if catalog is None else catalog, secrets)


def problems(text: str, *hosts: str, catalog: Mapping[str, Draft] | None = None) -> list[str]:
    """Everything that is said against a manifest, a line each."""
    try:
        resolved(text, *hosts, catalog=catalog)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def planned(text: str, *hosts: str, secrets: Mapping[str, str] | None = None, now: int = 1000) -> Plan:
    found = resolved(text, *hosts, secrets=tuple(secrets or {}))
    return plan.plan(found.manifest, found.hosts, secrets or {}, now)


def rendered(overlay: Overlay, *, once: bool = False) -> dict[str, str]:
    """Every file of an overlay by ROOT:PATH."""
    owned = overlay.once if once else overlay.machines
    return {f"{file.root}:{file.path}": file.text for one in owned for file in one.files}


def unplanned(text: str, *hosts: str, secrets: Mapping[str, str] | None = None) -> list[str]:
    try:
        planned(text, *hosts, secrets=secrets)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []
