"""Read the nodes of a manifest into checked values, and collect all that is wrong on the way. Pure.

Every reader of a key notes that it was asked for; what nobody asked for is an unknown key. A value that is wrong is
complained about at its place and read as its default, so that one mistake is told once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator

from appliance.boot.model import Var
from appliance.errors import Problem
from appliance.settings import forms, units
from appliance.settings.forms import Unfit
from appliance.settings.yamltext import Node, Place

Check = Callable[[str], str]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MAC_PREFIX = re.compile("([0-9a-f]{2}:){1,4}[0-9a-f]{2}")
_LONGEST = 900  # bytes of a path in the tree: what a loader's own prefix adds still fits


class Section:
    """One mapping of the manifest. `where` is its key as people write it."""

    def __init__(self, node: Node, where: str, problems: list[Problem]) -> None:
        self.place = node.place
        self.where = where
        self.problems = problems
        self._seen: set[str] = set()
        self._nodes: dict[str, Node] = node.value if isinstance(node.value, dict) else {}
        if not isinstance(node.value, dict) and node.value is not None:
            self._complain(node, "no keys where a section belongs", "write KEY: VALUE lines below it, indented")

    def key(self, name: str) -> str:
        """The whole key of one below this section."""
        return f"{self.where}.{name}" if self.where else name

    def at(self, name: str) -> Place:
        """Where a key stands, or the section when it does not."""
        return self._nodes[name].place if name in self._nodes else self.place

    def has(self, name: str) -> bool:
        """Whether the key is written."""
        return name in self._nodes

    def problem(self, what: str, remedy: str, name: str = "") -> None:
        """Something wrong about a key, or about the section as a whole."""
        key = self.key(name) if name else self.where
        self.problems.append(self.at(name).problem(what, remedy, key))

    def _complain(self, node: Node, what: str, remedy: str, key: str = "") -> None:
        self.problems.append(node.place.problem(what, remedy, key or self.where))

    def _node(self, name: str) -> Node | None:
        self._seen.add(name)
        return self._nodes.get(name)

    def text(self, name: str, check: Check | None = None, default: str = "") -> str:
        """One text; a number is taken as it is written."""
        node = self._node(name)
        return default if node is None else self._text(node, self.key(name), check, default)

    def _text(self, node: Node, key: str, check: Check | None, default: str) -> str:
        if isinstance(node.value, (dict, list)) or node.value is None:
            self._complain(node, "no text", "write one text, or take the key out", key)
            return default
        try:
            return check(node.text) if check else node.text
        except Unfit as error:
            self._complain(node, error.what, error.remedy, key)
            return default

    def texts(self, name: str, check: Check | None = None) -> tuple[str, ...]:
        """A list of texts; a single one may stand without brackets."""
        node = self._node(name)
        if node is None:
            return ()
        if isinstance(node.value, list):
            if not node.value:
                self._complain(node, "an empty list", "write at least one, or take the key out", self.key(name))
            found = [self._text(item, f"{self.key(name)}[{i}]", check, "") for i, item in enumerate(node.value)]
        else:
            found = [self._text(node, self.key(name), check, "")]
        return tuple(text for text in found if text)

    def flag(self, name: str) -> bool:
        """True or false; false when it is left out."""
        node = self._node(name)
        if node is not None and not isinstance(node.value, bool):
            self._complain(
                node, f"{units.shown(node.text)} is not true or false", "write true or false", self.key(name)
            )
        return node is not None and node.value is True

    def choice(self, name: str, choices: tuple[str, ...], default: str = "") -> str:
        """One of some words."""
        return self.text(name, one_of(choices), default)

    def size(self, name: str, lowest: int, highest: int, default: int) -> int:
        """Bytes."""
        return int(self._measure(name, units.parse_size, lowest, highest, default))

    def duration(self, name: str, lowest: float, highest: float, default: float) -> float:
        """Seconds."""
        return float(self._measure(name, units.parse_duration, lowest, highest, default))

    def _measure(
        self, name: str, parse: Callable[[object], float], lowest: float, highest: float, default: float
    ) -> float:
        node = self._node(name)
        if node is None:
            return default
        try:
            number = parse(node.value)
        except Unfit as error:
            self._complain(node, error.what, error.remedy, self.key(name))
            return default
        if not lowest <= number <= highest:
            shape = units.format_size if parse is units.parse_size else units.format_duration
            remedy = f"write {shape(int(lowest))} to {shape(int(highest))}"
            self._complain(node, f"{units.shown(node.text)} is out of range", remedy, self.key(name))
            return default
        return number

    def section(self, name: str) -> Section:
        """The mapping below a key; an empty one when it is left out."""
        node = self._node(name)
        return Section(node or Node({}, self.place, self.place), self.key(name), self.problems)

    def named(self, name: str, check: Check | None = None) -> Iterator[tuple[str, Section]]:
        """The mappings of a mapping, each with its name."""
        for item, node in self._pairs(name, check or plain_name):
            yield item, Section(node, f"{self.key(name)}.{item}", self.problems)

    def items(self, name: str) -> Iterator[Section]:
        """The mappings of a list."""
        node = self._node(name)
        if node is None:
            return
        if not isinstance(node.value, list):
            self._complain(node, "no list", "write a list: each item on a line that begins with -", self.key(name))
            return
        for i, item in enumerate(node.value):
            yield Section(item, f"{self.key(name)}[{i}]", self.problems)

    def variables(self, name: str) -> tuple[Var, ...]:
        """Names with a scalar or a list of texts."""
        found = []
        for item, node in self._pairs(name, variable_name):
            key = f"{self.key(name)}.{item}"
            if isinstance(node.value, dict):
                self._complain(node, "a section where a value belongs", "write a text, a number or a list", key)
            elif isinstance(node.value, list):
                found.append(Var(item, tuple(self._text(part, key, None, "") for part in node.value)))
            else:
                found.append(Var(item, node.value))
        return tuple(found)

    def pairs(self, name: str, check: Check, value: Check) -> tuple[Var, ...]:
        """Names with one text each."""
        return tuple(
            Var(item, text)
            for item, node in self._pairs(name, check)
            if (text := self._text(node, f"{self.key(name)}.{item}", value, ""))
        )

    def _pairs(self, name: str, check: Check) -> Iterator[tuple[str, Node]]:
        node = self._node(name)
        if node is None or node.value is None:
            return
        if not isinstance(node.value, dict):
            self._complain(node, "no keys where a section belongs", "write NAME: VALUE lines below it", self.key(name))
            return
        for item, below in node.value.items():
            try:
                yield check(item), below
            except Unfit as error:
                self.problems.append(below.key.problem(error.what, error.remedy, self.key(name)))

    def done(self) -> None:
        """Everything was read: what is left is unknown."""
        for name, node in self._nodes.items():
            if name not in self._seen:
                near = difflib.get_close_matches(name[:60], sorted(self._seen), n=1)
                remedy = f"did you mean {near[0]}?" if near else f"the keys here are {', '.join(sorted(self._seen))}"
                self.problems.append(node.key.problem("unknown key", remedy, self.key(name)))


def one_of(choices: tuple[str, ...]) -> Check:
    """A check for one of some words."""

    def check(text: str) -> str:
        if text not in choices:
            raise Unfit(f"{units.shown(text)} is none of the choices", f"write {', '.join(choices)}")
        return text

    return check


def plain_name(text: str) -> str:
    """The name of a machine, profile, source ...: letters, digits, dots, dashes."""
    if not _NAME.fullmatch(text):
        remedy = "write letters, digits, dots, dashes and underscores, at most 63, with a letter or digit first"
        raise Unfit(f"{units.shown(text)} is no name", remedy)
    return text


def variable_name(text: str) -> str:
    """The name of a variable."""
    if not _VARIABLE.fullmatch(text):
        raise Unfit(
            f"{units.shown(text)} is no name of a variable", "write letters, digits and underscores, a letter first"
        )
    return text


def tree_path(text: str) -> str:
    """The path of a file in the tree; nothing that leaves it, hides in it, or names it twice."""
    if not text or text.endswith("/"):
        raise Unfit(f"{units.shown(text)} names no file", "write the path of a file, without a slash at its end")
    return _inside(text)


def tree_folder(text: str) -> str:
    """The path of a file, or of a folder when it ends in a slash; "/" is the whole tree."""
    return "/" if text == "/" else f"{_inside(text[:-1])}/" if text.endswith("/") else _inside(text)


def _inside(text: str) -> str:
    if text.startswith("/"):
        raise Unfit(f"{units.shown(text)} begins with a slash", f"write {units.shown(text.lstrip('/') or 'a name')}")
    parts = text.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise Unfit(f"{units.shown(text)} is not a plain path", 'write it without "..", "." and double slashes')
    if not text.isprintable() or "\\" in text:
        raise Unfit(f"{units.shown(text)} has characters that no loader asks for", "write letters, digits and dashes")
    if parts[0] == ".releases":
        raise Unfit(".releases belongs to the appliance", "write another folder")
    if len(text.encode()) > _LONGEST or any(len(part.encode()) > 255 for part in parts):
        raise Unfit(f"{units.shown(text)} is too long", f"write at most 255 bytes for a name, {_LONGEST} in all")
    return text


def uuid(text: str) -> str:
    """A machine's UUID (SMBIOS), in lower case."""
    if not _UUID.fullmatch(text.lower()):
        raise Unfit(f"{units.shown(text)} is not a UUID", "write 8-4-4-4-12 hexadecimal digits, as dmidecode prints it")
    return text.lower()


def address(text: str) -> str:
    """The address or the name of a machine."""
    try:
        return forms.ipv4(text)
    except Unfit:
        return forms.host_name(text)


def mac_prefix(text: str) -> str:
    """The first pairs of a MAC address."""
    plain = text.lower().replace("-", ":").rstrip(":")
    if not _MAC_PREFIX.fullmatch(plain):
        raise Unfit(f"{units.shown(text)} is neither a MAC address nor its first pairs", "write 52:54:00:12:34:56")
    return plain


def printable(text: str) -> str:
    """One line."""
    if not text.isprintable():
        raise Unfit("characters that cannot be printed", "write one line of printable characters")
    return text
