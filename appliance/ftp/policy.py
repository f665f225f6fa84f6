"""Decide what a command may do before any handler sees it. Pure: line, argument and session state in, a verdict out.

Invariant: the only verb that is ever allowed to write is STOR, directly inside the drop box, while the drop box is on.
What the client is told is a constant for each kind of refusal, so a refusal tells nothing about what exists.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from appliance.ftp.rulings import (
    ARGUMENT,
    BAD_ARGUMENT,
    DENIED,
    EPSV_ONLY,
    MISSING,
    NO_ARGUMENT,
    NO_DATA,
    NO_FOLDERS,
    NO_REIN,
    NO_RESUME,
    NOT_LOGGED_IN,
    STAYS_PRIVATE,
    STAYS_SECURE,
    TLS_ALREADY,
    TLS_FIRST,
    TLS_FOR_DATA,
    TLS_TO_LOG_IN,
    UNKNOWN,
    Drop,
    Place,
    Run,
    Verdict,
)
from appliance.published.layers import HIDDEN


class Argument(Enum):
    """Whether a verb takes an argument."""

    NONE = 0
    OPTIONAL = 1
    REQUIRED = 2


class Use(Enum):
    """What a verb does with its argument, which is what decides where it may be used."""

    CONTROL = 0  # no path
    SETUP = 1  # arranges a data connection
    ENTER = 2
    LIST = 3  # a listing over the data connection
    STATUS = 4  # STAT: of the session, or a listing over the control connection
    FACTS = 5
    FETCH = 6
    ABOUT = 7  # size and time of a file
    STORE = 8
    WRITE = 9  # refused always, everywhere
    SUM = 10  # a checksum of a file
    TLS = 11  # RFC 4217


@dataclass(frozen=True, slots=True)
class Verb:
    """One row of the command table."""

    use: Use
    argument: Argument
    login: bool = True


_NONE, _MAY, _MUST = Argument.NONE, Argument.OPTIONAL, Argument.REQUIRED
VERBS: dict[str, Verb] = {
    # RFC 959 section 4.1 with RFC 1123 section 4.1, RFC 2389 (FEAT, OPTS), RFC 2428 (EPRT, EPSV), RFC 3659 (M*, SIZE),
    # RFC 4217 (AUTH, PBSZ, PROT, CCC)
    "USER": Verb(Use.CONTROL, _MUST, login=False),
    "PASS": Verb(Use.CONTROL, _MAY, login=False),
    "QUIT": Verb(Use.CONTROL, _NONE, login=False),
    "NOOP": Verb(Use.CONTROL, _MAY, login=False),
    "HELP": Verb(Use.CONTROL, _MAY, login=False),
    "SYST": Verb(Use.CONTROL, _NONE, login=False),
    "HOST": Verb(Use.CONTROL, _MUST, login=False),  # RFC 7151
    "FEAT": Verb(Use.CONTROL, _NONE, login=False),
    "CLNT": Verb(Use.CONTROL, _MUST, login=False),
    "OPTS": Verb(Use.CONTROL, _MUST, login=False),
    "STAT": Verb(Use.STATUS, _MAY, login=False),
    "ABOR": Verb(Use.CONTROL, _NONE),
    "ALLO": Verb(Use.CONTROL, _MUST),
    "MODE": Verb(Use.CONTROL, _MUST),
    "PWD": Verb(Use.CONTROL, _NONE),
    "REIN": Verb(Use.CONTROL, _NONE),
    "REST": Verb(Use.CONTROL, _MUST),
    "STRU": Verb(Use.CONTROL, _MUST),
    "TYPE": Verb(Use.CONTROL, _MUST),
    "PASV": Verb(Use.SETUP, _NONE),
    "PORT": Verb(Use.SETUP, _MUST),
    "EPRT": Verb(Use.SETUP, _MUST),
    "EPSV": Verb(Use.SETUP, _MAY),
    "CWD": Verb(Use.ENTER, _MAY),
    "CDUP": Verb(Use.ENTER, _NONE),
    "LIST": Verb(Use.LIST, _MAY),
    "NLST": Verb(Use.LIST, _MAY),
    "MLSD": Verb(Use.LIST, _MAY),
    "MLST": Verb(Use.FACTS, _MAY),
    "RETR": Verb(Use.FETCH, _MUST),
    "SIZE": Verb(Use.ABOUT, _MUST),
    "MDTM": Verb(Use.ABOUT, _MUST),
    "HASH": Verb(Use.SUM, _MUST),  # draft-bryan-ftpext-hash-02; the others are older, and written down nowhere
    **dict.fromkeys(("XCRC", "XMD5", "XSHA256"), Verb(Use.SUM, _MUST)),
    "STOR": Verb(Use.STORE, _MUST),
    "AUTH": Verb(Use.TLS, _MUST, login=False),
    "PBSZ": Verb(Use.TLS, _MUST, login=False),
    "PROT": Verb(Use.TLS, _MUST, login=False),
    "CCC": Verb(Use.TLS, _NONE, login=False),
    **dict.fromkeys(
        ("APPE", "DELE", "MFCT", "MFF", "MFMT", "MKD", "RMD", "RNFR", "RNTO", "SITE", "SMNT", "STOU"),
        Verb(Use.WRITE, _MAY),
    ),
}
MOVES = frozenset(verb for verb, row in VERBS.items() if row.use in (Use.FETCH, Use.STORE))
SYNONYMS = {"XCWD": "CWD", "XCUP": "CDUP", "XPWD": "PWD", "XMKD": "MKD", "XRMD": "RMD"}  # RFC 1123 section 4.1.3.1
# Verbs of HTTP: a browser was made to send a request here; what follows is not the client's own (cross-protocol attack)
FOREIGN = frozenset(("GET", "POST", "HEAD", "PUT", "OPTIONS", "CONNECT", "TRACE", "PATCH", "DELETE", "PRI"))
AT_ONCE = frozenset(("ABOR", "NOOP", "STAT"))


class Command(NamedTuple):
    """One command line. The argument's bytes survive in `argument` (surrogateescape)."""

    verb: str
    argument: str


