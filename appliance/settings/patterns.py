r"""Regular expressions for names, and the text that takes the place of what they find: a subset of Python's. Pure.

Guards: a name comes from a stranger, and Python's matcher goes back and tries again. `steps` bounds how often it can
do so on a name of NAME_MAX bytes, whatever the name; a pattern above STEPS_MAX is refused before it is ever run. The
bound is counted, not measured: a slow machine refuses what a fast one refuses (docs/decisions/0009).
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, TypeAlias

NAME_MAX = 255  # the longest that DHCP option 67 carries
STEPS_MAX = 1 << 19  # of one pattern on one name, at 1 to 10 ns each
STEPS_ALL = 1 << 21  # of all patterns together
_LONGEST = 500
_DEEPEST = 20
_CLASSES = "dDwWsS"
_QUANTIFIER = re.compile(r"([*+?]|\{([0-9]{0,3})(,?)([0-9]{0,3})\})(\??)")
_GROUP = re.compile(r"\((\?:|\?P<[A-Za-z_][A-Za-z0-9_]*>|(?!\?))")
_PART = re.compile(r"\\(?:(?P<digit>[0-9])|g<(?P<name>[A-Za-z0-9_]+)>|(?P<word>[ix\\]))|(?P<text>[^\\]+)|(?P<bad>\\.?)")
Part: TypeAlias = tuple[Literal["text", "group", "address", "hex"], str]


class PatternError(ValueError):
    """A pattern or a replacement that is not taken; `what` is wrong with it, and `remedy` says what to write."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what, self.remedy = what, remedy


class _Cost(NamedTuple):
    """Of a piece of a pattern, from one place of the name: ways to match there, and steps to try them all."""

    ways: int
    steps: int


_ONE = _Cost(1, 1)
_TOO_MUCH = _Cost(STEPS_MAX + 1, STEPS_MAX + 1)


def steps(text: str) -> int:
    """The most steps that a search for this pattern can take on one name. Raises PatternError."""
    if len(text) > _LONGEST:
        raise PatternError(f"a pattern of {len(text)} characters", f"write at most {_LONGEST}")
    if not text.isascii():
        raise PatternError("names are bytes, and the pattern is not ASCII", "write . for each byte that is not")
    body = text.removeprefix("(?i)")
    reader = _Reader(body)
    cost = reader.alternatives(0)
    if reader.at < len(body):
        raise PatternError(f"{text}: a ) without its (", r"write \) for the character")
    try:
        re.compile(text.encode())
    except re.error as error:
        raise PatternError(f"{text} is not a regular expression: {error.msg}", "mend it") from None
    starts = 1 if reader.anchored else NAME_MAX + 1
    if cost.steps * starts > STEPS_MAX:
        remedy = "begin with ^, write fewer * and +, and none around a group that has one"
        raise PatternError(f"{text} could keep the server busy for long on one name", remedy)
    return cost.steps * starts


def groups(text: str) -> set[str]:
    """What a replacement may refer to: numbers and names of the groups of a pattern that `steps` takes."""
    compiled = re.compile(text)
    return {str(number) for number in range(compiled.groups + 1)} | set(compiled.groupindex)


def parts(text: str) -> tuple[Part, ...]:
    r"""What a replacement is made of: text, `\1` and `\g<name>`, `\i` and `\x`. Raises PatternError."""
    if len(text) > NAME_MAX:
        raise PatternError(f"a text of {len(text)} characters", f"write at most {NAME_MAX}: no name is longer")
    found: list[Part] = []
    for match in _PART.finditer(text):
        if match["bad"]:
            raise PatternError(f"{text}: {match['bad']} means nothing", r"write \0 to \9, \g<name>, \i, \x or \\")
        if match["digit"] or match["name"]:
            found.append(("group", match["digit"] or match["name"].lstrip("0") or "0"))
        elif match["word"] in ("i", "x"):
            found.append(("address" if match["word"] == "i" else "hex", ""))
        else:
            found.append(("text", match["text"] or "\\"))
    return tuple(found)


