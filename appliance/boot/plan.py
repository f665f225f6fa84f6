"""From a manifest and its machines to what is fetched, published and rendered. Pure: values in, a `Plan` out.

`overlay` needs nothing but the manifest that a release carries and the present machines, so that an older release can
be rendered for them again. Invariant: what stands in the release or outside of `Overlay.once` was rendered without any
secret in reach.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from appliance.boot import loaders, machines, templates
from appliance.boot.loaders import Entry, Screen
from appliance.boot.machines import Choice
from appliance.boot.model import (
    ARCHES,
    Alias,
    Answer,
    File,
    FileRule,
    Group,
    Loader,
    Machine,
    Manifest,
    Once,
    Overlay,
    Owned,
    Plan,
    Profile,
    Source,
)
from appliance.boot.reading import tree_path
from appliance.boot.templates import TemplateError
from appliance.errors import ConfigError, Problem
from appliance.settings.forms import Unfit

SECRET = "secret"  # noqa: S105 (the name under which templates find them)
_ANYBODY = Machine("")
_MOST = 100  # problems
_DONE = "done\n"  # whoever fetches it has said so
_HURRIED = 5.0  # seconds a menu waits when it stands before a default that is for everybody


def plan(manifest: Manifest, hosts: Iterable[Machine], secrets: Mapping[str, str], now: int) -> Plan:
    """Everything there is to do. `hosts` are the machines of hosts.d, `now` is seconds since 1970.

    Raises ConfigError with every file that cannot be rendered.
    """
    work = _Work(manifest)
    files = tuple(work.common())
    made = work.overlay(hosts, secrets, now)
    work.end()
    return Plan(manifest, sources(manifest), manifest.takes, files, made)


def sources(manifest: Manifest) -> tuple[Source, ...]:
    """What there is to fetch: the sources that something is taken from."""
    used = {take.source for take in manifest.takes}
    return tuple(source for source in manifest.sources if source.name in used)


def overlay(manifest: Manifest, hosts: Iterable[Machine], secrets: Mapping[str, str], now: int) -> Overlay:
    """The files of each machine, for the manifest of a release and the machines that hosts.d has now.

    Raises ConfigError with every file that cannot be rendered.
    """
    work = _Work(manifest)
    made = work.overlay(hosts, secrets, now)
    work.end()
    return made


def everyone(manifest: Manifest, hosts: Iterable[Machine]) -> tuple[Machine, ...]:
    """The machines of the manifest and of hosts.d by name; hosts.d wins over an older release's manifest."""
    return tuple({machine.name: machine for machine in (*manifest.machines, *hosts)}.values())


@functools.lru_cache(maxsize=1024)
def uses_secret(text: str) -> bool:
    """Whether a template asks for a secret."""
    return SECRET in text and SECRET in templates.names(text)


def chosen_loaders(manifest: Manifest, machine: Machine) -> Iterator[Loader]:
    """The loaders a machine may come with, one for each place of configurations; all, when its arch is not known."""
    mine = [loader for loader in manifest.loaders if machine.arch in ("", loader.arch)]
    if any(loader.kind == "ipxe" for loader in mine):
        mine += [loader for loader in manifest.loaders if loader.arch == "ipxe"]
    seen: dict[tuple[str, str], Loader] = {}
    for loader in mine:
        seen.setdefault((loaders.kind_of(loader), loaders.prefix(loader)), loader)
    yield from seen.values()