class State(NamedTuple):
    """What of a session decides about a command.

    `data`: a data connection is arranged. `rest`: REST is pending. `secure`: the control connection is under TLS.
    `private`: data connections will be (PROT P). `kept`: the path of an upload of this session that was cut short.
    """

    logged_in: bool
    cwd: str = "/"
    data: bool = False
    epsv_all: bool = False
    rest: bool = False
    secure: bool = False
    private: bool = False
    kept: str = ""


_RUN = Run()
_REMEMBERED, _REMEMBERED_LENGTH = 1024, 200  # judgements, and bytes of their command lines
_SAID_ONCE = frozenset((b"PORT", b"EPRT", b"STOR", b"REST"))  # with another argument each time: they would fill it
_QUOTED = re.compile(r'"(.*)"(?: +(\d{1,19}))?(?: +(\d{1,19}))?', re.ASCII)
# The name ends where the spaces begin: with any other way to cut them a line of 4,000 spaces costs half a second
_SPAN = re.compile(r"(.*[^ ]) +(\d{1,19}) +(\d{1,19})", re.ASCII)
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_RELEASES = rf"(?i:{re.escape(HIDDEN)})\Z"  # reached by the names of what lies there, never by its own
_TELNET = re.compile(rb"^(?:\xff[\xfb-\xfe].|\xff[\xf0-\xfa]|\xff?\xf2|\xff){1,64}", re.DOTALL)


