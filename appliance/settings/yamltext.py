"""Turn YAML text into nodes that know their file, line and column; the only importer of yaml.

The scalars are those of the YAML 1.2 core schema (section 10.3.2): an unquoted 52:54:00:12:34:56, `off`, `yes` or a
date stays text. What a configuration does not need is refused with a reason: aliases (a few lines of them become
gigabytes), tags, merge keys, several documents, duplicate keys. Invariant: time and memory are bounded by the size of
the text; the tree is built from parser events, so the limits hold before anything nested or repeated exists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml
from yaml import events

from appliance.errors import Problem

LARGEST = 1 << 20  # bytes of one file
DEEPEST = 32  # mappings and lists inside each other
MOST = 50_000  # values in one file

Scalar: TypeAlias = str | int | float | bool | None

_ENDS = ("end of stream", "<stream end>")
_OPENED = (("quoted scalar", "quote"), ("flow sequence", "bracket"), ("flow mapping", "brace"))
_NOT_YAML = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # YAML 1.2 section 5.1
_SURROGATE = re.compile("[\ud800-\udfff]")
_NULL, _TRUE, _FALSE = ("", "~", "null", "Null", "NULL"), ("true", "True", "TRUE"), ("false", "False", "FALSE")
# Numbers that no setting can hold stay text: int() takes quadratic time, and refuses more than 4300 digits.
_INTS = (
    (re.compile(r"[-+]?[0-9]{1,20}"), 10),
    (re.compile(r"0o[0-7]{1,20}"), 8),
    (re.compile(r"0x[0-9a-fA-F]{1,16}"), 16),
)
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,20}|[0-9]{1,20}(\.[0-9]{0,20})?)([eE][-+]?[0-9]{1,3})?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

_REMEDIES = (  # part of the parser's sentence, what to do about it
    ("mapping values are not allowed", "quote a text that contains ': ', and check the indentation"),
    ("could not find expected ':'", "write KEY: VALUE"),
    ("expected the node content", 'write a value, close every bracket, and quote a text with brackets: "[::]:69"'),
    ("expected <block end>", "check the indentation, and quote a text that begins with a quote or a bracket"),
    ("expected ',' or ']'", "close the list with ], and quote a text that contains brackets"),
    ("expected ',' or '}'", "close the mapping with }, and quote a text that contains braces"),
    ("expected alphabetic or numeric character", "quote a text that begins with * or &"),
    ("that cannot start any token", "quote the text"),
    ("unknown escape character", "use single quotes, or double the backslash"),
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands; line and column count from 1."""

    file: str
    line: int
    column: int

    def problem(self, what: str, remedy: str, key: str = "", severity: str = "error") -> Problem:
        """A finding about this place, with texts that are safe to print."""
        return Problem(severity, clean(what), clean(remedy), clean(key), self.file, self.line, self.column)


def clean(text: str) -> str:
    """What a configuration says, made fit for one line of a terminal and cut to a sensible length."""
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[:300])
    return f"{text[:240]}..." if len(text) > 250 else text


Value: TypeAlias = "dict[str, Node] | list[Node] | Scalar"


@dataclass(slots=True)
class Node:
    """One value; `key` is the place of its key, `text` what stands there for a scalar."""

    value: Value
    place: Place
    key: Place
    text: str = ""


@dataclass(slots=True)
class Document:
    """What one file says. `root` is None when it says nothing; `broken`: it could not be read to its end."""

    root: Node | None = None
    problems: list[Problem] = field(default_factory=list)
    broken: bool = False


def parse(name: str, content: bytes) -> Document:
    """Read one file. Never raises: what is wrong is in `problems`, what could be read nevertheless in `root`."""
    document = Document()
    try:
        document.root = _Builder(name, _events(name, _text(name, content)), document.problems).document()
    except _Broken as stop:
        document.problems.append(stop.problem)
        document.broken = True
    return document


def _events(name: str, text: str) -> Iterator[events.Event]:
    loader = yaml.SafeLoader(text)
    try:
        while True:  # whoever reads stops at the end of the stream, or before
            event: events.Event = loader.get_event()  # type: ignore[no-untyped-call]
            yield event
    except yaml.MarkedYAMLError as error:
        raise _Broken(_explained(name, error)) from None
    except (ValueError, OverflowError):  # PyYAML 6.0.3: "\UFFFFFFFF", and a %YAML version of thousands of digits
        raise _Broken(_place(name, loader.get_mark()).problem("not YAML: a number too large", "check it")) from None
    finally:
        loader.dispose()