@dataclass(slots=True)
class _Work:
    """One rendering: the manifest, looked up quickly, and what could not be rendered so far."""

    manifest: Manifest
    problems: list[Problem] = field(default_factory=list)
    profiles: dict[str, Profile] = field(init=False)
    texts: dict[str, str] = field(init=False)
    told: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.profiles = {profile.name: profile for profile in self.manifest.profiles}
        self.texts = {var.name: str(var.value) for var in self.manifest.templates}

    def end(self) -> None:
        """Raises ConfigError with what was collected."""
        if len(self.problems) > _MOST:
            more = Problem("error", f"{len(self.problems) - _MOST} more problems", "mend these first")
            self.problems = [*self.problems[:_MOST], more]
        if self.problems:
            raise ConfigError(tuple(self.problems))

    def common(self) -> Iterator[File]:
        """Menus and entrances by loader, and what is for whole networks; the first to name a path has it."""
        made: dict[str, File] = {}
        menu = self.menu()
        for loader in self.manifest.loaders:
            arches = self._arches(loader)
            for name in loaders.common_names(loader):
                made.setdefault(name, File("tftp", name, _entrance(loader, menu, arches)))
            for group in self.manifest.groups:
                for file in self._of_network(loader, arches, group):
                    made.setdefault(file.path, file)
        yield from made.values()

    def _of_network(self, loader: Loader, arches: tuple[str, ...], group: Group) -> Iterator[File]:
        """Machines that are known only by their network: files under the beginning of their hexadecimal address."""
        match = group.match
        narrower = match.macs or match.uuids or match.serials or match.labels
        if narrower or not group.profile or not match.networks:
            return
        profile = self.profiles[group.profile]
        screen = None if profile.answers else self._single(Choice(_ANYBODY, group, profile, ""), {})
        if screen is None:  # answers are rendered for a machine, and nobody knows one here
            return
        kind = loaders.kind_of(loader)
        if not loaders.starts(kind, screen, arches):  # another loader that asks for the same names may
            return
        for network in match.networks:
            for name in loaders.network_names(loader, network):
                yield File("tftp", name, loaders.write(kind, screen, arches))

    def _arches(self, loader: Loader) -> tuple[str, ...]:
        """The architectures whose clients read the same configuration as this loader's."""
        names = loaders.common_names(loader)
        return tuple(other.arch for other in self.manifest.loaders if loaders.common_names(other) == names)

    def menu(self) -> Screen:
        """What a person sees on a machine that nothing was said about."""
        menu, default = self.manifest.menu, self.manifest.default
        names = [name for name in menu.entries if name in self.profiles and not self.profiles[name].answers]
        names += [default] if default and default not in names else []
        entries = []
        for name in names:
            profile = self.profiles[name]
            entry = self._entry(Choice(_ANYBODY, None, profile, "menu"), profile, {})
            entries += [entry] if entry else []
        timeout = _HURRIED if default and not menu.default else menu.timeout
        return Screen(tuple(entries), menu.default or default, menu.title, timeout, menu.serial)

    def overlay(self, hosts: Iterable[Machine], secrets: Mapping[str, str], now: int) -> Overlay:
        """The files of each machine, and those of its one-shot while that waits."""
        normal, once, warnings = [], [], []
        for machine in everyone(self.manifest, hosts):
            choices = [machines.choose(self.manifest, machine)]
            normal.append(self._owned(choices[0], {}, None))
            if machine.once is not None and machine.once.until > now:
                choices.append(machines.choose(self.manifest, machine, machine.once.profile))
                once += [self._owned(choices[1], secrets, machine.once)] if choices[1].profile else []
            missing = dict.fromkeys(choice.missing for choice in choices if choice.missing)
            warnings += [f"{machine.name}: this release has no profile {name}" for name in missing]
        return Overlay(tuple(normal), tuple(once), tuple(warnings))

    def _owned(self, choice: Choice, secrets: Mapping[str, str], once: Once | None) -> Owned:
        machine, profile = choice.machine, choice.profile
        files: list[File] = []
        aliases: list[Alias] = []
        screen = self._single(choice, secrets)
        taken: dict[str, bool] = {}  # PXELINUX and U-Boot ask for the same names: they are for who can start this
        for loader in chosen_loaders(self.manifest, machine) if screen is not None else ():
            kind, arches = loaders.kind_of(loader), _arches_for(machine, loader)
            text = loaders.write(kind, screen, arches) if screen else ""
            starts = screen is not None and loaders.starts(kind, screen, arches)
            for name in loaders.own_names(loader, machine):
                if name in taken and (taken[name] or not starts):
                    continue
                taken[name] = starts
                files.append(File("tftp", name, text))
                if kind == "rpi" and screen and profile:
                    folder = name.rpartition("/")[0]
                    files.append(File("tftp", f"{folder}/cmdline.txt", f"{screen.entries[0].args}\n"))
                    # A Raspberry Pi forgets its prefix when its firmware is not below it, so all of it has to be.
                    aliases += [Alias("tftp", f"{folder}/", profile.files)] if profile.files else []
        configs = tuple(dict.fromkeys(file.path for file in files))
        rules = [rule for rule in self.manifest.files if machines.fits(rule.match, machine)]
        answers: list[Answer | FileRule] = [*(profile.answers if profile else ()), *rules]
        for answer in answers:
            files += self._rendered(choice, secrets, answer, armed=once is not None)
        confirm = self._confirmed(choice) if once is not None else None
        files += [File("tftp", confirm, _DONE), File("ftp", confirm, _DONE)] if confirm else []
        unique = {(file.root, file.path): file for file in files}
        name = profile.name if profile else machines.MENU
        loads = _loads(profile, machine)
        own, names = tuple(unique.values()), tuple(dict.fromkeys(aliases))
        return Owned(machine.name, name, configs, loads, own, names, once, confirm or "")

    def _confirmed(self, choice: Choice) -> str | None:
        """The path by which an installer says that it is done; None where it does not."""
        if choice.profile is None or not choice.profile.confirm:
            return None
        try:
            return _where(f"confirm of {choice.profile.name}", choice.profile.confirm, self._values(choice, {}))
        except TemplateError as error:
            self._complain(error, choice)
            return None

    def _single(self, choice: Choice, secrets: Mapping[str, str]) -> Screen | None:
        """The configuration that boots one profile at once; None where the common files are right, or none is."""
        if choice.profile is None or choice.profile.action == "none":
            return None
        entry = self._entry(choice, choice.profile, secrets)
        return Screen((entry,), entry.label, serial=self.manifest.menu.serial) if entry else None

    def _entry(self, choice: Choice, profile: Profile, secrets: Mapping[str, str]) -> Entry | None:
        """One profile for one machine (without a name: for any)."""
        try:
            if uses_secret(profile.args):
                what = f"args of {profile.name}: a secret in a command line is read by whoever can log in there"
                raise TemplateError(what, "put it into an answer file")
            args = templates.render(f"args of {profile.name}", profile.args, self._values(choice, secrets), "arg")
            if "${" in args or not args.isprintable():
                raise TemplateError(f"args of {profile.name}: ${{ is a command to a loader", "write it otherwise")
        except TemplateError as error:
            self._complain(error, choice)
            return None
        return Entry(profile.name, profile.title or profile.name, profile, args)

    def _complain(self, error: TemplateError, choice: Choice) -> None:
        """Once for each cause, with the first machine that has it."""
        if error.what in self.told:
            return
        self.told.add(error.what)
        name, profile = choice.machine.name, choice.profile
        key = f"machines.{name}" if name else f"profiles.{profile.name}" if profile else ""
        place = choice.machine.origin.rpartition(":")
        line = int(place[2]) if place[2].isdigit() else 0
        self.problems.append(Problem("error", error.what, error.remedy, key, place[0], line, 1 if line else 0))

    def _values(self, choice: Choice, secrets: Mapping[str, str]) -> dict[str, object]:
        """What a template sees. Only what is known is defined, so that the rest is an error and not an empty text."""
        values = machines.variables(self.manifest, choice)
        if self.manifest.server:
            values["server"] = self.manifest.server
        if choice.machine.name:
            known = {name: value for name, value in machines.facts(choice.machine).items() if value not in ("", [])}
            values |= {"machine": known, "profile": choice.profile.name if choice.profile else ""}
        if secrets:
            values[SECRET] = dict(secrets)
        return values

    def _rendered(
        self, choice: Choice, secrets: Mapping[str, str], rule: Answer | FileRule, *, armed: bool
    ) -> Iterator[File]:
        text = self.texts[rule.template]
        if uses_secret(text) and not armed:
            return  # it exists only while the machine is armed
        try:
            values = self._values(choice, secrets)
            path = _path(rule, values)
            body = templates.render(rule.template, text, values, rule.escape)
        except TemplateError as error:
            self._complain(error, choice)
            return
        for root in rule.roots:
            yield File(root, path, body)


