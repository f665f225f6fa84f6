"""`appliance boot publish|releases|diff|rollback|gc`: what is served, and what was."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli import output
from appliance.cli.bootrooms import Rooms, confined, now, rendered, rooms, tell
from appliance.cli.options import Config, Json
from appliance.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.boot.assemble import Tree
    from appliance.boot.layout import Placed
    from appliance.boot.model import Machine, Plan
    from appliance.boot.orders import Served
    from appliance.boot.records import File, Release

Id = Annotated[str, typer.Argument(metavar="ID", help="A release, as `appliance boot releases` shows it.")]


def publish(
    *,
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="Why; shown by `boot releases`.")] = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Serve what was fetched and what is rendered from the manifest, from one moment to the next.

    What machines would not boot from is refused first, and named (exit code 2). Then a complete new tree is made beside
    the one that is served, in every root, and put on disk; one rename makes it the one that counts. Machines that began
    with the old one get the old one until they are done. Files that were put into the roots by hand, and uploads, stay
    as they are. The newest `boot.keep_releases` releases are kept.

    \b
    Example:
      appliance boot fetch && appliance boot publish --note "kernel of June"
    """
    from appliance.boot import assemble, orders, plan, records
    from appliance.observe.text import printable

    here = rooms(config, quiet=as_json)
    with here.house.publisher() as publisher:  # what is read while nobody else publishes is what is published
        loaded = here.load()
        at = now()
        done = plan.plan(loaded.resolved.manifest, loaded.resolved.hosts, loaded.secrets, at)
        sources = here.house.sources()
        tree = assemble.release(done, sources)
        origins = {name: one.location for name, one in sources.items()}
        _judge(here, done, plan.everyone(loaded.resolved.manifest, loaded.resolved.hosts), tree, origins)
        overlay = assemble.overlay(done.overlay, tree.files)
        newest = max(map(records.created, here.house.releases()[-1:]), default=0)
        release = records.make(max(at, newest + 1), printable(note, 300), tree.files, assemble.stored_plan(done))
        if not as_json:
            confined(publisher)
        orders.take(publisher, tree.contents.values())
        served = orders.publish(publisher, release, overlay, here.keep())
    if not as_json:
        for left in tree.left_out:
            output.remark(f"left out, its name is none for a boot file: {left}")
    services = tell(here, done.overlay.once, served.overlay)
    _served(here, served, as_json, services, release)


def _judge(here: Rooms, done: Plan, machines: tuple[Machine, ...], tree: Tree, origins: Mapping[str, str]) -> None:
    """Nothing is published that machines would not boot from. Raises ConfigError; warnings are told."""
    from appliance.boot import judge, lint
    from appliance.settings import dhcp

    root = here.settings.tftp.root

    def peek(placed: Placed, length: int) -> bytes:
        with open(here.house.content(tree.placed[placed]), "rb") as file:
            return file.read(length)

    boot = here.settings.boot
    told = dhcp.told(boot.dhcp, boot.dhcp_server.files)
    there = lint.Tree(done, machines, tuple(tree.placed), peek, judge.by_hand(root), told, origins)
    problems = lint.lint(there)
    if any(problem.severity == "error" for problem in problems):
        raise ConfigError(tuple(problems))
    for problem in problems:
        output.remark(str(problem))


def rollback(name: Id, *, config: Config = None, as_json: Json = False) -> None:
    """Serve an older release again, rendered for the machines of today.

    The release that is served now is kept, so a rollback can be undone by another.

    \b
    Example:
      appliance boot rollback 20260601-120000-0a1b2c3d
    """
    from appliance.boot import orders

    here = rooms(config, quiet=as_json)
    here.house.known(name)
    with here.house.publisher(soon=True) as publisher:
        release = here.house.release(name)  # while the publisher starts: no release is ever changed
        publisher.ready()  # nobody else publishes from here on, so the machines that are read now are those of today
        made, overlay = rendered(here, release)
        served = orders.rollback(publisher, name, overlay, now())
    services = tell(here, made.once, served.overlay)
    _served(here, served, as_json, services, release)


