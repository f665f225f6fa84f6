"""Why a machine hangs, in plain words: a table of rules over its story. Pure.

Each rule has a source for what it claims and a test named after it. The first rule that fits is the one that is shown,
so the sure ones stand before the likely ones.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from dataclasses import dataclass

from appliance.board.story import Machine, Step
from appliance.observe.macs import slashed

_BLOCKS = 65535  # RFC 1350 counts blocks in 16 bits
_ETHERNET = 1428  # a block that fits any Ethernet frame with room for a tunnel: 1500 less IP, UDP, TFTP and 40
_NEAR = 0.75  # how alike two names must be for "did you mean"


@dataclass(frozen=True, slots=True)
class World:
    """What is known besides the machine itself: names that were served to somebody, as asked for."""

    served: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a boot and what mends it; `rule` is the name of the row that said so."""

    rule: str
    what: str
    remedy: str


Says = Callable[[Machine, World], "str | None"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: `says` gives the sentence when it fits. `source` is where the claim comes from."""

    name: str
    says: Says
    remedy: str
    source: str


def diagnose(machine: Machine, world: World) -> Finding | None:
    """The first rule that fits; None for a machine that is getting on, or where nothing is known."""
    if machine.state == "booted":
        return _first(AFTER, machine, world)
    return _first(RULES, machine, world)


def _first(rules: tuple[Rule, ...], machine: Machine, world: World) -> Finding | None:
    for rule in rules:
        what = rule.says(machine, world)
        if what is not None:
            return Finding(rule.name, what, rule.remedy)
    return None


def _steps(machine: Machine, *states: str) -> list[Step]:
    return [step for step in machine.steps if step.state in states]


def _second_dhcp(machine: Machine, _world: World) -> str | None:
    mine = machine.addresses
    if len(mine) > 1 and machine.mac and machine.state != "booting":
        return f"it used {len(mine)} addresses in one boot ({', '.join(mine[:3])})"
    return None


def _spelling(machine: Machine, world: World) -> str | None:
    plain = {_plain(name): name for name in world.served}
    for step in _steps(machine, "missing"):
        right = plain.get(_plain(step.file))
        if right is not None and right != step.file:
            return f"it asked for {step.file}; what is here is {right}"
    return None


def _plain(name: str) -> str:
    return slashed(name).lstrip("/")


def _no_grub_beside_shim(machine: Machine, _world: World) -> str | None:
    shim = any("shim" in step.file.lower() or "bootnet" in step.file.lower() for step in _steps(machine, "done"))
    asked = (step for step in _steps(machine, "missing") if step.stage == "loader")
    grub = next((step for step in asked if _base(step.file).startswith("grub")), None)
    return f"shim asked for {grub.file}, which is not here" if shim and grub is not None else None


def _base(name: str) -> str:
    return slashed(name).rpartition("/")[2]


def _missing(machine: Machine, world: World) -> str | None:
    last = machine.last
    if last is None or last.state != "missing" or (last.stage in ("configuration", "module") and _went_on(machine)):
        return None
    near = difflib.get_close_matches(last.file, list(world.served)[:2000], n=1, cutoff=_NEAR)
    return f"it asked for {last.file}, which is not here" + (f" (did you mean {near[0]}?)" if near else "")


def _went_on(machine: Machine) -> bool:
    """A loader that found no file under a name it tries, and then another one that it could use."""
    return machine.complete("configuration")


def _too_long(machine: Machine, _world: World) -> str | None:
    for step in _steps(machine, "failed", "running"):
        end = _BLOCKS * (step.blksize or 512)
        if step.size > end and abs(step.bytes - end) <= 2 * (step.blksize or 512):
            return f"it stopped after block {_BLOCKS} of {step.file} ({step.blksize or 512} bytes each)"
    return None


def _unheard(machine: Machine, _world: World) -> str | None:
    for step in _steps(machine, "unanswered"):
        if step.tries > 1 or machine.state != "booting":
            return f"it asked {step.tries} times for {step.file}, was answered, and never heard the answer"
    return None


def _mtu(machine: Machine, _world: World) -> str | None:
    for step in _steps(machine, "failed", "running"):
        if step.bytes == 0 and step.blksize > _ETHERNET and (step.retransmits > 1 or step.tries > 1):
            return f"blocks of {step.blksize} bytes of {step.file} do not arrive, shorter packets do"
    return None


def _refused_by_firmware(machine: Machine, _world: World) -> str | None:
    loaders = [step for step in _steps(machine, "done", "running") if step.stage == "loader"]
    if not machine.complete("configuration", "kernel", "module") and any(step.tries > 1 for step in loaders):
        again = max(loaders, key=lambda step: step.tries)
        return f"it loaded {again.file} {again.tries} times and never went on"
    return None


def _stopped_within(machine: Machine, _world: World) -> str | None:
    last = machine.last
    if machine.state == "booting" or last is None or last.state not in ("running", "failed") or last.bytes <= 0:
        return None
    where = f" at {last.percent} %" if last.percent >= 0 else f" after {last.bytes} bytes"
    return f"it stopped reading {last.file}{where}"


def _told_and_silent(machine: Machine, _world: World) -> str | None:
    if machine.state != "stalled" or not machine.steps or any(step.stage != "dhcp" for step in machine.steps):
        return None
    return "it was told by DHCP what to load, and never asked for it"


def _quiet_after(machine: Machine, _world: World) -> str | None:
    last = machine.last
    if machine.state != "stalled" or last is None or last.state != "done":
        return None
    return f"it has {last.file} and asks for nothing more"


def _one_shot_used(machine: Machine, _world: World) -> str | None:
    everyday = any(step.stage == "configuration" and step.layer == "overlay" for step in _steps(machine, "done"))
    if everyday and machine.one_shot in ("loaded", "confirmed", "expired"):
        return f"its one-shot boot is over ({machine.one_shot}), so it got its everyday configuration"
    return None


RULES: tuple[Rule, ...] = (
    Rule("second-dhcp", _second_dhcp,
         "look for a second DHCP server on this network: a router or a virtual switch that hands out addresses too",
         "RFC 2131 section 4.4: a client takes whichever offer comes first"),
    Rule("spelling", _spelling,
         "set `tftp.case_insensitive: true`, or a `tftp.remap` rule, or ask by the name that is here",
         "WinPE asks with backslashes and in another case (rs-tftpd 24, puppet-tftp 1)"),
    Rule("no-grub-beside-shim", _no_grub_beside_shim,
         "put grubx64.efi into the folder shim came from (package grub-efi-amd64-signed), or use a recipe with both",
         "seen: shim 15 asks for grubx64.efi beside itself, tries once more after 2 s, then fails"),
    Rule("block-rollover", _too_long,
         "let it agree on a larger blksize: is it in `refuse_options`, or capped by `blksize_max`?",
         "RFC 1350: block numbers have 16 bits; what follows 65535 is not said"),
    Rule("unheard", _unheard,
         "a firewall or NAT drops what comes from another port than 69: open `tftp.port_range`, or use `single_port`",
         "RFC 1350 section 4: the answer comes from a new port (docker-netbootxyz 11, tinkerbell 489)"),
    Rule("mtu", _mtu,
         "something on the way carries less than 1500 bytes: set `blksize_max: 1300` for its network",
         "FOG 455, smee 70: VPN and overlay networks swallow large blocks"),
    Rule("refused-by-firmware", _refused_by_firmware,
         "Secure Boot refuses an unsigned loader (serve shimx64.efi), or it is for another architecture",
         "seen: EDK2 goes on to its next boot entry without a word to the server"),
    Rule("missing", _missing,
         "`appliance boot explain` tells the names this machine asks for; publish it, or put it into the root",
         "an ERROR 1 that the machine did not get over"),
    Rule("stopped-within", _stopped_within,
         "look at the machine: switched off, cable, too little memory for this file; it may also still be busy",
         "no acknowledgement for longer than a client waits (seen: 5 s in U-Boot, 9 s in iPXE)"),
    Rule("told-and-silent", _told_and_silent,
         "a firewall drops UDP port 69 (`appliance firewall nft`), or another DHCP server was quicker",
         "RFC 2131 section 4.4: a client may take another offer; PXE 2.1 section 2.2: the loader is asked for next"),
    Rule("quiet-after", _quiet_after,
         "its screen tells more than the network: the loader may wait for a key, or what it loaded did not start",
         "seen: GRUB without a configuration stays at its prompt and sends nothing"),
)  # fmt: skip
AFTER: tuple[Rule, ...] = (
    Rule("one-shot-used", _one_shot_used,
         "`appliance boot host set MAC --profile NAME --once` arms it again",
         "a one-shot boot ends when kernel and initrd have arrived"),
)  # fmt: skip
"""What is said of a machine that has booted."""
