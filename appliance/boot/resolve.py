"""From drafts to one manifest and its machines: recipes merged in, inheritance followed, misfits told. Pure.

What the manifest says wins over its recipes by name; of two recipes that give a loader for one architecture the one
that is named first wins. Invariant: a manifest that comes out of here names nothing that is not in it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from appliance.boot.draft import Draft
from appliance.boot.machines import covers, fits_cpu
from appliance.boot.model import Loader, Machine, Manifest, Menu, Profile, Source, Take, Var
from appliance.boot.templates import names
from appliance.errors import ConfigError, Problem
from appliance.settings import forms
from appliance.settings.forms import Unfit
from appliance.settings.yamltext import Place

_MOST = 100  # problems; the rest is counted


@dataclass(frozen=True, slots=True)
class Resolved:
    """What there is to plan. `secrets` is the file of the secret values, empty when there is none."""

    manifest: Manifest
    hosts: tuple[Machine, ...]
    secrets: str


class _Findings:
    """Problems with their places."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems

    def add(self, place: Place, what: str, remedy: str, key: str = "") -> None:
        self.problems.append(place.problem(what, remedy, key))


def resolve(
    draft: Draft, hosts: Sequence[Draft], catalog: Mapping[str, Draft], secrets: tuple[str, ...] = ()
) -> Resolved:
    """The manifest of `draft` and the machines of `hosts`. Raises ConfigError with every problem of all of them.

    `secrets` are the names that the secrets file has.
    """
    used = [catalog[name] for name in draft.recipes if name in catalog]
    drafts = [*used, draft]
    found = _Findings([problem for one in (*drafts, *hosts) for problem in one.problems])
    for name in draft.recipes:
        if name not in catalog:
            known = ", ".join(sorted(catalog))
            found.add(
                draft.place("recipe", name), f"no recipe {name} in the catalogue", f"there are {known}", "recipes"
            )
    profiles = _profiles(drafts, found)
    manifest = Manifest(
        draft.server,
        tuple(_sources(drafts, found).values()),
        _takes(drafts, found),
        _loaders(used, draft),
        tuple(profiles.values()),
        tuple(draft.groups),
        tuple(draft.machines),
        tuple(rule for one in drafts for rule in one.files),
        tuple(Var(name, text) for name, text in _templates(drafts).items()),
        merged(*(one.vars for one in drafts)),
        _menu(draft, used, profiles),
        draft.default,
        tuple(sorted(secrets)),
    )
    machines = [(one, machine) for one in (draft, *hosts) for machine in one.machines]
    _images(drafts, manifest, found)
    _references(drafts, manifest, profiles, found)
    _machines(machines, profiles, found)
    _groups(draft, profiles, found)
    if found.problems:
        raise ConfigError(_sorted(found.problems))
    return Resolved(manifest, tuple(machine for one in hosts for machine in one.machines), draft.secrets)


def merged(*layers: tuple[Var, ...]) -> tuple[Var, ...]:
    """Variables of which the later layers win."""
    return tuple({var.name: var for layer in layers for var in layer}.values())


def _sources(drafts: Sequence[Draft], found: _Findings) -> dict[str, Source]:
    known: dict[str, Source] = {}
    last = len(drafts) - 1
    for i, draft in enumerate(drafts):
        for name, source in draft.sources.items():
            if i < last and name in known and known[name] != source:
                what = f"the source {name} is another one in a recipe named before"
                found.add(draft.place("source", name), what, "write it into the manifest: that one wins", "sources")
            known[name] = source
    return known


def _takes(drafts: Sequence[Draft], found: _Findings) -> tuple[Take, ...]:
    sources = {name for draft in drafts for name in draft.sources}
    seen: dict[tuple[str, str], Take] = {}
    takes = []
    for draft in drafts:
        for take in draft.takes:
            place = draft.place("take", f"{'+'.join(take.roots)}:{take.path}")
            if take.source not in sources:
                found.add(place, f"no source {take.source}", "write it below sources:, or mend the name", "tree")
            if take in takes:
                continue  # two recipes that need the same file
            clash = [root for root in take.roots if take.path != "/" and (root, take.path) in seen]
            if clash and not take.path.endswith("/"):
                what = f"{take.path} comes from two sources in the root of {clash[0]}"
                found.add(place, what, "remove one of them, or give it another path", "tree")
            seen |= {(root, take.path): take for root in take.roots}
            takes.append(take)
    return tuple(takes)


