"""Read a manifest, a recipe or a file of machines: YAML to a draft that knows where everything stands. Pure.

A recipe is a manifest that says less; so is a file in hosts.d, which says machines only. What drafts say together is
judged by `resolve`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from typing import cast

from appliance.boot import model, origins
from appliance.boot.draft import Draft, Unreadable
from appliance.boot.model import Answer, FileRule, Group, Loader, Machine, Menu, Once, Profile, Selector, Take
from appliance.boot.reading import (
    Section,
    address,
    mac_prefix,
    one_of,
    plain_name,
    printable,
    tree_folder,
    tree_path,
    uuid,
    variable_name,
)
from appliance.settings import forms
from appliance.settings.forms import Unfit
from appliance.settings.units import shown
from appliance.settings.yamltext import parse

ESCAPES = ("line", "yaml", "shell", "xml", "arg", "text")
_LARGEST_TEMPLATE = 1 << 20
_CPUS = tuple(sorted({cpu for cpus in model.CPUS.values() for cpu in cpus}))
_ROOTS: dict[str, tuple[model.Root, ...]] = {"tftp": ("tftp",), "ftp": ("ftp",), "both": ("tftp", "ftp")}
_BY_NAME = (("yaml", (".yaml", ".yml", "user-data", "meta-data", ".json")), ("xml", (".xml",)))


def read(name: str, content: bytes, texts: Callable[[str], str], *, machines_only: bool = False) -> Draft:
    """One document. Never raises for what it says; `texts` gives the text of a template's file or raises Unreadable."""
    document = parse(name, content)
    draft = Draft(name, document.problems)
    if document.root is None:
        return draft
    top = Section(document.root, "", draft.problems)
    if not machines_only:
        _head(top, draft)
        origins.sources(top, draft)
        _tree(top, draft)
        _loaders(top, draft)
        _profiles(top, draft)
        _groups(top, draft)
        _files(top, draft)
        _templates(top, draft, texts)
        _menu(top, draft)
    _machines(top, draft, armed=machines_only)
    top.done()
    return draft


def _head(top: Section, draft: Draft) -> None:
    draft.title = top.text("title", printable)
    draft.experimental = top.text("experimental", printable)
    draft.seen = top.text("seen", printable)
    draft.server = top.text("server", address)
    draft.secrets = top.text("secrets", forms.path)
    draft.recipes = top.texts("recipes", plain_name)
    draft.default = _reference(top, draft, "default", "default")
    draft.vars = top.variables("vars")
    draft.places |= {("recipe", name): top.at("recipes") for name in draft.recipes}
    draft.places["secrets", ""] = top.at("secrets")


def _reference(section: Section, draft: Draft, key: str, of: str) -> str:
    """The name of a profile, remembered with its place."""
    name = section.text(key, plain_name)
    if name:
        draft.places["use", of] = section.at(key)
    return name


def _roots(section: Section, default: str) -> tuple[model.Root, ...]:
    return _ROOTS[section.choice("in", tuple(_ROOTS), default)]


def _tree(top: Section, draft: Draft) -> None:
    for section in top.items("tree"):
        source = section.text("from", plain_name)
        member = section.text("take", tree_folder)
        path = section.text("to", tree_folder)
        roots = _roots(section, "tftp")
        optional = section.flag("optional")
        section.done()
        if not source or not path:
            section.problem("from and to are needed", "write {from: SOURCE, take: MEMBER, to: PATH}")
            continue
        folder = member.endswith("/")
        if folder != path.endswith("/"):
            remedy = "a folder goes to a folder: end both in a slash, or none"
            section.problem("a file and a folder", remedy)
            continue
        draft.places["take", f"{'+'.join(roots)}:{path}"] = section.place
        draft.takes.append(Take(source, member, path, roots, optional))


def _loaders(top: Section, draft: Draft) -> None:
    for arch, section in top.named("loaders", one_of((*model.ARCHES, "ipxe"))):
        file = section.text("file", tree_path)
        kind = section.choice("kind", ("pxelinux", "grub", "shim", "ipxe", "uboot", "rpi"))
        prefix = section.text("prefix", tree_folder).rstrip("/")
        section.done()
        if not kind or (not file and kind not in ("uboot", "rpi")):
            section.problem("file and kind are needed", "write {file: pxelinux.0, kind: pxelinux}")
            continue
        if kind in ("grub", "shim"):
            prefix = prefix or "grub"
        if kind == "ipxe":
            prefix = prefix or "ipxe"
        draft.places["loader", arch] = section.place
        draft.loaders.append(Loader(arch, file, cast("model.LoaderKind", kind), prefix))


def _profiles(top: Section, draft: Draft) -> None:
    for name, section in top.named("profiles"):
        draft.places["profile", name] = section.place
        inherit = section.text("inherit", plain_name)
        if inherit:
            draft.places["use", f"inherit {name}"] = section.at("inherit")
        chain = section.pairs("chain", one_of((*model.ARCHES, "ipxe")), tree_path)
        action = section.choice("action", ("linux", "chain", "local", "none"), "chain" if chain else "")
        profile = Profile(
            name,
            section.text("title", printable),
            cast("model.Action", action),
            section.texts("arch", one_of(_CPUS)),
            section.text("kernel", tree_path),
            section.texts("initrd", tree_path),
            section.text("args", printable),
            chain,
            section.text("fdt", tree_folder),
            section.text("files", tree_folder),
            section.size("memory", 1 << 20, 1 << 50, 0),
            _answers(section),
            section.variables("vars"),
            section.text("experimental", printable) or draft.experimental,
            section.text("confirm", _template_path),
        )
        draft.more_args[name] = section.text("more_args", printable)
        section.done()
        draft.profiles[name] = (inherit, profile)


