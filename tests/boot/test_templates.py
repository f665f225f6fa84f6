"""Templates: an undefined name is an error, and no value leaves the place it is put into."""

from __future__ import annotations

import json
import shlex
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.boot.templates import LONGEST, TemplateError, check, names, render
from appliance.settings.yamltext import parse


def failure(text: str, escape: str = "line", **values: object) -> str:
    with pytest.raises(TemplateError) as caught:
        render("t", text, values, escape)
    return f"{caught.value.what} ({caught.value.remedy})"


def test_a_text_without_braces_is_itself() -> None:
    assert render("t", "plain\n", {}, "line") == "plain\n"


def test_loops_conditions_and_filters_work() -> None:
    text = "{% for disk in disks %}\ndisk {{ disk }}\n{% endfor %}\n{% if last %}{{ last | upper }}{% endif %}\n"
    assert render("t", text, {"disks": ("sda", "sdb"), "last": "x"}, "line") == "\ndisk sda\n\ndisk sdb\n\nX\n"


def test_an_undefined_name_is_an_error_that_says_where_to_write_it() -> None:
    assert failure("{{ gone }}") == (
        "template t: 'gone' is undefined "
        "(write it below vars: of the machine, its group or profile, or of the manifest)"
    )
    assert "has no attribute 'uuid'" in failure("{{ machine.uuid }}", machine={"name": "a"})
    assert render("t", "{{ gone | default('x') }}", {}, "line") == "x"


def test_what_is_no_template_is_told_with_its_line() -> None:
    with pytest.raises(TemplateError, match=r"template t: line 2: ") as caught:
        check("t", "a\n{% if %}")
    assert caught.value.line == 2
    check("t", "{{ a }}")


@pytest.mark.parametrize("escape", ["line", "arg", "shell"])
def test_a_value_cannot_begin_a_new_line(escape: str) -> None:
    assert "template t: a value with" in failure("{{ v }}", escape, v="a\nlate_command")
    assert render("t", "{{ v | raw }}", {"v": "a\nb"}, escape) == "a\nb"


@pytest.mark.parametrize("value", ["a b", 'a"b', "a'b", "a\\b", "ä", "a\tb"])
def test_a_value_cannot_become_two_arguments(value: str) -> None:
    assert "in a kernel's command line" in failure("x={{ v }}", "arg", v=value)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"])))
def test_a_value_in_yaml_is_that_value(value: str) -> None:
    text = render("t", "a: {{ v }}\nb: 1\n", {"v": value}, "yaml")
    document = parse("t", text.encode())
    if document.broken:  # a character that YAML has no room for even in quotes
        assert not value.isprintable()
        return
    assert isinstance(document.root and document.root.value, dict)
    assert set(document.root.value) == {"a", "b"}  # type: ignore[arg-type,union-attr]


def test_numbers_truth_and_lists_in_yaml_are_what_they_were() -> None:
    values = {"n": 5, "t": True, "l": ("a", "b"), "z": None}
    assert json.loads(render("t", "[{{ n }},{{ t }},{{ l }},{{ z }}]", values, "yaml")) == [5, True, ["a", "b"], None]


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"])))
def test_a_value_in_a_shell_is_one_word(value: str) -> None:
    if value.isprintable():
        assert shlex.split(render("t", "x {{ v }} y", {"v": value}, "shell")) == ["x", value, "y"]


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"])))
def test_a_value_in_xml_is_text(value: str) -> None:
    if value.isprintable():
        assert (ET.fromstring(render("t", "<a b='{{ v }}'>{{ v }}</a>", {"v": value}, "xml")).text or "") == value


def test_a_control_character_is_refused_in_any_text() -> None:
    assert "a control character" in failure("{{ v }}", "text", v="a\x1bb")
    assert render("t", "{{ v }}", {"v": "a\nb\tc"}, "text") == "a\nb\tc"


def test_truth_and_numbers_are_written_in_lower_case() -> None:
    assert render("t", "{{ a }} {{ b }}", {"a": True, "b": 5}, "line") == "true 5"


@pytest.mark.parametrize("value", [["a"], ("a",), {"a": 1}])
def test_a_list_where_a_text_belongs_is_an_error(value: object) -> None:
    assert "a list where one text belongs" in failure("{{ v }}", v=value)
    assert "a value that is null" in failure("{{ v }}", v=None)


@pytest.mark.parametrize(
    "text",
    [
        "{{ ().__class__.__mro__ }}",
        "{{ ''.format.__globals__ }}",
        "{{ 'x' * 1000000000 }}",
        "{{ 2 ** 100000 }}",
        "{{ l.append(1) }}",
        "{{ range(10) }}",
        "{% include 'x' %}",
        "{{ 1 / 0 }}",
        "{{ 'a' + 1 }}",
    ],
)
def test_the_sandbox_holds(text: str) -> None:
    assert failure(text, l=["a"]).startswith("template t: ")


def test_small_products_are_fine() -> None:
    assert render("t", "{{ 3 * 4 }}", {}, "line") == "12"


def test_a_file_ends_at_its_limit() -> None:
    half = "x" * (LONGEST // 2)
    assert len(render("t", "{{ v }}{{ v }}", {"v": half}, "line")) == LONGEST
    assert "more than 4 MiB" in failure("{{ v }}{{ v }}x", v=half)


def test_the_names_a_template_uses_are_known_without_rendering() -> None:
    assert names("{{ a }}{% if b %}{{ c.d }}{% endif %}") == {"a", "b", "c"}
    assert names("{% if %}") == frozenset()
