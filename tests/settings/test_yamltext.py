"""YAML text: core scalars, refused features, limits, and where everything stands."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from appliance.settings.yamltext import DEEPEST, LARGEST, MOST, Node, Place, clean, parse, scalar


def plain(node: Node | None) -> Any:
    if node is None:
        return None
    if isinstance(node.value, dict):
        return {name: plain(item) for name, item in node.value.items()}
    if isinstance(node.value, list):
        return [plain(item) for item in node.value]
    return node.value


def read(text: str) -> Any:
    document = parse("f", text.encode())
    assert document.problems == []
    assert not document.broken
    return plain(document.root)


def problems(content: str | bytes) -> list[str]:
    return [
        str(problem) for problem in parse("f", content if isinstance(content, bytes) else content.encode()).problems
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("52:54:00:12:34:56", "52:54:00:12:34:56"),
        ("10:20", "10:20"),
        ("190:20:30", "190:20:30"),
        ("off", "off"),
        ("on", "on"),
        ("yes", "yes"),
        ("no", "no"),
        ("NO", "NO"),
        ("2020-01-01", "2020-01-01"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("017", 17),
        ("0o17", 15),
        ("0x1f", 31),
        ("-12", -12),
        ("+12", 12),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("tRUE", "tRUE"),
        ("null", None),
        ("~", None),
        ("", None),
        ("9" * 20, int("9" * 20)),
        ("9" * 21, "9" * 21),
        ("1e9999", "1e9999"),
        ("=", "="),
        ("<<", "<<"),
    ],
)
def test_plain_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


def test_not_a_number_is_a_float() -> None:
    assert math.isnan(scalar(".nan"))  # type: ignore[arg-type]


def test_quoted_scalars_are_text() -> None:
    assert read("a: '1'\nb: \"true\"\nc: |\n  null\n") == {"a": "1", "b": "true", "c": "null\n"}


def test_keys_are_always_text() -> None:
    assert read("1: a\ntrue: b\n52:54:00: c\n") == {"1": "a", "true": "b", "52:54:00": "c"}


def test_every_node_knows_where_it_and_its_key_stand() -> None:
    root = parse("f", b"a:\n  b: [x, yy]\n").root
    assert root is not None
    assert isinstance(root.value, dict)
    a = root.value["a"]
    assert isinstance(a.value, dict)
    b = a.value["b"]
    assert isinstance(b.value, list)
    assert (b.key, b.place, b.value[1].place) == (Place("f", 2, 3), Place("f", 2, 6), Place("f", 2, 10))
    assert b.value[1].text == "yy"


@pytest.mark.parametrize("text", ["", "\n", "# only words\n", "---\n", "\ufeff# marked\n", "--- ~\n...\n"])
def test_a_file_without_content_has_no_root(text: str) -> None:
    document = parse("f", text.encode())
    if "~" in text:
        assert plain(document.root) is None
    else:
        assert document.root is None
    assert document.problems == []


_BRACKETS = 'write a value, close every bracket, and quote a text with brackets: "[::]:69"'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\na: 2\n", ["f:2:1: a is written twice, first in line 1 (remove one of them)"]),
        ("a: &x 1\n", ["f:1:4: anchors (&x) are not used here (remove it, or quote the text)"]),
        ("a: *x\n", ["f:1:4: aliases (*x) are not used here (write the value, or quote the text)"]),
        ("*x : 1\n", ["f:1:1: aliases (*x) are not used here (write the value, or quote the text)"]),
        ("a: !!str 1\n", ["f:1:4: tags (!!str) are not used here (remove it, or quote the text)"]),
        ("a: !env X\n", ["f:1:4: tags (!env) are not used here (remove it, or quote the text)"]),
        ("<<: {a: 1}\n", ["f:1:1: merge keys (<<) are not used here (write the keys out)"]),
        ("? [a]\n: 1\n", ["f:1:3: a key is a text (write KEY: VALUE, and quote a text that begins with a bracket)"]),
        ("a: 1\n---\nb: 1\n", ["f:2:1: a second document begins here (remove the ---, or use a file in conf.d)"]),
        ('a: "\\ud800"\n', ["f:1:4: \\uD800 is half a character (write the whole one: \\UXXXXXXXX)"]),
        ("a:\n\tb: 1\n", ["f:2:1: a tab cannot be used here (indent and separate with spaces)"]),
        ("a:\tb\n", ["f:1:3: a tab cannot be used here (indent and separate with spaces)"]),
        ("listen: [[::]:69]\n", [f"f:1:11: not YAML: expected the node content, but found ':' ({_BRACKETS})"]),
        (
            "a: b: c\n",
            [
                "f:1:5: not YAML: mapping values are not allowed here "
                "(quote a text that contains ': ', and check the indentation)"
            ],
        ),
        ("a: 1\nb\n", ["f:3:1: not YAML: could not find expected ':' (write KEY: VALUE)"]),
        ("a: 'x\n", ["f:1:4: not YAML: the quote that opens here is never closed (close it)"]),
        (
            "hide: [*.bak]\n",
            [
                "f:1:9: not YAML: expected alphabetic or numeric character, but found '.' "
                "(quote a text that begins with * or &)"
            ],
        ),
        ("a: @x\n", ["f:1:4: not YAML: found character '@' that cannot start any token (quote the text)"]),
        (
            'a: "\\d"\n',
            ["f:1:6: not YAML: found unknown escape character 'd' (use single quotes, or double the backslash)"],
        ),
        (
            "a: [b\n",
            ["f:1:4: not YAML: the bracket that opens here is never closed (close it)"],
        ),
        (
            "a: {b\n",
            ["f:1:4: not YAML: the brace that opens here is never closed (close it)"],
        ),
        (
            "a:\n  - b\n c: 1\n",
            [
                "f:3:2: not YAML: expected <block end>, but found '<block mapping start>' "
                "(check the indentation, and quote a text that begins with a quote or a bracket)"
            ],
        ),
        (
            "%YAML 2.0\n---\n",
            [
                "f:1:1: not YAML: found incompatible YAML document (version 1.* is required) "
                "(check this line and the one above)"
            ],
        ),
        ('a: "\\U00110000"\n', ["f:1:7: not YAML: a number too large (check it)"]),
        ('a: "\\UFFFFFFFF"\n', ["f:1:7: not YAML: a number too large (check it)"]),
        ("%YAML 1." + "1" * 5000 + "\n---\n", ["f:1:9: not YAML: a number too large (check it)"]),
    ],
)
def test_what_a_configuration_does_not_need_is_refused_with_place_and_remedy(text: str, expected: list[str]) -> None:
    assert problems(text) == expected


def test_bytes_that_are_not_utf_8_are_told_with_their_place() -> None:
    remedy = "iconv -f LATIN1 -t UTF-8 f > f.new && mv f.new f"
    assert problems(b"a: 1\nb: caf\xe9\n") == [f"f:2:7: byte 0xe9 is not UTF-8 ({remedy})"]


def test_utf_16_and_files_that_are_no_text_get_their_own_remedy() -> None:
    (utf16,) = problems("a: 1".encode("utf-16"))
    assert "iconv -f UTF-16 -t UTF-8 f > f.new" in utf16
    (binary,) = problems(b"\x7fELF\0\0\xff\xfe")
    assert "this is no text file: name the right one" in binary


def test_control_characters_are_told_with_their_place() -> None:
    assert problems("a: 1\nb: \x07\n") == ["f:2:4: character U+0007 is not allowed (remove it)"]


def test_a_duplicate_does_not_hide_what_follows() -> None:
    document = parse("f", b"a: 1\na: 2\nb: &x 3\n")
    assert len(document.problems) == 2
    assert plain(document.root) == {"a": 1, "b": 3}


def test_the_size_limit_is_the_last_byte_that_is_read() -> None:
    assert problems(b"#" * LARGEST) == []
    assert problems(b"#" * (LARGEST + 1)) == [
        "f:1:1: more than 1 MiB (split it into files in conf.d, or name the right file)"
    ]


def test_the_depth_limit_is_the_last_level_that_is_read() -> None:
    assert problems("[" * DEEPEST + "]" * DEEPEST) == []
    assert problems("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1)) == [
        f"f:1:{DEEPEST + 1}: nested deeper than 32 levels (no setting is; check the brackets)"
    ]


def test_the_limit_of_values_is_the_last_one_that_is_read() -> None:
    assert problems("- a\n" * (MOST - 1)) == []
    assert problems("- a\n" * MOST) == [f"f:{MOST}:3: more than 50000 values (split it into files in conf.d)"]


@pytest.mark.parametrize(
    "text",
    [
        "[" * LARGEST,
        "? " * (LARGEST // 2),
        "- " * (LARGEST // 2),
        "a: &a [x, x]\n" + "b: [*a, *a]\n" * 30_000,
        "a: " + "9" * 1_000_000,
        "a: 0x" + "f" * 1_000_000,
        "{" * 1000 + "a" * 100_000,
    ],
)
def test_hostile_text_is_done_in_bounded_time(text: str) -> None:
    tracer = sys.gettrace()
    sys.settrace(None)  # coverage, which would be measured instead: two seconds become eight
    try:
        start = time.process_time()
        parse("f", text.encode())
        spent = time.process_time() - start
    finally:
        sys.settrace(tracer)
    assert spent < 10


@profile(deadline=None)
@given(st.binary() | st.text("ab:-?[]{}&*!|>'\"%@`#, \t\n01~<\\\ufeff").map(str.encode))
def test_arbitrary_bytes_never_raise(content: bytes) -> None:
    document = parse("f", content)
    assert document.problems or not document.broken
    assert all(str(problem).isprintable() for problem in document.problems)


def test_messages_never_carry_control_characters_or_run_on() -> None:
    assert clean("a\x1b[31m\nb") == "a\\x1b[31m\\nb"
    assert len(clean("x" * 10_000)) == 243
