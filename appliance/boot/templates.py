"""Templates in Jinja2's sandbox: an undefined name is an error, every value is escaped for its place. Pure.

Invariant: no value of a variable can end the line, the string or the element it stands in; only `| raw` puts a text in
as it is. Of a secret's value nothing is ever put into an error.
"""

from __future__ import annotations

import functools
import html
import json
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
from jinja2 import meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

LONGEST = 4 << 20  # characters of one rendered file
_ARGUMENT = re.compile(r"[!-~]*")  # one word of a kernel's command line
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x85\u2028\u2029]")


class TemplateError(Exception):
    """A template cannot be rendered; the text names the template, the line and the cause."""

    def __init__(self, what: str, remedy: str, line: int = 0) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.line = line


class _Raw(str):
    """A text that is put in as it is."""

    __slots__ = ()


class _Unfit(Exception):
    """A value that cannot stand where it is put."""


def _line(value: str) -> str:
    if not value.isprintable():
        raise _Unfit("a value with a line break or a control character")
    return value


def _arg(value: str) -> str:
    if not _ARGUMENT.fullmatch(value) or set(value) & set("\"'\\"):
        raise _Unfit("a value with a space, a quote or a character outside of ASCII in a kernel's command line")
    return value


def _yaml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)  # JSON is YAML, and cannot be left from inside


def _shell(value: str) -> str:
    return shlex.quote(_line(value))


def _xml(value: str) -> str:
    return html.escape(_text(value))


def _text(value: str) -> str:
    if _CONTROL.search(value):
        raise _Unfit("a value with a control character")
    return value


_ESCAPES: dict[str, Callable[[str], str]] = {
    "line": _line,
    "arg": _arg,
    "shell": _shell,
    "xml": _xml,
    "text": _text,
}


def _finalize(escape: str, value: object) -> object:
    if isinstance(value, _Raw):
        return value
    if isinstance(value, jinja2.Undefined):
        return value  # StrictUndefined raises as soon as it is printed
    if escape == "yaml":
        return _yaml(list(value) if isinstance(value, tuple) else value)
    if value is None:
        raise _Unfit("a value that is null")
    if isinstance(value, (list, tuple, dict)):
        raise _Unfit("a list where one text belongs: use a loop, or | join(' ')")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return _ESCAPES[escape](text)


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, in which no expression makes a big text out of a small one."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        """Products of numbers only, and no powers."""
        del context
        if operator == "*" and all(isinstance(side, int) and abs(side) < 1 << 32 for side in (left, right)):
            return left * right
        raise jinja2.exceptions.SecurityError(f"{operator} is for small numbers only")


@functools.cache
def _environment(escape: str) -> jinja2.Environment:
    made = _Environment(
        undefined=jinja2.StrictUndefined,
        finalize=functools.partial(_finalize, escape),
        keep_trailing_newline=True,
        autoescape=False,  # finalize escapes, for more than HTML
        loader=None,
    )
    made.filters["raw"] = _Raw
    made.globals.clear()
    return made


@functools.lru_cache(maxsize=1024)
def _compiled(text: str, escape: str) -> jinja2.Template:
    return _environment(escape).from_string(text)


def check(name: str, text: str) -> None:
    """Look at a template that nobody renders yet. Raises TemplateError."""
    try:
        _compiled(text, "line")
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"template {name}: line {error.lineno}: {error.message}", "mend it", error.lineno) from None


def render(name: str, text: str, values: Mapping[str, Any], escape: str) -> str:
    """The text of a file. Raises TemplateError."""
    if "{" not in text:
        return text
    check(name, text)
    try:
        done = _compiled(text, escape).render(values)
    except jinja2.UndefinedError as error:
        remedy = "write it below vars: of the machine, its group or profile, or of the manifest"
        raise TemplateError(f"template {name}: {error.message}", remedy) from None
    except _Unfit as error:
        raise TemplateError(f"template {name}: {error}", "change the value, or another escape: for this file") from None
    except jinja2.TemplateError as error:  # the sandbox refuses
        raise TemplateError(f"template {name}: {error.message}", "use variables, filters, if and for") from None
    except (TypeError, ValueError, OverflowError, ArithmeticError, AttributeError, LookupError) as error:
        raise TemplateError(f"template {name}: {type(error).__name__} in an expression", "mend it") from None
    if len(done) > LONGEST:
        raise TemplateError(f"template {name}: more than {LONGEST >> 20} MiB", "render less")
    return done


def names(text: str) -> frozenset[str]:
    """The variables that a template uses; empty for one that cannot be read."""
    try:
        return frozenset(meta.find_undeclared_variables(_environment("line").parse(text)))
    except jinja2.TemplateSyntaxError:
        return frozenset()
