"""`appliance boot`: its verbs together, and here those that change nothing: what there is, what a manifest means."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli import bootfetch, bootreleases, configuration, happened, host, output
from appliance.cli.options import Config, Json
from appliance.errors import ApplianceError, ConfigError, ExitCode

if TYPE_CHECKING:
    from appliance.boot.explain import Explanation, Way
    from appliance.boot.folder import Loaded
    from appliance.boot.model import Machine, Plan, Source
    from appliance.settings.main import Settings

app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Boot provisioning: what machines boot, from a manifest."
)
app.add_typer(host.app, name="host", short_help="machines: set, list, rm, import")
app.command(short_help="download what the manifest names, and verify it")(bootfetch.fetch)
app.command(short_help="serve what was fetched, from one moment to the next")(bootreleases.publish)
app.command(short_help="what was published, and which one is served")(bootreleases.releases)
app.command(short_help="what differs between two releases")(bootreleases.diff)
app.command(short_help="serve an older release again")(bootreleases.rollback)
app.command(short_help="remove what no kept release needs")(bootreleases.gc)


@app.command(short_help="the recipes: what can be fetched and booted")
def catalog(*, as_json: Json = False) -> None:
    """List the recipes that a manifest can name below `recipes:`, and how far each was seen working.

    \b
    Examples:
      appliance boot catalog
      appliance boot catalog --json
    """
    from appliance.boot import folder

    facts = [
        {
            "name": name,
            "title": recipe.title,
            "seen": recipe.seen,
            "experimental": recipe.experimental,
            "sources": [_source(source) for source in recipe.sources.values()],
            "profiles": list(recipe.profiles),
            "loaders": {loader.arch: loader.file for loader in recipe.loaders},
        }
        for name, recipe in folder.catalog().items()
    ]
    if as_json:
        output.document(facts)
        return
    width = max(len(str(fact["name"])) for fact in facts)
    for fact in facts:
        mark = f"experimental: {fact['experimental']}" if fact["experimental"] else fact["seen"]
        output.fact(f"{fact['name']:{width}}  {fact['title']}\n{'':{width}}  {mark}")


def _source(source: Source) -> dict[str, Any]:
    return {
        "name": source.name,
        "kind": source.kind,
        "at": source.at,
        "unpack": source.unpack,
        "verified": how_verified(source),
        "experimental": source.experimental,
    }


def how_verified(source: Source) -> str:
    """What makes a source genuine, in a phrase."""
    if source.kind == "deb":
        return "signed by its APT archive"
    if source.sha256:
        return f"SHA-256 {source.sha256[:12]}... in the manifest"
    if source.sums is not None:
        return f"digests signed by {source.sums.keyring}"
    return "UNVERIFIED"


def loaded(config: str | None, *, quiet: bool) -> tuple[Settings, Loaded]:
    """A configuration, and its manifest with all machines. Raises ConfigError."""
    from appliance.boot import folder

    settings, _warnings = configuration.find(config, quiet=quiet).load()
    if not quiet:
        output.remark(f"manifest: {settings.boot.manifest}")
    return settings, folder.load(settings.boot.manifest, settings.state_dir)


@app.command(short_help="what a manifest means: sources, files, machines")
def plan(*, config: Config = None, as_json: Json = False) -> None:
    """Tell what would be fetched and published, and what each machine would boot. Nothing is fetched or changed.

    The exit code is 2 when something is wrong with the manifest, the machines or a template; all of it is told, also
    each file that a loader will ask for and that comes from nowhere.

    \b
    Examples:
      appliance boot plan
      appliance boot plan --json
    """
    from appliance.boot import lint
    from appliance.boot import plan as planning
    from appliance.boot.judge import by_hand

    settings, found = loaded(config, quiet=as_json)
    name = settings.boot.manifest
    done = planning.plan(found.resolved.manifest, found.resolved.hosts, found.secrets, int(time.time()))
    everyone = planning.everyone(found.resolved.manifest, found.resolved.hosts)
    told = told_by_dhcp(settings)
    problems = lint.lint(lint.Tree(done, everyone, None, lambda _file, _length: b"", by_hand(settings.tftp.root), told))
    if as_json:
        output.document({"manifest": name, **_facts(done), "problems": output.problems(problems)})
    else:
        output.fact("\n".join(_lines(done)))
    if any(problem.severity == "error" for problem in problems):
        raise typer.Exit(ExitCode.USAGE) if as_json else ConfigError(tuple(problems))
    for problem in problems if not as_json else ():
        output.remark(str(problem))


def _facts(done: Plan) -> dict[str, Any]:
    """No rendered text stands in here: it could hold a secret."""
    machines = [
        {
            "name": owned.key,
            "profile": owned.profile or None,
            "files": [f"{file.root}:{file.path}" for file in owned.files],
            "loads": list(owned.loads),
        }
        for owned in done.overlay.machines
    ]
    armed = [
        {"name": owned.key, "profile": owned.profile, "until": owned.once.until if owned.once else 0}
        for owned in done.overlay.once
    ]
    return {
        "sources": [_source(source) for source in done.sources],
        "takes": [
            {"from": take.source, "take": take.member, "to": take.path, "in": list(take.roots)} for take in done.takes
        ],
        "files": [f"{file.root}:{file.path}" for file in done.files],
        "loaders": {loader.arch: loader.file for loader in done.manifest.loaders},
        "menu": list(done.manifest.menu.entries),
        "machines": machines,
        "armed": armed,
    }


def _lines(done: Plan) -> list[str]:
    lines = [f"sources: {len(done.sources)}"]
    for source in done.sources:
        mark = f" (experimental: {source.experimental})" if source.experimental else ""
        lines.append(f"  {source.name}: {source.kind} {source.at}, {how_verified(source)}{mark}")
    lines.append(f"taken from them: {len(done.takes)}; rendered for everybody: {len(done.files)}")
    lines += [f"  {file.root}:{file.path}" for file in done.files]
    lines.append(f"loaders: {', '.join(f'{one.arch} {one.file}' for one in done.manifest.loaders) or 'none'}")
    profiles = {profile.name: profile for profile in done.manifest.profiles}
    lines.append("menu:")
    for entry in done.manifest.menu.entries:
        mark = f" (experimental: {profiles[entry].experimental})" if profiles[entry].experimental else ""
        lines.append(f"  {entry}: {profiles[entry].title or entry}{mark}")
    lines.append(f"machines: {len(done.overlay.machines)}")
    armed = {owned.key: owned for owned in done.overlay.once}
    for owned in done.overlay.machines:
        once = f", once {armed[owned.key].profile}" if owned.key in armed else ""
        lines.append(f"  {owned.key}: {owned.profile or 'the menu'}{once}, {len(owned.files)} files")
    return lines


@app.command(short_help="what a machine will ask for, and what is there")
def explain(
    machine: Annotated[str, typer.Argument(metavar="MACHINE", help="Name, MAC address, UUID or IPv4 address.")],
    *,
    arch: Annotated[
        str, typer.Option("--arch", metavar="ARCH", help="Only this firmware: bios, x64-efi, arm64-efi, rpi ...")
    ] = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Tell every file that a machine will ask for, in its order, which of them is there, and what comes of it.

    Nothing has to run, and the machine need not be known. When it was seen booting, what really happened follows, from
    the history of events. The exit code is 0 when it boots in every way it may come.

    \b
    Examples:
      appliance boot explain 52:54:00:12:34:56
      appliance boot explain 10.77.0.5 --arch x64-efi --json
    """
    from appliance.boot import explain as explaining
    from appliance.boot import folder, model
    from appliance.boot import plan as planning
    from appliance.boot.judge import by_hand

    if arch and arch not in model.ARCHES:
        raise typer.BadParameter(f"{arch} is none of {', '.join(model.ARCHES)}", param_hint="--arch")
    which = configuration.find(config, quiet=as_json)
    settings, _warnings = which.load()
    manifest = settings.boot.manifest
    if not settings.boot.enabled and not os.path.exists(manifest):
        output.remark(f"there is no manifest {manifest}, so nothing is foretold; what happened is told")
        manifest = os.devnull
    found = folder.load(manifest, settings.state_dir)
    done = planning.plan(found.resolved.manifest, found.resolved.hosts, found.secrets, int(time.time()))
    there = by_hand(settings.tftp.root)
    told = explaining.explain(
        done,
        _who(found, machine),
        arch,
        lambda path: "by hand in the root" if there(path) else "",
        told=told_by_dhcp(settings),
    )
    seen = happened.happened(which, told)
    if as_json:
        output.document(_told(told) | {"happened": seen})
    else:
        output.fact("\n".join([*_story(told), *(happened.lines(seen) if seen else [])]))
    if not told.ways or not all(way.boots for way in told.ways):
        raise typer.Exit(ExitCode.FAILED)


