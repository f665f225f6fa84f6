"""What one machine will ask for, which of it is there, and what that comes to: before it is switched on. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from appliance.boot import loaders, machines, names
from appliance.boot.machines import Choice
from appliance.boot.model import Alias, Loader, Machine, Owned, Plan
from appliance.boot.names import Ask

Where = Callable[[str], str]  # a path of the TFTP root -> what it is there: a text, empty for a miss


@dataclass(frozen=True, slots=True)
class Step:
    """One name that is asked for. `found` says what is there; `state`: hit, miss (the boot ends), passed (goes on)."""

    ask: Ask
    state: str
    found: str


@dataclass(frozen=True, slots=True)
class Way:
    """One way in which a machine may come: by which loader, over which files, and the end in plain words."""

    arch: str
    loader: str
    steps: tuple[Step, ...]
    ends: str
    boots: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """A machine, what it boots and by which rule, whether it is armed, and every way that it may come."""

    choice: Choice
    armed: bool
    ways: tuple[Way, ...]


def explain(
    plan: Plan, machine: Machine, arch: str, by_hand: Where, *, told: Mapping[str, str] | None = None
) -> Explanation:
    """The ways of a machine, or those of `arch` when it is not empty. `by_hand` knows what lies in the root itself.

    A machine without a name is one that nobody wrote down. `told`: what our own DHCP service names (settings.dhcp).
    """
    plan = replace(plan, manifest=replace(plan.manifest, loaders=names.as_told(plan.manifest.loaders, told or {})))
    once = next((one for one in plan.overlay.once if one.key == machine.name), None)
    owned = once or next((one for one in plan.overlay.machines if one.key == machine.name), None)
    choice = (
        machines.choose(plan.manifest, machine, once.profile if once else "") if owned else _stranger(plan, machine)
    )
    wanted = arch or machine.arch
    chosen = [one for one in plan.manifest.loaders if one.arch != "ipxe" and wanted in ("", one.arch)]
    where = _where(plan, owned, once is not None, by_hand)
    return Explanation(choice, once is not None, tuple(_way(plan, loader, choice, where) for loader in chosen))


def _stranger(plan: Plan, machine: Machine) -> Choice:
    """Nothing is rendered for a machine that nobody wrote down; only its address may lead it somewhere."""
    profiles = {profile.name: profile for profile in plan.manifest.profiles}
    for group in plan.manifest.groups:
        match = group.match
        alone = not (match.macs or match.uuids or match.serials or match.labels)
        if alone and group.profile and any(machines.within(machine.ip, net) for net in match.networks):
            return Choice(machine, group, profiles[group.profile], f"groups.{group.name}")
    return Choice(machine, None, None, "menu: nobody wrote this machine down")


def _where(plan: Plan, owned: Owned | None, armed: bool, by_hand: Where) -> Where:
    """In the order of the server: what is rendered for the machine, the release, the root."""
    mine = {file.path for file in owned.files if file.root == "tftp"} if owned else set()
    aliases = owned.aliases if owned else ()
    common = {file.path for file in plan.files if file.root == "tftp"}
    takes = {take.path: take for take in plan.takes if "tftp" in take.roots}

    def where(path: str) -> str:
        if path in mine:
            return f"rendered for {owned.key if owned else ''}" + (", armed" if armed else "")
        if path in common:
            return "rendered for everybody"
        real = _behind(aliases, path)
        take = takes.get(real) or next((takes[one] for one in takes if one.endswith("/") and _under(real, one)), None)
        if take is not None:
            whole = "" if not take.path.endswith("/") else f", if it is in {take.member}"
            return f"from {take.source}{whole}"
        return by_hand(path)

    return where


def _under(path: str, folder: str) -> bool:
    return folder == "/" or path.startswith(folder)


def _behind(aliases: tuple[Alias, ...], path: str) -> str:
    for alias in aliases:
        if path.startswith(alias.path):
            return alias.target + path[len(alias.path) :]
    return path


def _way(plan: Plan, loader: Loader, choice: Choice, where: Where) -> Way:
    menu = choice.profile is None
    asks = list(names.of_loader(loader, choice.machine, plan.manifest, menu=menu))
    profile = choice.profile
    if profile is not None:
        asks += names.of_profile(profile, (loader.arch,))
    steps, stopped = _walk(asks, where)
    return Way(loader.arch, loader.file or loaders.kind_of(loader), steps, _ends(choice, steps, stopped), not stopped)


def _walk(asks: list[Ask], where: Where) -> tuple[tuple[Step, ...], bool]:
    """Each name in its order; of a choice what comes after the first hit is not asked for any more."""
    steps: list[Step] = []
    settled: set[str] = set()
    for i, ask in enumerate(asks):
        if ask.choice and ask.what in settled:
            continue
        found = where(ask.path)
        last = not any(other.choice and other.what == ask.what for other in asks[i + 1 :])
        if found:
            steps.append(Step(ask, "hit", found))
            settled |= {ask.what} if ask.choice else set()
        elif ask.needed and (not ask.choice or last):
            steps.append(Step(ask, "miss", ""))
            return tuple(steps), True
        else:
            steps.append(Step(ask, "passed", ""))
    return tuple(steps), False


def _ends(choice: Choice, steps: tuple[Step, ...], stopped: bool) -> str:
    if stopped:
        ask = steps[-1].ask
        return f"stops: {ask.path} is missing ({ask.why}); appliance boot plan tells how to mend it"
    profile = choice.profile
    if profile is None:
        return "shows the menu"
    if profile.action == "local":
        return "goes on to its own disk"
    if profile.action == "none":
        return "gets what files: renders for it"
    mark = f" (experimental: {profile.experimental})" if profile.experimental else ""
    return f"boots {profile.title or profile.name}{mark}"