class Rules:
    """The settings that decide: patterns of hidden names, where the drop box is (None: nowhere), `ftp.tls.mode`."""

    def __init__(self, hide: Iterable[str], box: str | None, tls: str = "off") -> None:
        self.tls = tls
        known = list(hide)
        self._hidden = re.compile("|".join([_RELEASES, *map(fnmatch.translate, known)])).match
        firsts = {HIDDEN[:1], *(pattern[:1] for pattern in known)}
        # what names that are hidden begin with; None where that may be anything
        self.firsts = frozenset(firsts) if firsts.isdisjoint(("", "*", "?", "[")) else None
        self.box = resolve("/", box) if box else None

    def hides(self, name: str) -> bool:
        """True for a name that is neither listed nor served."""
        if self.firsts is not None and name[:1] not in self.firsts:
            return False
        return self._hidden(name) is not None

    def place(self, path: str) -> Place:
        """Where a resolved path lies."""
        if any(self.hides(part) for part in path.split("/") if part):
            return Place.HIDDEN
        if self.box is None or not f"{path}/".startswith(f"{self.box}/"):
            return Place.TREE
        inside = path[len(self.box) + 1 :]
        if not inside:
            return Place.BOX
        return Place.DEEP if "/" in inside else Place.IN_BOX


def parse(line: bytes) -> Command:
    """Split a command line, its line end already gone; never fails (an unusable verb is one that nobody knows).

    Telnet sequences before the verb are dropped (RFC 959 section 4.1.3: IAC IP IAC DM before ABOR); in the argument a
    byte 255 may be doubled (RFC 854: it is IAC), as lftp does.
    """
    if line[:1] in (b"\xff", b"\xf2"):
        line = _TELNET.sub(b"", line)
    verb, _space, argument = line.partition(b" ")
    argument = argument.replace(b"\xff\xff", b"\xff")
    name = verb.decode("latin-1").upper()
    return Command(SYNONYMS.get(name, name), argument.decode("utf-8", "surrogateescape"))


def at_once(command: Command) -> bool:
    """Whether it is answered while a transfer runs; also STAT of a path waits for the reply, which else stood in it."""
    return command.verb in AT_ONCE and not (command.verb == "STAT" and command.argument)


def resolve(cwd: str, name: str) -> str:
    """The absolute path that `name` means in `cwd`; `..` is taken lexically and stops at the root."""
    parts: list[str] = []
    for part in (name if name.startswith("/") else f"{cwd}/{name}").split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def without_flags(argument: str) -> str:
    """The path of a LIST argument such as `-la pub`: clients put flags of `ls` before it, and none changes anything."""
    while argument.startswith("-"):
        argument = argument.partition(" ")[2].lstrip(" ")
    return argument


def span(command: Command) -> tuple[str, int, int | None]:
    """Name, start and end (the first byte left out; None: that of the file) of a command that asks for a checksum.

    `HASH name`; `XCRC name [start end]`; `XCRC "name" [start [end]]`. Without quotes a single number belongs to the
    name, since names with a number at the end are common and half a span is not.
    """
    if command.verb == "HASH":
        return command.argument, 0, None
    found = _QUOTED.fullmatch(command.argument) or _SPAN.fullmatch(command.argument)
    if found is None:
        return command.argument, 0, None
    name, start, end = found.groups()
    return name, int(start or 0), None if end is None else int(end)


def judge(line: bytes, state: State, rules: Rules) -> tuple[Command, Verdict]:
    """`parse` and `decide` a command line. What was judged lately is remembered: clients say the same things again."""
    if state.logged_in and len(line) <= _REMEMBERED_LENGTH and line[:4] not in _SAID_ONCE:
        return _judged(line, state, rules)
    command = parse(line)
    return command, decide(command, state, rules)


@lru_cache(_REMEMBERED)
def _judged(line: bytes, state: State, rules: Rules) -> tuple[Command, Verdict]:
    command = parse(line)
    return command, decide(command, state, rules)