def _images(drafts: Sequence[Draft], manifest: Manifest, found: _Findings) -> None:
    """Images of GRUB hold the address of the server; GRUB looks no name up."""
    taken = {take.source for take in manifest.takes}
    for draft in drafts:
        for name, source in draft.sources.items():
            if source.unpack == "grub" and name in taken and not is_ipv4(manifest.server):
                what = "an image of GRUB has the address of this server built in"
                found.add(draft.place("source", name), what, "write server: with an IPv4 address", f"sources.{name}")


def is_ipv4(text: str) -> bool:
    """Whether it is an address, and no name."""
    try:
        return bool(forms.ipv4(text))
    except Unfit:
        return False


def _loaders(used: Sequence[Draft], draft: Draft) -> tuple[Loader, ...]:
    chosen: dict[str, Loader] = {}
    for loader in [loader for one in (draft, *used) for loader in one.loaders]:
        chosen.setdefault(loader.arch, loader)
    return tuple(chosen.values())


def _templates(drafts: Sequence[Draft]) -> dict[str, str]:
    return {name: text for draft in drafts for name, text in draft.templates.items()}


def _menu(draft: Draft, used: Sequence[Draft], profiles: Mapping[str, Profile]) -> Menu:
    """The menu that is written, else one of everything that the recipes offer."""
    menu = draft.menu or Menu()
    written = dict.fromkeys(name for one in (*used, draft) for name in one.profiles if name in profiles)
    offered = tuple(name for name in written if _for_anybody(profiles[name]))
    return menu if menu.entries else replace(menu, entries=offered)


def _for_anybody(profile: Profile) -> bool:
    """Whether a profile can be booted from a menu, by a machine that nobody knows anything of."""
    return not profile.answers and profile.action != "none" and not names(profile.args) & {"machine", "secret"}


def _profiles(drafts: Sequence[Draft], found: _Findings) -> dict[str, Profile]:
    written: dict[str, tuple[Draft, str, Profile]] = {}
    for draft in drafts:
        written |= {name: (draft, inherit, profile) for name, (inherit, profile) in draft.profiles.items()}
    finished: dict[str, Profile] = {}
    for name, (draft, _, _) in written.items():
        profile = _inherited(name, written, found)
        if profile is not None:
            _complete(profile, draft, found)
            finished[name] = profile
    return finished


def _inherited(name: str, written: Mapping[str, tuple[Draft, str, Profile]], found: _Findings) -> Profile | None:
    chain: list[str] = []
    at = name
    while at:
        draft, above, _ = written[at]
        chain.append(at)
        place, key = draft.place("use", f"inherit {at}"), f"profiles.{at}.inherit"
        if above and above not in written:
            if at == name:
                found.add(place, f"no profile {above}", _near(above, written), key)
            return None
        if above in chain:
            if above == name:  # told once for each that is in the ring, and not for those that lead into it
                ring = " -> ".join([*chain, above])
                found.add(place, f"profiles inherit in a ring: {ring}", "take one inherit: out", key)
            return None
        at = above
    profile: Profile | None = None
    for at in reversed(chain):
        draft, _, own = written[at]
        profile = own if profile is None else _below(profile, own)
        more = draft.more_args.get(at, "")
        profile = replace(profile, args=f"{profile.args} {more}".strip())
    if profile is not None and not str(profile.action):
        profile = replace(profile, action="linux")
    return profile


def _below(above: Profile, own: Profile) -> Profile:
    """What a profile does not say is said by the one it inherits."""
    plain = "title action arch kernel initrd args chain fdt files memory experimental confirm"
    taken = {name: getattr(own, name) or getattr(above, name) for name in plain.split()}
    answers = {answer.path: answer for answer in (*above.answers, *own.answers)}
    return Profile(own.name, answers=tuple(answers.values()), vars=merged(above.vars, own.vars), **taken)


def _complete(profile: Profile, draft: Draft, found: _Findings) -> None:
    place, key = draft.place("profile", profile.name), f"profiles.{profile.name}"
    if profile.action == "linux" and not profile.kernel and not profile.files:
        found.add(place, "nothing to boot", "write kernel: PATH, chain:, or action: local or none", key)
    if profile.action == "chain" and not profile.chain:
        found.add(place, "nothing to load", "write chain: {bios: PATH, x64-efi: PATH}", key)
    if profile.confirm and "machine" not in names(profile.confirm):
        what = "every machine would fetch the same file, and nobody could tell which of them is done"
        found.add(place, what, 'write confirm: "done/{{ machine.name }}"', f"{key}.confirm")


