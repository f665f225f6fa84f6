"""`appliance boot host`: machines are set, listed, removed and imported. They live in state_dir/hosts.d, a file each.

Nothing is written before the manifest with all machines, the new ones included, was found to be right.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli import arming, bootrooms, configuration, machinewords, output
from appliance.cli.options import Config, Json
from appliance.errors import ApplianceError, ExitCode

if TYPE_CHECKING:
    from appliance.boot.folder import Loaded
    from appliance.boot.model import Machine, Owned

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Machines and what they boot.")

_Who = Annotated[str, typer.Argument(metavar="MACHINE", help="A MAC address, or the name of a machine.")]


@app.command("set", short_help="add or change a machine; --once arms it for one boot")
def set_(
    machine: _Who,
    *,
    profile: Annotated[str | None, typer.Option("--profile", help="What it boots; with --once only one time.")] = None,
    once: Annotated[
        bool | None,
        typer.Option(
            "--once/--no-once", help="Boot --profile one time, then what it boots otherwise; --no-once takes that back."
        ),
    ] = None,
    hold: Annotated[
        str, typer.Option("--for", metavar="DURATION", help="With --once: how long it waits for that boot.")
    ] = "24h",
    name: Annotated[
        str | None, typer.Option("--name", help="A name for a new machine, instead of its address.")
    ] = None,
    mac: Annotated[list[str] | None, typer.Option("--mac", help="One more MAC address; may be repeated.")] = None,
    ip: Annotated[str | None, typer.Option("--ip", help="Its IPv4 address.")] = None,
    uuid: Annotated[str | None, typer.Option("--uuid", help="Its SMBIOS UUID.")] = None,
    serial: Annotated[str | None, typer.Option("--serial", help="Its serial number.")] = None,
    arch: Annotated[str | None, typer.Option("--arch", help="bios, x64-efi, arm64-efi, ...")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="A label; repeat.")] = None,
    var: Annotated[list[str] | None, typer.Option("--var", metavar="NAME=VALUE", help="A variable; repeat.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Add a machine, or change what is said about it; what is not given stays as it is.

    The manifest and every machine are looked at first; nothing is written when anything is wrong.

    \b
    Examples:
      appliance boot host set 52:54:00:12:34:56 --name web1 --profile local-disk
      appliance boot host set web1 --profile debian-12-auto --once
      appliance boot host set web1 --no-once
    """
    from appliance.boot import hostsfolder, judge

    given = {"profile": profile, "ip": ip, "uuid": uuid, "serial": serial, "arch": arch}
    settings, _warnings = configuration.find(config, quiet=as_json).load()
    with hostsfolder.changing(settings.state_dir) as folder:
        loaded = _loaded(settings.boot.manifest, settings.state_dir)
        old = machinewords.find(loaded, machine)
        machinewords.may_change(folder, old)
        made = machinewords.checked(
            machinewords.changed(old or machinewords.new(machine, name), given, mac or (), label or (), var or ())
        )
        if once and not profile:
            raise typer.BadParameter("--once needs --profile", param_hint="--once")
        if once is not None:
            permanent = old.profile if old else ""
            made = replace(made, profile=permanent, once=machinewords.armed(profile or "", hold) if once else None)
            made = made if once or not profile else replace(made, profile=profile)
        once_made, alive = _look(settings.boot.manifest, settings.state_dir, [made], loaded)
        hostsfolder.put(folder, [made])
        arming.settle(settings.state_dir, once_made, alive)
    _told([made], as_json=as_json, what="changed" if old else "added")
    if made.once and not settings.observe.events:
        output.remark(f"{judge.UNSEEN} (write observe: {{events: true}}, and reload)")
    bootrooms.refresh(config, quiet=as_json)


