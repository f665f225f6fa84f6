"""The facts that `status --json` shows, as a plain value. Only grows; `docs/STATUS.md` documents each field."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from appliance.supervise.bans import Entry
from appliance.supervise.group import Group
from appliance.supervise.service import Service
from appliance.supervise.slot import WorkerSlot
from appliance.supervise.states import Slot

_BANS_MAX = 500
_SHOWN = ("active", "failed", "refused", "dropped", "crashes", "retransmits", "log_dropped", "events_lost")


def services(
    groups: Iterable[Group],
    old: Iterable[Group],
    published: Callable[[Service], dict[str, Any]],
    totals: Callable[[str], dict[str, int]],
) -> dict[str, Any]:
    """The `services` object: current generations, with workers of older ones that still finish.

    `published`: what is told of the release that a service serves; `totals`: what it has counted.
    """
    found: dict[str, Any] = {}
    for group in groups:
        found[group.service.name] = {
            "listen": group.addresses(),
            **published(group.service),
            "state": "ok" if group.complete else "degraded",
            "user": group.service.user,
            "workers": [_worker(slot) for slot in group.slots],
            "totals": totals(group.service.name),
            **_box(group),
        }
    for group in old:
        entry = found.setdefault(
            group.service.name,
            {"listen": [], **published(group.service), "state": "draining", "workers": []},
        )
        entry["workers"] += [_worker(slot) for slot in group.slots if slot.state is not Slot.GONE]
    return found


def _box(group: Group) -> dict[str, Any]:
    """Of a custodian: what it keeps."""
    if group.service.promise != "custody":
        return {}
    now = group.slots[0].counters()
    return {"box": {"used_bytes": now["kept_bytes"], "files": now["kept_files"], "quota_bytes": now["quota"]}}


def _worker(slot: WorkerSlot) -> dict[str, Any]:
    counters = slot.counters()
    return {
        "index": slot.index,
        "pid": slot.pid,
        "state": slot.state.value,
        "restarts": slot.restarts,
        "last_exit": slot.last_exit or None,
        "uid": slot.service.uid,
        "gid": slot.service.gid,
        "jail": slot.service.jail,
        "confinement": slot.report.plain(),
        "transfers": slot.total("transfers"),
        "bytes": slot.total("bytes"),
        **{name: counters[name] for name in _SHOWN},
    }


def bans(active: Mapping[str, Entry], now: float) -> list[dict[str, Any]]:
    """Who is not served now, the latest first; not all of them when there are very many."""
    latest = list(active.items())[: -_BANS_MAX - 1 : -1]
    return [{"client": client, "seconds": round(one.until - now), "cause": one.cause} for client, one in latest]


def problems(groups: Iterable[Group], warnings: Iterable[str]) -> list[dict[str, str]]:
    """What an operator should know now, each with the remedy."""
    found = [problem("warning", line.removeprefix("warning: "), "appliance check") for line in warnings]
    for group in groups:
        found += _group_problems(group)
    return found


def _group_problems(group: Group) -> list[dict[str, str]]:
    name, found = group.service.name, []
    moved, jail = group.jail_moved(), group.service.jail
    if moved == "missing":
        found.append(problem("error", f"{name}: {jail} is gone", _bring_back(jail)))
    elif moved == "broken":
        remedy = f"findmnt -T {jail}; dmesg | tail; mount it anew, its workers follow"
        found.append(problem("error", f"{name}: {jail} cannot be looked at", remedy))
    elif moved == "replaced" and group.stuck:
        what = f"{name}: {jail} is another folder now, and the one before is still in use"
        found.append(problem("error", what, "its reason is in the log: look for `nothing was changed`"))
    for slot in group.slots:
        fault = slot.counters()["fault"]
        if fault and name == "hooks":
            what = "hooks: a program failed when it was run last, or events for it were dropped"
            found.append(problem("warning", what, "its reason is in the log: look for `hook failed`, `hook dropped`"))
        elif fault:
            kept = "uploads cannot be stored" if group.service.promise == "custody" else "the history cannot be written"
            what = f"{name}: {kept}: {os.strerror(min(fault, 4095))}"
            found.append(
                problem("warning", what, f"{_writable(fault, jail)}; it goes on by itself when that is mended")
            )
        if slot.state is not Slot.SERVING and slot.failures:
            wait = f", next start in {max(0.0, (slot.due or 0) - time.monotonic()):.1f} s" if slot.due else ""
            what = f"{name} worker {slot.index} died {slot.failures} times, last by {slot.last_exit}{wait}"
            killed = "; if not, dmesg | grep -i oom: MemoryMax= of the unit, or fewer workers"
            reason = f"its reason is in the log of the appliance{killed if 'SIGKILL' in slot.last_exit else ''}"
            found.append(problem("error", what, reason))
        elif slot.state is Slot.SERVING and slot.report.level == "partial":
            what = f"{name} worker {slot.index} is confined only partly"
            found.append(
                problem("warning", what, "start as root, or allow user namespaces: appliance check tells more")
            )
        elif slot.state is Slot.SERVING and not slot.report.landlock_abi:
            found.append(_without_landlock(group, slot))
    return [one for i, one in enumerate(found) if one not in found[:i]]


def _without_landlock(group: Group, slot: WorkerSlot) -> dict[str, str]:
    """A worker locks itself into its folder by entering it: where it may not, the kernel is not to blame."""
    service = group.service
    if group.jail_closed():
        what = f"{service.name}: uid {service.uid} may not enter {service.jail}, so nothing is served"
        return problem("error", what, f"chmod a+rx {service.jail}; appliance reload")
    return problem("warning", f"{service.name} worker {slot.index} has no Landlock", "a kernel with Landlock (5.13)")


def _bring_back(jail: str) -> str:
    """The command for a folder that is missing; where a link leads nowhere, `mkdir` would say that it exists."""
    there = jail
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    return f"ln -sfn FOLDER {there}, a link that leads nowhere" if os.path.islink(there) else f"mkdir -p {jail}"


def _writable(fault: int, jail: str) -> str:
    if fault == errno.EROFS:
        return f"findmnt -T {jail}; dmesg | tail; mount -o remount,rw it"
    if fault in (errno.EPERM, errno.ENOSYS, errno.ENOTSUP):  # vfat, exfat, some FUSE
        return f"findmnt -T {jail}; its file system has no hard links or modes: take ext4, xfs or btrfs"
    return f"df -h {jail}; df -i {jail}; ls -ld {jail}"


def problem(severity: str, what: str, remedy: str) -> dict[str, str]:
    """One entry of `problems`."""
    return {"severity": severity, "what": what, "remedy": remedy}