def _near(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else f"the profiles are {', '.join(sorted(known)) or 'none'}"


def _references(drafts: Sequence[Draft], manifest: Manifest, profiles: Mapping[str, Profile], found: _Findings) -> None:
    draft = drafts[-1]
    uses = [("default", manifest.default, draft.place("use", "default"))]
    uses.append(("menu.default", manifest.menu.default, draft.place("use", "menu.default")))
    uses += [("menu.entries", name, draft.place("menu", "")) for name in manifest.menu.entries]
    for key, name, place in uses:
        if name and name not in profiles and not _broken(name, drafts):
            found.add(place, f"no profile {name}", _near(name, profiles), key)
    templates = {var.name for var in manifest.templates}
    for one in drafts:
        wanted = [
            (one.place("profile", name), f"profiles.{name}.answers", answer.template)
            for name, (_, profile) in one.profiles.items()
            for answer in profile.answers
        ]
        wanted += [(one.place("file", rule.name), "files", rule.template) for rule in one.files]
        for place, key, template in wanted:
            if template and template not in templates:
                found.add(place, f"no template {template}", "write it below templates:, or mend the name", key)


def _broken(name: str, drafts: Sequence[Draft]) -> bool:
    """Whether a profile is written, but of no use: that was told where it stands."""
    return any(name in draft.profiles for draft in drafts)


def _machines(machines: list[tuple[Draft, Machine]], profiles: Mapping[str, Profile], found: _Findings) -> None:
    taken: dict[tuple[str, str], tuple[str, Place]] = {}
    for draft, machine in machines:
        place, key = draft.place("machine", machine.name), f"machines.{machine.name}"
        for what, value in _identities(machine):
            other = taken.setdefault((what, value), (machine.name, place))
            if other[1] != place:
                told = f"{what} {value} is also that of {other[0]} ({other[1].file}:{other[1].line})"
                remedy = "give each machine its own" if what != "the name" else "give it another name, or remove one"
                found.add(place, told, remedy, key)
        wanted = [machine.profile, machine.once.profile if machine.once else ""]
        for name in dict.fromkeys(filter(None, wanted)):
            if name not in profiles:
                use = draft.place("use", f"machine {machine.name}")
                found.add(use, f"no profile {name}", _near(name, profiles), key)
            elif machine.arch and not fits_cpu(profiles[name], machine.arch):
                told = (
                    f"the profile {name} is for {', '.join(profiles[name].arch)}, and {machine.arch} runs none of them"
                )
                found.add(place, told, "choose another profile, or mend arch", key)


def _identities(machine: Machine) -> Iterator[tuple[str, str]]:
    yield "the name", machine.name
    for mac in machine.macs:
        yield "the MAC address", mac
    for what, value in (("the UUID", machine.uuid), ("the serial number", machine.serial), ("the address", machine.ip)):
        if value:
            yield what, value


def _groups(draft: Draft, profiles: Mapping[str, Profile], found: _Findings) -> None:
    for i, group in enumerate(draft.groups):
        place, key = draft.place("group", group.name), f"groups.{group.name}"
        if group.profile and group.profile not in profiles:
            if not _broken(group.profile, [draft]):
                use = draft.place("use", f"group {group.name}")
                found.add(use, f"no profile {group.profile}", _near(group.profile, profiles), f"{key}.profile")
        elif group.profile:
            runs = [arch for arch in group.match.arches if fits_cpu(profiles[group.profile], arch)]
            if group.match.arches and not runs:
                told = f"the profile {group.profile} runs on none of {', '.join(group.match.arches)}"
                found.add(place, told, "choose another profile, or mend match.arch", key)
        above = next((other for other in draft.groups[:i] if covers(other.match, group.match)), None)
        if above is not None:
            told = f"never reached: {above.name} above fits every machine that this one fits"
            found.add(place, told, f"move it above {above.name}, or remove it", key)


def _sorted(problems: list[Problem]) -> tuple[Problem, ...]:
    order = {problem.file: i for i, problem in reversed(list(enumerate(problems)))}
    problems = sorted(dict.fromkeys(problems), key=lambda one: (order[one.file], one.line, one.column))
    if len(problems) > _MOST:
        more = Problem("error", f"{len(problems) - _MOST} more problems", "mend these first", file=problems[_MOST].file)
        problems = [*problems[:_MOST], more]
    return tuple(problems)