def _served(here: Rooms, served: Served, as_json: bool, services: str, release: Release) -> None:
    unverified = [file for file in release.files if not file.verified]
    facts: dict[str, Any] = {
        "id": served.id,
        "overlay": served.overlay,
        "unchanged": served.unchanged,
        "files": len(release.files),
        "bytes": release.size,
        "unverified": len(unverified),
        "how": dict(served.how),
        "services": services,
    }
    if as_json:
        output.document({"config": here.config, **facts})
        return
    what = "nothing changed but what is rendered for machines" if served.unchanged else f"{len(release.files)} files"
    output.fact(f"{served.id} is served: {what}, {output.size(release.size)}")
    if unverified:
        output.remark(f"UNVERIFIED: {len(unverified)} of them, among them {unverified[0].path}")
    if services != "told":
        output.remark(f"no running service was told: {services}")


def releases(*, config: Config = None, as_json: Json = False) -> None:
    """List the releases that are kept, the newest first; `*` marks the one that is served.

    \b
    Example:
      appliance boot releases
    """
    here = rooms(config, quiet=as_json)
    current = here.house.current()
    found = [here.house.release(name) for name in reversed(here.house.releases())]
    if as_json:
        entries = [{**_entry(one), "current": current is not None and one.id == current[0]} for one in found]
        output.document({"config": here.config, "overlay": current[1] if current else None, "releases": entries})
        return
    for one in found:
        mark = "*" if current and one.id == current[0] else " "
        entry = _entry(one)
        bad = f"  {entry['unverified']} UNVERIFIED" if entry["unverified"] else ""
        note = f"  {one.note}" if one.note else ""
        output.fact(
            f"{mark} {one.id}  {entry['created']}  {len(one.files):>6} files  {output.size(one.size):>11}{bad}{note}"
        )
    if not found:
        output.fact("nothing was published (appliance boot fetch && appliance boot publish)")


def _entry(release: Release) -> dict[str, Any]:
    created = datetime.fromtimestamp(release.created, UTC)
    return {
        "id": release.id,
        "created": created.isoformat().replace("+00:00", "Z"),
        "note": release.note,
        "files": len(release.files),
        "bytes": release.size,
        "unverified": sum(not file.verified for file in release.files),
    }


def diff(
    before: Id,
    after: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Another one; without it the one that is served.")
    ] = None,
    *,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Tell which files came, went and changed from one release to another.

    \b
    Example:
      appliance boot diff 20260601-120000-0a1b2c3d
    """
    from appliance.boot import records
    from appliance.boot.records import BootError

    here = rooms(config, quiet=as_json)
    if after is None:
        current = here.house.current()
        if current is None:
            raise BootError("nothing is published (appliance boot publish)")
        after = current[0]
    old, new = here.house.release(before), here.house.release(after)
    found = records.diff(old.files, new.files)
    if as_json:
        output.document(
            {
                "config": here.config,
                "before": old.id,
                "after": new.id,
                "added": [_file(file) for file in found.added],
                "removed": [_file(file) for file in found.removed],
                "changed": [{"before": _file(one), "after": _file(two)} for one, two in found.changed],
            }
        )
        return
    for file in found.removed:
        output.fact(f"- {file.path} ({output.size(file.size)})")
    for file in found.added:
        output.fact(f"+ {file.path} ({output.size(file.size)}; {file.origin})")
    for one, two in found.changed:
        output.fact(f"! {two.path} ({output.size(one.size)} -> {output.size(two.size)}; {two.origin})")
    if not (found.added or found.removed or found.changed):
        output.fact("no file differs")


def _file(file: File) -> dict[str, Any]:
    return {
        "path": file.path,
        "bytes": file.size,
        "sha256": file.sha256,
        "origin": file.origin,
        "verified": file.verified or "unverified",
        "roots": list(file.roots),
    }


def gc(
    *,
    keep: Annotated[
        int | None,
        typer.Option("--keep", metavar="N", min=1, max=1000, help="Releases to keep; boot.keep_releases without it."),
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Remove old releases, and everything in the store that no kept release and no source of the manifest needs.

    The release that is served is always kept.

    \b
    Example:
      appliance boot gc --keep 2
    """
    from appliance.boot import orders

    here = rooms(config, quiet=as_json)
    sources = {source.name for source in here.load().resolved.manifest.sources}
    with here.house.publisher() as publisher:
        gone, contents, size = orders.collect(publisher, here.keep(keep), sources)
    if as_json:
        output.document({"config": here.config, "releases": list(gone), "contents": contents, "bytes": size})
        return
    output.fact(f"removed {len(gone)} releases and {contents} contents, {output.size(size)}")
