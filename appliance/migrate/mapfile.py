"""A map file of in.tftpd(8) to rules of tftp.remap, with what has no counterpart and why. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from appliance.migrate.common import Left

_OPERATIONS = frozenset("rgieasGP46~")
_MOST = 32  # rules that tftp.remap takes
_TURNS = 4  # rules made of one that is applied until it matches no more: names have few places for it
_CLASSES = {  # regex(7) in the C locale
    "alpha": "A-Za-z", "digit": "0-9", "alnum": "A-Za-z0-9", "upper": "A-Z", "lower": "a-z", "xdigit": "A-Fa-f0-9",
    "space": r"\s", "blank": " \t", "punct": r"!-/:-@\[-`{-~",
}  # fmt: skip
_BRACKETED = re.compile(r"\[\^?\]?(?:\[:\w+:\]|[^\]])*\]")
_REFUSED = "what it refused is served now: take those files out of the folder, or write a rule with then: refuse"


def remap(name: str, text: str) -> tuple[list[dict[str, object]], list[Left]]:
    """The rules of a map file, and those that have no counterpart."""
    rules: list[dict[str, object]] = []
    left: list[Left] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = _fields(line)
        if not words:
            continue
        flags, match, to = words[0], words[1] if len(words) > 1 else "", words[2] if len(words) > 2 else ""
        if why := _unfit(flags, match, to):
            left.append(Left(name, number, line.strip(), why))
            continue
        made = [_rule(flags, match, to)] * (_TURNS if {"g", "r"} <= set(flags) else 1)
        if len(rules) + len(made) > _MOST:
            left.append(Left(name, number, line.strip(), f"there are {_MOST} rules at most"))
            continue
        if len(made) > 1:
            left.append(Left(name, number, line.strip(), f"applied {_TURNS} times at most, as {_TURNS} rules"))
        rules += made
    return rules, left


def _rule(flags: str, match: str, to: str) -> dict[str, object]:
    if match.startswith("^/"):
        match = "^" + match[2:]  # our names have no leading slash
    rule: dict[str, object] = {"match": ("(?i)" if "i" in flags else "") + _pattern(match)}
    if "r" in flags and "a" not in flags:
        rule["to"] = to.removeprefix("/") if match.startswith("^") else to
    if ("4" in flags) != ("6" in flags):
        rule["networks"] = ["0.0.0.0/0" if "4" in flags else "::/0"]
    if ("G" in flags) != ("P" in flags):
        rule["requests"] = "read" if "G" in flags else "write"
    if "a" in flags:
        rule["then"] = "refuse"
    elif "e" not in flags:
        rule["then"] = "continue"
    return rule


def _unfit(flags: str, match: str, to: str) -> str:
    """Why a rule is not carried over, "" when it is."""
    if unknown := set(flags) - _OPERATIONS:
        return f"operation {''.join(sorted(unknown))} is none of in.tftpd that we know"
    refuses = f"; {_REFUSED}" if "a" in flags else ""
    if not set("rea") & set(flags):
        return "it changes nothing" if "s" not in flags else "rules are gone through once: there is no beginning anew"
    if "~" in flags:
        return f"a pattern says what a name is, not what it is not: write a rule for the others{refuses}"
    if "s" in flags:
        return f"rules are gone through once: there is no beginning anew{refuses}"
    if {"G", "P"} <= set(flags) or {"4", "6"} <= set(flags):
        return "it is for no request: of two conditions that exclude each other both must hold"
    if "g" in flags and match == r"\\" and to == "/":
        return "backslashes become slashes without any rule"
    if "g" in flags and {"e"} & set(flags):
        return "a rule is applied once, and cannot both repeat itself and be the last"
    if "r" in flags and "a" not in flags and re.search(r"\\[ULE]", to):
        return "case is not changed by a rule: tftp.case_insensitive finds the name in any case"
    return ""


def _pattern(text: str) -> str:
    """An extended regular expression of POSIX (regex(7)) in our words."""
    pieces, at = [], 0
    for found in _outside(text):
        pieces += [re.sub(r"\\[<>]", r"\\b", text[at : found.start()]), _bracket(found[0])]
        at = found.end()
    return "".join([*pieces, re.sub(r"\\[<>]", r"\\b", text[at:])])


def _outside(text: str) -> Iterator[re.Match[str]]:
    """Bracket expressions; a bracket after a backslash begins none."""
    at = 0
    while at < len(text):
        if text[at] == "\\":
            at += 2
        elif found := _BRACKETED.match(text, at):
            yield found
            at = found.end()
        else:
            at += 1


def _bracket(text: str) -> str:
    """In POSIX a backslash or a bracket is one of the characters there, and [:alpha:] a class."""
    start = "[^" if text.startswith("[^") else "["
    pieces = re.split(r"\[:(\w+):\]", text[len(start) : -1])
    plain = [re.sub(r"[\\\[\]]", r"\\\g<0>", piece) for piece in pieces[::2]]
    classes = [_CLASSES.get(name, "") for name in pieces[1::2]]
    inside = "".join(one + two for one, two in zip(plain, [*classes, ""], strict=True))
    return f"{start}{inside}]"


def _fields(line: str) -> list[str]:
    """Words of a rule; a backslash keeps white space and # (in.tftpd(8))."""
    words, word, escaped = [], "", False
    for letter in line:
        if escaped:
            word += letter if letter in " \t#" else f"\\{letter}"
            escaped = False
        elif letter == "\\":
            escaped = True
        elif letter == "#":
            break
        elif letter.isspace():
            words += [word] if word else []
            word = ""
        else:
            word += letter
    return [*words, *([word] if word else [])]