def decide(command: Command, state: State, rules: Rules) -> Verdict:
    """Judge one command. A Run verdict carries the resolved path of verbs that have one."""
    verb = VERBS.get(command.verb)
    if verb is None:
        return Drop() if command.verb in FOREIGN else UNKNOWN
    if verb.use is Use.TLS and rules.tls == "off":
        return UNKNOWN
    if not state.logged_in and (verb.login or (verb.use is Use.STATUS and command.argument)):
        return NOT_LOGGED_IN
    if rules.tls == "required":
        if not state.secure and command.verb in ("USER", "PASS"):
            return TLS_TO_LOG_IN
        if not state.private and verb.use in (Use.LIST, Use.FETCH, Use.STORE):
            return TLS_FOR_DATA
    if verb.use is Use.WRITE:
        return DENIED
    if _CONTROL.search(command.argument):
        return BAD_ARGUMENT
    if verb.argument is Argument.REQUIRED and not command.argument:
        return NO_ARGUMENT
    if verb.argument is Argument.NONE and command.argument:
        return ARGUMENT
    return _JUDGES[verb.use](command, state, rules)


def _control(command: Command, state: State, _rules: Rules) -> Verdict:
    return NO_REIN if command.verb == "REIN" and state.secure else _RUN


def _tls(command: Command, state: State, rules: Rules) -> Verdict:
    if command.verb == "AUTH":
        return TLS_ALREADY if state.secure else _RUN
    if not state.secure:
        return TLS_FIRST
    if command.verb == "CCC":
        return STAYS_SECURE
    clear = command.verb == "PROT" and command.argument.upper() == "C"
    return STAYS_PRIVATE if clear and rules.tls == "required" else _RUN


def _setup(command: Command, state: State, _rules: Rules) -> Verdict:
    return EPSV_ONLY if state.epsv_all and command.verb != "EPSV" else _RUN


def _enter(command: Command, state: State, rules: Rules) -> Verdict:
    path = resolve(state.cwd, ".." if command.verb == "CDUP" else command.argument or "/")
    return _visible(path, rules)


def _visible(path: str, rules: Rules) -> Verdict:
    place = rules.place(path)
    return Run(path, place) if place in (Place.TREE, Place.BOX) else MISSING


def _list(command: Command, state: State, rules: Rules) -> Verdict:
    if not state.data:
        return NO_DATA
    return _visible(resolve(state.cwd, without_flags(command.argument)), rules)


def _status(command: Command, state: State, rules: Rules) -> Verdict:
    return _visible(resolve(state.cwd, without_flags(command.argument)), rules) if command.argument else _RUN


def _facts(command: Command, state: State, rules: Rules) -> Verdict:
    return _visible(resolve(state.cwd, command.argument), rules)


def _fetch(command: Command, state: State, rules: Rules) -> Verdict:
    if not state.data:
        return NO_DATA
    return _about(command, state, rules)


def _about(command: Command, state: State, rules: Rules) -> Verdict:
    path = resolve(state.cwd, command.argument)
    if path == state.kept and command.verb == "SIZE":  # how much of it is here, for REST
        return Run(path, Place.IN_BOX)
    return Run(path) if rules.place(path) is Place.TREE else MISSING


def _sum(command: Command, state: State, rules: Rules) -> Verdict:
    name = span(command)[0]
    return _about(Command(command.verb, name), state, rules) if name else NO_ARGUMENT


def _store(command: Command, state: State, rules: Rules) -> Verdict:
    path = resolve(state.cwd, command.argument)
    place = rules.place(path) if rules.box is not None else Place.TREE
    if place is Place.HIDDEN and rules.box is not None and f"{path}/".startswith(f"{rules.box}/"):
        place = Place.IN_BOX  # the custodian says why such a name is refused
    if place is Place.DEEP:
        return NO_FOLDERS
    if place is not Place.IN_BOX:
        return DENIED
    if state.rest and path != state.kept:
        return NO_RESUME
    return Run(path, place) if state.data else NO_DATA


_JUDGES = {
    Use.CONTROL: _control,
    Use.SETUP: _setup,
    Use.ENTER: _enter,
    Use.LIST: _list,
    Use.STATUS: _status,
    Use.FACTS: _facts,
    Use.FETCH: _fetch,
    Use.ABOUT: _about,
    Use.STORE: _store,
    Use.SUM: _sum,
    Use.TLS: _tls,
}