class _Reader:
    """Reads a pattern from left to right and counts. `anchored`: it can only match at the beginning of the name."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.anchored = True

    def alternatives(self, depth: int) -> _Cost:
        """Up to the end of the group or of the pattern."""
        ways = steps = 0
        while True:
            if not depth and self.text[self.at : self.at + 1] != "^":
                self.anchored = False
            branch = self._sequence(depth)
            ways, steps = ways + branch.ways, steps + branch.steps
            if self.text[self.at : self.at + 1] != "|":
                return _capped(ways, steps)
            self.at += 1

    def _sequence(self, depth: int) -> _Cost:
        ways, steps = 1, 1
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            piece = self._quantified(self._atom(depth))
            ways, steps = ways * piece.ways, steps + ways * piece.steps
        return _capped(ways, steps)

    def _quantified(self, piece: _Cost) -> _Cost:
        match = _QUANTIFIER.match(self.text, self.at)
        if match is None:
            return piece
        self.at = match.end()
        if self.text[self.at : self.at + 1] in ("*", "+", "?", "{"):
            raise PatternError(f"{self.text}: two quantifiers in a row", "write one")
        return _repeated(piece, *_bounds(match))

    def _atom(self, depth: int) -> _Cost:
        character = self.text[self.at]
        if character == "(":
            return self._group(depth)
        if character == "[":
            self._class()
        elif character == "\\":
            self._escape(_CLASSES + "AbBZ")
        elif character in "*+?{":
            raise PatternError(f"{self.text}: nothing before {character}", f"write \\{character} for the character")
        else:
            self.at += 1
        return _ONE

    def _group(self, depth: int) -> _Cost:
        match = _GROUP.match(self.text, self.at)
        if match is None or depth >= _DEEPEST:
            what = f"{self.text}: a group of a kind that is not taken, or too deep"
            raise PatternError(what, "write (...), (?:...) or (?P<name>...); (?i) at the beginning")
        self.at = match.end()
        cost = self.alternatives(depth + 1)
        if self.text[self.at : self.at + 1] != ")":
            raise PatternError(f"{self.text}: a ( without its )", r"write \( for the character")
        self.at += 1
        return cost

    def _class(self) -> None:
        """[...]; what Python may read differently one day (sets within sets) is not taken."""
        self.at += 2 if self.text[self.at + 1 : self.at + 2] == "^" else 1
        first = self.at
        while self.at < len(self.text) and (self.text[self.at] != "]" or self.at == first):
            if self.text[self.at] == "[" or self.text[self.at : self.at + 2] in ("--", "&&", "||", "~~"):
                raise PatternError(f"{self.text}: {self.text[self.at]} inside [...]", f"write \\{self.text[self.at]}")
            if self.text[self.at] == "\\":
                self._escape(_CLASSES)
            else:
                self.at += 1
        if self.at >= len(self.text):
            raise PatternError(f"{self.text}: a [ without its ]", r"write \[ for the character")
        self.at += 1

    def _escape(self, letters: str) -> None:
        following = self.text[self.at + 1 : self.at + 2]
        if not following or (following.isalnum() and following not in letters):
            known = " ".join(f"\\{letter}" for letter in letters)
            raise PatternError(f"{self.text}: \\{following} is not taken", f"write one of {known}")
        self.at += 2


def _bounds(match: re.Match[str]) -> tuple[int, int]:
    sign, least, comma, most, _lazy = match.groups()
    if sign in ("*", "+", "?"):
        return (1 if sign == "+" else 0), (1 if sign == "?" else NAME_MAX)
    low = int(least or 0)
    high = int(most or NAME_MAX) if comma else low
    if low > NAME_MAX or high > NAME_MAX or not (least or most):
        raise PatternError(f"{sign} is not a number of times", f"write {{1,{NAME_MAX}}} or less")
    return low, high


def _repeated(piece: _Cost, low: int, high: int) -> _Cost:
    """`piece` from `low` to `high` times: after k of them the matcher has had ways^k ways to come there."""
    ways, steps, power = 0, 1, 1
    for times in range(high + 1):
        ways += power if times >= low else 0
        steps += power * piece.steps if times < high else 0
        power *= piece.ways
        if max(ways, steps) > STEPS_MAX:
            return _TOO_MUCH
    return _Cost(max(ways, 1), steps)


def _capped(ways: int, steps: int) -> _Cost:
    return _TOO_MUCH if max(ways, steps) > STEPS_MAX else _Cost(ways, steps)