def told_by_dhcp(settings: Settings) -> dict[str, str]:
    """What our own DHCP service tells each kind of machine to load; nothing when it is off."""
    from appliance.settings import dhcp

    return dhcp.told(settings.boot.dhcp, settings.boot.dhcp_server.files)


def _who(found: Loaded, text: str) -> Machine:
    """The machine that is meant; one without a name where nobody wrote it down."""
    from appliance.boot.model import Machine
    from appliance.boot.plan import everyone
    from appliance.boot.reading import uuid
    from appliance.settings import forms

    known = {
        key: one
        for one in everyone(found.resolved.manifest, found.resolved.hosts)
        for key in (one.serial, one.ip, one.uuid, *one.macs, one.name)
        if key
    }
    for shape in (text, text.lower(), text.lower().replace("-", ":")):
        if shape in known:
            return known[shape]
    for field, check in (("macs", forms.mac), ("uuid", uuid), ("ip", forms.ipv4)):
        try:
            value = check(text)
        except forms.Unfit:
            continue
        return Machine("", (value,)) if field == "macs" else Machine("", **{field: value})  # type: ignore[arg-type]
    raise ApplianceError(f"no machine {text}: write a name that appliance boot host list tells, a MAC, UUID or address")


def _told(told: Explanation) -> dict[str, Any]:
    machine, profile = told.choice.machine, told.choice.profile
    return {
        "machine": machine.name or None,
        "mac": list(machine.macs),
        "uuid": machine.uuid,
        "ip": machine.ip,
        "profile": profile.name if profile else None,
        "rule": told.choice.rule,
        "armed": told.armed,
        "ways": [_way(way) for way in told.ways],
    }


