"""The manual pages appliance(8) and appliance.yaml(5), from the help texts and the schema. Pure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from appliance.install.commands import Command, walk
from appliance.settings import describe, model, words
from appliance.settings.main import Settings

_BLOCK = "\b"  # as the help texts mark what must stay line by line

_FILES = (
    ("/etc/appliance/appliance.yaml", "the configuration; see appliance.yaml(5)"),
    ("/etc/appliance/conf.d/*.yaml", "override it key by key, in the order of their names"),
    ("/srv/appliance/tftp, /srv/appliance/ftp", "what is served"),
    ("/var/lib/appliance", "what survives a restart"),
    ("/run/appliance", "control sockets"),
    ("/usr/share/appliance/examples", "variants of the unit, a hook, alert rules and a dashboard"),
)
_SIGNALS = (
    ("SIGHUP", "read the configuration again; a wrong one is refused, and the old one stays"),
    ("SIGTERM, SIGINT", "finish running transfers, at most drain_timeout, then end; the second one ends at once"),
)


def program(whole: Command) -> str:
    """appliance(8)."""
    lines = [
        *_head(whole.name, 8, "confined TFTP and anonymous FTP under one supervisor"),
        ".SH SYNOPSIS",
        f".B {whole.name}",
        ".I COMMAND",
        "[\\fIoptions\\fR] [\\fIarguments\\fR]",
        ".SH DESCRIPTION",
        *_paragraphs(whole.help),
        ".SH COMMANDS",
    ]
    for called, command in walk(whole):
        if not command.below:
            lines += _command(called, command)
    lines += [".SH SIGNALS", *_terms(_SIGNALS), ".SH FILES", *_terms(_FILES)]
    lines += [
        ".SH EXIT STATUS",
        *_terms((("0", "done"), ("1", "failed"), ("2", "the configuration or the command line is wrong"))),
    ]
    lines += [".SH SEE ALSO", ".BR appliance.yaml (5),", ".BR systemctl (1),", ".BR journalctl (1)"]
    return "\n".join(lines) + "\n"


def _command(called: tuple[str, ...], command: Command) -> list[str]:
    arguments = " ".join(f"\\fI{_plain(p.value)}\\fR" for p in command.parameters if not p.names)
    lines = [f".SS {' '.join(called[1:])} {arguments}".rstrip(), *_paragraphs(command.help)]
    for parameter in command.parameters:
        name = ", ".join(f"\\fB{_plain(n)}\\fR" for n in parameter.names) or f"\\fI{_plain(parameter.value)}\\fR"
        value = f" \\fI{_plain(parameter.value)}\\fR" if parameter.names and parameter.value else ""
        if parameter.help:
            lines += [".TP", name + value, _plain(parameter.help)]
    return lines


def configuration() -> str:
    """appliance.yaml(5)."""
    lines = [
        *_head("appliance.yaml", 5, "configuration of the appliance"),
        ".SH DESCRIPTION",
        "A YAML 1.2 document. Every key may be left out and has the default that stands here; unknown ones are errors.",
        "Files in conf.d beside it override it key by key.",
        ".PP",
        ".B appliance check",
        "tells everything that is wrong, with line and remedy;",
        ".B appliance reload",
        "takes a change up and cuts no transfer. Sizes and durations are written with their unit (64MiB, 30s).",
        ".SH KEYS",
        *_keys(Settings(), ""),
        ".SH SEE ALSO",
        ".BR appliance (8)",
    ]
    return "\n".join(lines) + "\n"


def _keys(section: Any, above: str) -> Iterator[str]:
    kind: Any = type(section)
    for name, hint in model.hints(kind).items():
        value, key = getattr(section, name), f"{above}{name}"
        if dataclasses.is_dataclass(value):
            yield from (f".SS {key}", _plain(model.help_of(hint)))
            yield from _keys(value, f"{key}.")
            continue
        yield from (".TP", f"\\fB{_plain(key)}\\fR: {_plain(describe.written(hint, value))}")
        text = model.help_of(hint)
        yield _plain(f"{text[0].upper()}{text[1:]} ({words.expectation(hint)}).")
        inner: Any = model.section_of(model.item_of(hint)) or model.section_of(hint)
        for below, inside in (model.hints(inner) if inner else {}).items():
            yield from (
                ".br",
                f"\\fB{_plain(below)}\\fR: {_plain(model.help_of(inside))} ({_plain(words.expectation(inside))}).",
            )


def _head(name: str, section: int, what: str) -> list[str]:
    return [f'.TH {name.upper()} {section} "" "appliance" ""', ".SH NAME", f"{name} \\- {what}"]


def _terms(pairs: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for term, text in pairs:
        yield from (".TP", f".B {_plain(term)}", _plain(text))


def _paragraphs(text: str) -> Iterator[str]:
    for part in re.split(r"\n\s*\n", text.strip()):
        if part.lstrip().startswith(_BLOCK):
            yield from (
                ".PP",
                ".nf",
                *(_plain(line) for line in part.replace(_BLOCK, "").strip("\n").splitlines()),
                ".fi",
            )
        else:
            yield from (".PP", _plain(" ".join(part.split())))


def _plain(text: str) -> str:
    """Text that roff takes as it is (groff_char(7)): no escapes, no requests, real dashes."""
    shown = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga").replace("'", "\\(aq")
    return f"\\&{shown}" if shown.startswith(".") else shown