class _Broken(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def _recode(name: str, content: bytes) -> str:
    if b"\0" in content and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "this is no text file: name the right one"
    old = "LATIN1" if b"\0" not in content else "UTF-16"
    return f"iconv -f {old} -t UTF-8 {name} > {name}.new && mv {name}.new {name}"


def _text(name: str, content: bytes) -> str:
    if len(content) > LARGEST:
        what = f"more than {LARGEST >> 20} MiB"
        raise _Broken(Place(name, 1, 1).problem(what, "split it into files in conf.d, or name the right file"))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        good = error.object[: error.start].decode("utf-8")
        byte = error.object[error.start]
        what = f"byte 0x{byte:02x} is not UTF-8"
        raise _Broken(_end_of(name, good).problem(what, _recode(name, content))) from None
    if found := _NOT_YAML.search(text):
        what = f"character U+{ord(found[0]):04X} is not allowed"
        raise _Broken(_end_of(name, text[: found.start()]).problem(what, "remove it"))
    return text


def _end_of(name: str, text: str) -> Place:
    return Place(name, text.count("\n") + 1, len(text) - text.rfind("\n"))


def _explained(name: str, error: yaml.MarkedYAMLError) -> Problem:
    place = _place(name, error.problem_mark)
    what = str(error.problem)
    if "'\\t'" in what:
        return place.problem("a tab cannot be used here", "indent and separate with spaces")
    opened = next((thing for part, thing in _OPENED if part in str(error.context)), "")
    if opened and any(end in what for end in _ENDS):
        where = _place(name, error.context_mark)  # where the file ends tells nobody what to close
        return where.problem(f"not YAML: the {opened} that opens here is never closed", "close it")
    remedy = next((remedy for part, remedy in _REMEDIES if part in what), "check this line and the one above")
    return place.problem(f"not YAML: {what}", remedy)


def _place(name: str, mark: Any) -> Place:
    # Every event and every error of the parser carries a mark; only its type says that it might not.
    return Place(name, mark.line + 1, mark.column + 1)


class _Builder:
    """Builds nodes from events; collects what is wrong but readable, and raises _Broken at a limit."""

    def __init__(self, name: str, stream: Iterator[events.Event], problems: list[Problem]) -> None:
        self._name = name
        self._stream = stream
        self._problems = problems
        self._count = 0

    def document(self) -> Node | None:
        """The single document of the stream, or None for an empty one."""
        next(self._stream)  # the start of the stream
        if isinstance(next(self._stream), events.StreamEndEvent):
            return None
        first = next(self._stream)
        root = self._node(first, self._place(first), 1)
        next(self._stream)  # the end of the document
        after = next(self._stream)
        if isinstance(after, events.DocumentStartEvent):
            self._complain(after, "a second document begins here", "remove the ---, or use a file in conf.d")
        if root.value is None and root.text == "":
            return None
        return root

    def _place(self, event: events.Event) -> Place:
        return _place(self._name, event.start_mark)

    def _complain(self, event: events.Event, what: str, remedy: str) -> None:
        self._problems.append(self._place(event).problem(what, remedy))

    def _node(self, event: events.Event, key: Place, depth: int) -> Node:
        place = self._place(event)
        self._count += 1
        if self._count > MOST:
            raise _Broken(place.problem(f"more than {MOST} values", "split it into files in conf.d"))
        if depth > DEEPEST:
            raise _Broken(place.problem(f"nested deeper than {DEEPEST} levels", "no setting is; check the brackets"))
        self._refuse_extras(event)
        if isinstance(event, events.MappingStartEvent):
            return Node(self._mapping(depth), place, key)
        if isinstance(event, events.SequenceStartEvent):
            return Node([self._node(item, self._place(item), depth + 1) for item in self._until_end()], place, key)
        if isinstance(event, events.ScalarEvent):
            self._refuse_surrogates(event)
            return Node(scalar(event.value) if event.implicit[0] else event.value, place, key, event.value)
        return Node(None, place, key)  # an alias: complained about, and its name goes no further

    def _refuse_extras(self, event: events.Event) -> None:
        if isinstance(event, events.AliasEvent):
            self._complain(event, f"aliases (*{event.anchor}) are not used here", "write the value, or quote the text")
            return
        if anchor := getattr(event, "anchor", None):
            self._complain(event, f"anchors (&{anchor}) are not used here", "remove it, or quote the text")
        if tag := getattr(event, "tag", None):
            self._complain(event, f"tags ({_short(tag)}) are not used here", "remove it, or quote the text")

    def _refuse_surrogates(self, event: events.ScalarEvent) -> None:
        if found := _SURROGATE.search(event.value):
            self._complain(event, f"\\u{ord(found[0]):04X} is half a character", "write the whole one: \\UXXXXXXXX")
            event.value = _SURROGATE.sub("?", event.value)

    def _until_end(self) -> Iterator[events.Event]:
        for event in self._stream:
            if isinstance(event, events.CollectionEndEvent):
                return
            yield event

    def _mapping(self, depth: int) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for event in self._until_end():
            key = self._node(event, self._place(event), depth + 1)
            value = self._node(next(self._stream), key.place, depth + 1)
            if isinstance(event, events.AliasEvent):
                continue
            if not isinstance(event, events.ScalarEvent):
                self._complain(
                    event, "a key is a text", "write KEY: VALUE, and quote a text that begins with a bracket"
                )
            elif key.text == "<<" and event.implicit[0]:
                self._complain(event, "merge keys (<<) are not used here", "write the keys out")
            elif key.text in found:
                first = found[key.text].key.line
                self._complain(event, f"{key.text} is written twice, first in line {first}", "remove one of them")
            else:
                found[key.text] = value
        return found


def _short(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")[:40]


def scalar(text: str) -> Scalar:
    """The value of an unquoted scalar in the YAML 1.2 core schema."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    for form, base in _INTS:
        if form.fullmatch(text):
            return int(text, base)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITE.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text