def _way(way: Way) -> dict[str, Any]:
    steps = [
        {
            "path": step.ask.path,
            "what": step.ask.what,
            "why": step.ask.why,
            "needed": step.ask.needed,
            "state": step.state,
            "found": step.found,
        }
        for step in way.steps
    ]
    return {"arch": way.arch, "loader": way.loader, "boots": way.boots, "ends": way.ends, "steps": steps}


_MARKS = {"hit": "+", "passed": "-", "miss": "!"}


def _story(told: Explanation) -> list[str]:
    machine, profile = told.choice.machine, told.choice.profile
    name = machine.name or " ".join((*machine.macs, machine.uuid, machine.ip)).strip()
    lines = [f"{name}: {profile.name if profile else 'the menu'} ({told.choice.rule}{', armed' if told.armed else ''})"]
    for way in told.ways:
        lines.append(f"{way.arch}, {way.loader}: {way.ends}")
        for step in way.steps:
            found = step.found or ("MISSING" if step.state == "miss" else "not there, goes on")
            lines.append(f"  {_MARKS[step.state]} {step.ask.path}  {found} ({step.ask.what}: {step.ask.why})")
    return lines if told.ways else [*lines, "no loader is for it: name a recipe like pxelinux, grub or ipxe"]


@app.command(short_help="lines for a DHCP server: dnsmasq, isc, kea, mikrotik, opnsense, openwrt")
def dhcp(
    server: Annotated[str, typer.Argument(metavar="SERVER", help="dnsmasq, isc, kea, mikrotik, opnsense or openwrt.")],
    *,
    config: Config = None,
) -> None:
    """Print what a DHCP server has to say so that machines of every architecture ask this server.

    \b
    Examples:
      appliance boot dhcp dnsmasq > /etc/dnsmasq.d/boot.conf
      appliance boot dhcp kea
    """
    from appliance.boot import dhcp as snippets

    if server not in snippets.SERVERS:
        raise typer.BadParameter(f"{server} is none of {', '.join(snippets.SERVERS)}", param_hint="SERVER")
    _settings, found = loaded(config, quiet=False)
    try:
        output.fact(snippets.snippet(server, found.resolved.manifest).rstrip("\n"))
    except snippets.NoSnippet as error:
        raise ApplianceError(str(error)) from None
    for file in _not_served(config, [offer.file for offer in snippets.offers(found.resolved.manifest)]):
        output.remark(f"{file} is not served now (appliance boot fetch && appliance boot publish)")


def _not_served(config: str | None, files: list[str]) -> list[str]:
    """Those that neither the release that is served has nor the folder of TFTP by hand."""
    from appliance.boot.judge import by_hand
    from appliance.cli.bootrooms import rooms

    here = rooms(config, quiet=True)
    current = here.house.current()
    have = {file.path for file in here.house.release(current[0]).files if "tftp" in file.roots} if current else set()
    there = by_hand(here.settings.tftp.root)
    return [file for file in files if file not in have and not there(file)]
