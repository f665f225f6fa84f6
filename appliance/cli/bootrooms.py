"""What the verbs of `appliance boot` share: the folders, the manifest with its machines, and telling the services."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.cli import configuration, control, output
from appliance.errors import ApplianceError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.boot.children import Child
    from appliance.boot.folder import Loaded
    from appliance.boot.house import House
    from appliance.boot.model import Overlay, Owned
    from appliance.boot.publish import Keep
    from appliance.boot.records import Given, Release
    from appliance.settings.main import Settings

_PATIENCE_S = 60.0
_PINNED_S = 10.0


@dataclass(frozen=True, slots=True)
class Rooms:
    """One configuration and where its boot files are."""

    config: str
    settings: Settings
    house: House

    def load(self, *, secrets: bool = True) -> Loaded:
        """The manifest and the machines. Raises ConfigError."""
        from appliance.boot import folder

        return folder.load(self.settings.boot.manifest, self.settings.state_dir, secrets=secrets)

    def keep(self, releases: int | None = None) -> Keep:
        """What stays of what was published."""
        from appliance.boot.publish import Keep

        boot = self.settings.boot
        return Keep(releases or boot.keep_releases, now(), boot.pin, _held(self.settings.run_dir))


def _held(run_dir: str) -> tuple[str, ...] | None:
    """The releases that clients are pinned to; None where the services run and do not tell."""
    try:
        lines = list(control.order(run_dir, "pinned", _PINNED_S))
    except control.NotRunning:
        return ()
    except control.NoAnswer:
        return None
    return tuple(" ".join(lines[:-1]).split()) if lines[-1] == "ok" else None


def rooms(config: str | None, *, quiet: bool) -> Rooms:
    """Raises ConfigError."""
    from appliance import boxes
    from appliance.boot.house import Accounts, House
    from appliance.machine import Machine

    found = configuration.find(config, quiet=quiet)
    settings, _warnings = found.load()
    machine = Machine()
    names = ("appliance-boot", "appliance-fetch", "appliance-unpack")
    accounts = [boxes.identity(machine, name) or (-1, -1) for name in names]
    roots = {
        name: service.root for name, service in (("tftp", settings.tftp), ("ftp", settings.ftp)) if service.enabled
    }
    required = settings.confinement == "required"
    house = House(settings.state_dir, roots, Accounts(*accounts), f"{settings.state_dir}/boot-empty", required)
    return Rooms(found.name, settings, house)


def now() -> int:
    """Seconds since the epoch."""
    return int(time.time())


def confined(child: Child) -> None:
    """Say so when a child is not confined as fully as root can have it."""
    if (level := child.ready().level) != "full":
        output.remark(f"confinement: {level} (run as root for accounts of their own)")


def rendered(rooms: Rooms, release: Release) -> tuple[Overlay, tuple[Given, ...]]:
    """The overlay of an older release for the machines of today, and its files. Raises ConfigError and BootError.

    When the manifest of today cannot be used, a rollback may be what mends it: then the machines are those of then.
    """
    from appliance.boot import assemble, machines, model, plan
    from appliance.boot.records import BootError
    from appliance.settings.plain import decode

    try:
        loaded = rooms.load()
        hosts, secrets = loaded.resolved.hosts, loaded.secrets
    except ConfigError as error:
        output.remark(f"the manifest of today cannot be used, so machines are those of then:\n{error}")
        hosts, secrets = (), {}
    try:
        manifest = decode(model.Manifest, release.plan["manifest"], older=True)
    except (TypeError, KeyError, AttributeError, StopIteration) as error:
        raise BootError(
            f"release {release.id} was made by another build, and cannot be rendered by this one"
        ) from error
    for machine in plan.everyone(manifest, hosts):
        choice = machines.choose(manifest, machine)
        if choice.missing:
            output.remark(f"{machine.name}: the release has no profile {choice.missing} (appliance boot publish)")
    made = plan.overlay(manifest, hosts, secrets, now())
    return made, assemble.overlay(made, release.files)


def refresh(config: str | None, *, quiet: bool) -> None:
    """Serve what machines boot now: a new overlay for the release that is served. Raises BootError and ConfigError.

    Before the first publish there is nothing to do: that renders them.
    """
    from appliance.boot import orders

    here = rooms(config, quiet=True)
    if here.house.current() is None:
        return
    with here.house.publisher() as publisher:
        current = here.house.current()  # while nobody else publishes
        if current is None:
            return
        made, overlay = rendered(here, here.house.release(current[0]))
        served = orders.render(publisher, overlay, now())
    services = tell(here, made.once, served.overlay)
    if not quiet:
        output.remark(f"{served.id} is served, overlay {served.overlay}")
        if services != "told":
            output.remark(f"no running service was told: {services}")


def tell(rooms: Rooms, once: Sequence[Owned], overlay: int) -> str:
    """Give the keeper what is armed, and have the running services serve it all: `told`, or why that could not be."""
    from appliance.boot import arming

    try:
        if once:
            arming.hand_over(rooms.settings.state_dir, once, overlay)
    except OSError as error:
        output.remark(f"what is armed was not handed to the keeper: {error.strerror} (appliance run, then publish)")
    try:
        last = ""
        for line in control.order(rooms.settings.run_dir, "release", _PATIENCE_S):
            last = line if line != "failed" else last or line
        return "told" if last == "ok" else last
    except ApplianceError as error:
        return str(error)