def _answers(section: Section) -> tuple[Answer, ...]:
    found = []
    for path, below in section.named("answers", _template_path):
        template = below.text("template", plain_name)
        found.append(Answer(path, template, _roots(below, "both"), _escape(below, path)))
        if not template:
            below.problem("no template", "write template: NAME")
        below.done()
    return tuple(found)


def _template_path(text: str) -> str:
    """A path that may contain {{ … }}; what it becomes is checked when it is rendered."""
    tree_path(re.sub(r"\{\{[^{}]*\}\}", "x", text))
    return text


def _escape(section: Section, path: str) -> str:
    base = posixpath.basename(path)
    known = next((escape for escape, ends in _BY_NAME if base.endswith(ends)), "line")
    return section.choice("escape", ESCAPES, known)


def _selector(section: Section, key: str) -> Selector:
    below = section.section(key)
    found = Selector(
        below.texts("mac", mac_prefix),
        below.texts("uuid", uuid),
        below.texts("serial", printable),
        below.texts("net", forms.network),
        below.texts("arch", one_of(tuple(model.ARCHES))),
        below.pairs("labels", variable_name, printable),
    )
    below.done()
    return found


def _groups(top: Section, draft: Draft) -> None:
    for section in top.items("groups"):
        name = section.text("name", plain_name)
        match = _selector(section, "match")
        profile = section.text("profile", plain_name)
        group = Group(name, match, profile, section.variables("vars"))
        section.done()
        if not name:
            section.problem("a group needs a name", "write name: NAME")
            continue
        if ("group", name) in draft.places:
            section.problem(f"two groups {name}", "give each its own name", "name")
        draft.places["group", name] = section.place
        draft.places["use", f"group {name}"] = section.at("profile")
        draft.groups.append(group)


def _files(top: Section, draft: Draft) -> None:
    for section in top.items("files"):
        path = section.text("path", _template_path)
        rule = FileRule(
            section.text("name", plain_name) or path,
            path,
            section.text("template", plain_name),
            _selector(section, "match"),
            _roots(section, "tftp"),
            _escape(section, path),
        )
        section.done()
        if not rule.path or not rule.template:
            section.problem("path and template are needed", 'write {path: "{{ machine.serial }}.cfg", template: NAME}')
            continue
        draft.places["file", rule.name] = section.place
        draft.files.append(rule)


def _templates(top: Section, draft: Draft, texts: Callable[[str], str]) -> None:
    for name, section in top.named("templates"):
        draft.places["template", name] = section.place
        if section.has("text") == section.has("file"):
            section.problem("one of text and file is the template", "write text: |, or file: PATH")
        text = section.text("text", _template_text)
        if file := section.text("file", printable):
            try:
                text = texts(file)
            except Unreadable as error:
                section.problem(str(error), "name a file that can be read", "file")
        section.done()
        draft.templates[name] = text


def _template_text(text: str) -> str:
    if len(text) > _LARGEST_TEMPLATE:
        raise Unfit("a template of more than 1 MiB", "take what does not change into a file of the tree")
    return text


def _menu(top: Section, draft: Draft) -> None:
    section = top.section("menu")
    if not top.has("menu"):
        return
    draft.places["menu", ""] = section.place
    draft.menu = Menu(
        section.text("title", printable) or "Boot menu",
        section.duration("timeout", 0, 3600, 30.0),
        _reference(section, draft, "default", "menu.default"),
        section.texts("entries", plain_name),
        section.flag("serial"),
    )
    section.done()


def _machines(top: Section, draft: Draft, *, armed: bool) -> None:
    for name, section in top.named("machines"):
        machine = Machine(
            name,
            section.texts("mac", forms.mac),
            section.text("uuid", uuid),
            section.text("serial", printable),
            section.text("ip", forms.ipv4),
            section.choice("arch", tuple(model.ARCHES)),
            section.pairs("labels", variable_name, printable),
            section.text("profile", plain_name),
            section.variables("vars"),
            _once(section) if armed and section.has("once") else None,  # else unknown: a manifest outlives the boot
            f"{section.place.file}:{section.place.line}",
        )
        section.done()
        draft.places["machine", name] = section.place
        draft.places["use", f"machine {name}"] = section.at("profile")
        if not (machine.macs or machine.uuid or machine.serial or machine.ip):
            section.problem("nothing tells this machine from others", "write mac, uuid, serial or ip")
        draft.machines.append(machine)


def _once(section: Section) -> Once | None:
    below = section.section("once")
    profile = below.text("profile", plain_name)
    until = below.text("until", _seconds, "0")
    found = Once(profile, int(until), below.text("id", plain_name))
    below.done()
    if not profile or not found.id or not found.until:
        below.problem(
            "profile, until and id are needed", "let appliance boot host set MAC --profile NAME --once write it"
        )
        return None
    return found


def _seconds(text: str) -> str:
    if not re.fullmatch("[0-9]{1,12}", text):
        raise Unfit(f"{shown(text)} is no time", "write seconds since 1970")
    return text