@app.command("list", short_help="machines, what they boot and which rule says so")
def list_(
    *,
    unconfirmed: Annotated[
        bool, typer.Option("--unconfirmed", help="Only those that loaded, and nobody confirmed.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List every machine of the manifest and of hosts.d, with what it boots and why, and how far a one-shot boot is.

    \b
    Examples:
      appliance boot host list
      appliance boot host list --unconfirmed
      appliance boot host list --json
    """
    from appliance.boot import machines, plan

    settings, _warnings = configuration.find(config, quiet=as_json).load()
    resolved = _loaded(settings.boot.manifest, settings.state_dir).resolved
    facts = []
    for one in plan.everyone(resolved.manifest, resolved.hosts):
        choice = machines.choose(resolved.manifest, one)
        facts.append(_facts(one) | {"boots": choice.profile.name if choice.profile else None, "rule": choice.rule})
    arming.tell(settings.state_dir, facts)
    if unconfirmed:
        facts = [fact for fact in facts if fact["once"] and fact["once"]["state"] == "loaded"]
    if as_json:
        output.document(facts)
        return
    output.remark(f"{len(facts)} machines")
    now = time.time()
    for fact in facts:
        ids = " ".join(filter(None, (*fact["mac"], fact["uuid"], fact["serial"], fact["ip"])))
        output.fact(f"{fact['name']}  {ids}  {fact['boots'] or 'the menu'} ({fact['rule']}){_waits(fact['once'], now)}")


def _waits(once: dict[str, Any] | None, now: float) -> str:
    if once is None:
        return ""
    left = once["until"] - now
    if once["state"] in ("loaded", "confirmed"):
        return f"  once {once['profile']}, {once['state']}: it boots the rest from now on"
    return f"  once {once['profile']}, {f'for {left / 3600:.1f} h more' if left > 0 else 'expired'}"


@app.command(short_help="say that an installer is done")
def confirm(
    machine: Annotated[list[str], typer.Argument(metavar="MACHINE...", help="MAC addresses or names.")],
    *,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Say that the one-shot boot of machines is done: they stand in `boot host list --unconfirmed` no longer.

    An installer can say it itself, at its end, by fetching what its profile names in `confirm`.

    \b
    Example:
      appliance boot host confirm 52:54:00:12:34:56 web2
    """
    settings, _warnings = configuration.find(config, quiet=as_json).load()
    loaded = _loaded(settings.boot.manifest, settings.state_dir)
    found = [known for one in machine if (known := machinewords.find(loaded, one)) is not None]
    missing = [one for one in machine if machinewords.find(loaded, one) is None]
    if missing:
        raise ApplianceError(f"no machine {missing[0]}: appliance boot host list tells all")
    idle = next((known for known in found if known.once is None), None)
    if idle is not None:
        raise ApplianceError(f"{idle.name} is not armed: appliance boot host set {idle.name} --profile NAME --once")
    for known in found:
        arming.confirm(settings.state_dir, known)
    services = bootrooms.tell(bootrooms.rooms(config, quiet=True), (), 0)  # it is then that the keeper looks
    _told(found, as_json=as_json, what="confirmed")
    if services != "told" and not as_json:
        output.remark(f"no running service was told: {services}")


@app.command(short_help="forget machines")
def rm(
    machine: Annotated[list[str], typer.Argument(metavar="MACHINE...", help="MAC addresses or names.")],
    *,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Forget machines that `set` or `import` wrote; those that a person wrote into a file are named, and stay.

    \b
    Example:
      appliance boot host rm 52:54:00:12:34:56 web2
    """
    from appliance.boot import hostsfolder

    settings, _warnings = configuration.find(config, quiet=as_json).load()
    with hostsfolder.changing(settings.state_dir) as folder:
        loaded = _loaded(settings.boot.manifest, settings.state_dir)
        found = []
        for one in machine:
            known = machinewords.find(loaded, one)
            if known is None:
                raise ApplianceError(f"no machine {one}: appliance boot host list tells all")
            machinewords.may_change(folder, known)
            found.append(known)
        for known in found:
            hostsfolder.remove(folder, known)
        gone = {known.name for known in found}
        arming.settle(settings.state_dir, (), _alive(one for one in loaded.resolved.hosts if one.name not in gone))
    _told(found, as_json=as_json, what="removed")
    bootrooms.refresh(config, quiet=as_json)


@app.command("import", short_help="machines from CSV, dnsmasq or ISC dhcpd")
def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The list; - is standard input.")],
    *,
    form: Annotated[str, typer.Option("--format", help="csv, dnsmasq (hosts or leases) or isc (hosts or leases).")],
    profile: Annotated[
        str | None, typer.Option("--profile", help="What machines boot that the list says nothing of.")
    ] = None,
    update: Annotated[bool, typer.Option("--update", help="Change machines that are known already.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done, and do nothing.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Add the machines of a list. Known ones (by any address) are left as they are, unless --update.

    CSV needs a first line with the names of its columns: name, mac, uuid, serial, ip, arch, profile, label:NAME,
    var:NAME.
    Lines that are no machine are told and left out; the exit code is then 1.

    \b
    Examples:
      appliance boot host import machines.csv --format csv --profile debian-12
      appliance boot host import /var/lib/misc/dnsmasq.leases --format dnsmasq --dry-run
      appliance boot host import /var/lib/dhcp/dhcpd.leases --format isc
    """
    from appliance.boot import hostsfolder, importing

    if form not in importing.FORMATS:
        raise typer.BadParameter(f"{form} is none of {', '.join(importing.FORMATS)}", param_hint="--format")
    listed = importing.read(form, file, _text(file))
    for problem in listed.problems:
        output.remark(str(problem))
    settings, _warnings = configuration.find(config, quiet=as_json).load()
    with hostsfolder.changing(settings.state_dir) as folder:
        loaded = _loaded(settings.boot.manifest, settings.state_dir)
        made, known = machinewords.sort_out(loaded, listed.machines, profile or "", folder, update=update)
        _look(settings.boot.manifest, settings.state_dir, made, loaded)
        if not dry_run:
            hostsfolder.put(folder, made)
    _told(made, as_json=as_json, what="would be written" if dry_run else "written", known=known)
    if made and not dry_run:
        bootrooms.refresh(config, quiet=as_json)
    if listed.problems:
        raise typer.Exit(ExitCode.FAILED)


def _text(file: str) -> str:
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ApplianceError(f"{file}: {cause}") from None


def _loaded(manifest: str, state_dir: str) -> Loaded:
    from appliance.boot import folder

    return folder.load(manifest, state_dir)


def _look(
    manifest: str, state_dir: str, made: Sequence[Machine], loaded: Loaded
) -> tuple[tuple[Owned, ...], frozenset[str]]:
    """Everything together, as it will be: those of `made` that are armed, and every arming there is.

    Raises ConfigError.
    """
    from appliance.boot import folder, plan

    after = folder.load(manifest, state_dir, instead=made)
    names = {machine.name for machine in made}
    one = [machine for machine in after.resolved.hosts if machine.name in names]
    done = plan.plan(replace(after.resolved.manifest, machines=()), one, loaded.secrets, int(time.time()))
    return done.overlay.once, _alive(after.resolved.hosts)


def _alive(machines: Iterable[Machine]) -> frozenset[str]:
    return frozenset(machine.once.id for machine in machines if machine.once is not None)


def _facts(machine: Machine) -> dict[str, Any]:
    once = machine.once
    return {
        "name": machine.name,
        "mac": list(machine.macs),
        "uuid": machine.uuid,
        "serial": machine.serial,
        "ip": machine.ip,
        "arch": machine.arch,
        "profile": machine.profile,
        "labels": {var.name: var.value for var in machine.labels},
        "once": {"profile": once.profile, "until": once.until, "id": once.id} if once else None,
        "origin": machine.origin,
    }


def _told(machines: Sequence[Machine], *, as_json: bool, what: str, known: Sequence[str] = ()) -> None:
    if as_json:
        output.document({"done": what, "machines": [_facts(one) for one in machines], "known": list(known)})
        return
    for one in machines[:20]:
        once = f", once {one.once.profile}" if one.once else ""
        output.fact(f"{one.name}: {what}{once}")
    if len(machines) > 20:
        output.fact(f"and {len(machines) - 20} more")
    if known:
        output.fact(f"{len(known)} known already, left as they are")