def _entrance(loader: Loader, menu: Screen, arches: tuple[str, ...]) -> str:
    kind = loaders.kind_of(loader)
    if kind == "grub":
        return loaders.grub_entrance(loader, menu, arches)
    if kind == "ipxe":
        return loaders.ipxe_entrance(loader, menu)
    return loaders.write(kind, menu, arches)


def _arches_for(machine: Machine, loader: Loader) -> tuple[str, ...]:
    if machine.arch:
        return (machine.arch,)
    return (loader.arch,) if loader.arch in ARCHES else tuple(ARCHES)


def _loads(profile: Profile | None, machine: Machine) -> tuple[str, ...]:
    """What a machine that boots a profile has to be sent whole."""
    if profile is None or profile.action in ("local", "none"):
        return ()
    if profile.action == "chain":
        file = loaders.chain_file(profile, (machine.arch,) if machine.arch else tuple(ARCHES))
        return (file,) if file else ()
    return tuple(filter(None, (profile.kernel, *profile.initrd)))


def _path(rule: Answer | FileRule, values: Mapping[str, object]) -> str:
    return _where(rule.template, rule.path, values)


def _where(name: str, path: str, values: Mapping[str, object]) -> str:
    try:
        return tree_path(templates.render(f"{name}, its path", path, values, "line"))
    except Unfit as error:
        raise TemplateError(f"template {name}: its path: {error.what}", error.remedy) from None
