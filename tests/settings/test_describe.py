"""The schema as text: what is written loads back, and the files on disk are what the schema says."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import typing
from pathlib import Path
from typing import Any, Literal

from annotated_types import Ge, Le, MinLen
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from appliance.errors import ConfigError
from appliance.settings import describe, forms, load, model, rules
from appliance.settings.main import Settings
from appliance.settings.types import Form, Unit
from appliance.settings.yamltext import clean

ROOT = Path(__file__).parents[2]


def load_text(text: str) -> Settings:
    return load.load([("dump", text.encode())])[0]


def test_the_shipped_file_is_what_the_schema_says() -> None:
    assert (ROOT / "config/appliance.yaml").read_text() == describe.commented(Settings())


def test_the_shipped_file_loads_to_the_defaults_without_a_warning() -> None:
    content = (ROOT / "config/appliance.yaml").read_bytes()
    assert load.load([("appliance.yaml", content)]) == (Settings(), [])


def test_every_key_is_commented_with_its_help_and_what_it_may_hold() -> None:
    text = " ".join(describe.commented(Settings()).split()).replace("# ", "")
    assert "Largest upload (a size from 1B to 1048576TiB). max_size: 1GiB" in text
    assert "(mtu, or a whole number from 8 to 65464). blksize_max: mtu" in text
    keys = describe.dump(Settings()).count(":")
    assert text.count(": ") > keys / 2
    assert all(len(line) <= 120 for line in describe.commented(Settings()).splitlines())


_CHARACTERS = st.characters(exclude_categories=("C", "Z"), exclude_characters="/") | st.sampled_from(" '\"#:-{[")
PRINTABLE = st.text(_CHARACTERS, min_size=1, max_size=12)
_LOOKS_LIKE = ["true", "no", "1", "~", "a: b", "- a", "0x1f", "''", "<<", "52:54:00:12:34:56"]
_FORMS: dict[str, st.SearchStrategy[str]] = {
    "endpoint": st.integers(0, 65535).map("127.0.0.1:{}".format) | st.integers(0, 65535).map("[::1]:{}".format),
    "network": st.ip_addresses().map(str) | st.ip_addresses(v=4, network="10.0.0.0/8").map("{}/32".format),
    "port-range": st.tuples(st.integers(1024, 65535), st.integers(0, 500)).map(
        lambda pair: f"{pair[0]}-{min(pair[0] + pair[1], 65535)}"
    ),
    "path": PRINTABLE.map("/srv/{}".format),
    "relative-path": PRINTABLE,
    "user": st.from_regex(r"[a-z_][a-z0-9_.-]{0,30}", fullmatch=True),
    "pattern": PRINTABLE,
    "name": PRINTABLE,
    "host-name": st.from_regex(r"[a-z][a-z0-9]{0,9}(\.[a-z]{2,5}){0,2}", fullmatch=True),
    "public-address": st.ip_addresses(v=4).map(str),
    "ipv4": st.ip_addresses(v=4).map(str),
    "stored-password": st.binary(min_size=48, max_size=48).map(
        lambda raw: f"scrypt:14:8:1:{raw[:16].hex()}:{raw[16:].hex()}"
    ),
    "mac": st.binary(min_size=5, max_size=5).map(lambda raw: (b"\x52" + raw).hex(":")) | st.just("52:54:00:12:34:56"),
    "regex": st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=12).map(re.escape)
    | st.sampled_from(["^(.*)/(.*)$", "^(?P<mac>[0-9a-f-]{17})", "a", "(a+)+", "x: [y]", "(.*)b"]),
    "interface": st.from_regex(r"[a-z][a-z0-9.-]{0,14}", fullmatch=True),
    "address-range": st.ip_addresses(v=4, network="10.0.0.0/8").map("{0}-{0}".format),
    "loader-path": st.from_regex(r"[a-z][a-z0-9.+-]{0,20}(/[a-z0-9]{1,9}){0,2}", fullmatch=True),
    "replacement": PRINTABLE | st.sampled_from(["", r"\1", r"\g<mac>/\i", r"\x.cfg", "true", r"\q"]),
    "line": PRINTABLE
    | st.sampled_from(["true", "no", "1", "~", "a: b", "- a", "0x1f", "''", "<<", "52:54:00:12:34:56"]),
}


def canonical(kind: str, text: str) -> bool:
    """Whether a text is what the reader would make of it: anything else is not a value that a setting can have."""
    try:
        return forms.CHECKS[kind](text) == text
    except forms.Unfit:
        return False


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Any value that the hint of a key allows."""
    bare = model.bare(hint)
    form, unit = model.marker(hint, Form), model.marker(hint, Unit)
    if dataclasses.is_dataclass(bare):
        return sections(bare)
    if len(model.arms(hint)) > 1:
        return st.one_of([values(arm) for arm in model.arms(hint)])
    if typing.get_origin(bare) is tuple:
        least = 1 if model.marker(hint, MinLen) else 0
        return st.lists(values(typing.get_args(bare)[0]), min_size=least, max_size=4).map(tuple)
    if typing.get_origin(bare) is Literal:
        return st.sampled_from(typing.get_args(bare))
    if form:
        return _FORMS[form.kind].filter(functools.partial(canonical, form.kind))
    if unit and unit.kind == "size":
        return st.integers(int(unit.minimum), int(unit.maximum))
    if unit:
        return st.floats(unit.minimum, unit.maximum)
    if bare is int:
        return st.integers(model.marker(hint, Ge).ge, model.marker(hint, Le).le)
    return st.booleans() if bare is bool else st.none()


def sections(kind: Any) -> st.SearchStrategy[Any]:
    return st.builds(kind, **{name: values(hint) for name, hint in model.hints(kind).items()})


def comes_back(wanted: Settings, text: str) -> bool:
    """Text loads to an equal value; or, exactly when keys contradict each other, it does not load."""
    wrong = [finding.what for finding in rules.judge(wanted) if finding.severity == "error"]
    try:
        return load_text(text) == wanted and not wrong
    except ConfigError as refusal:
        return sorted(problem.what for problem in refusal.problems) == sorted(clean(what) for what in wrong)


@profile(deadline=None, max_examples=60)
@given(sections(Settings))
def test_settings_survive_being_written_and_read(wanted: Settings) -> None:
    assert comes_back(wanted, describe.dump(wanted))


@profile(deadline=None, max_examples=100)
@given(st.data())
def test_each_key_survives_being_written_and_read(data: st.DataObject) -> None:
    """One key at a time: most whole configurations made at random contradict themselves."""
    section = data.draw(st.sampled_from(["ftp", "tftp"]))
    defaults = getattr(Settings(), section)
    name, hint = data.draw(st.sampled_from(list(model.hints(type(defaults)).items())))
    changed = dataclasses.replace(defaults, **{name: data.draw(values(hint))})
    wanted = dataclasses.replace(Settings(), **{section: changed})
    assert comes_back(wanted, describe.commented(wanted))


def test_texts_that_look_like_something_else_are_quoted() -> None:
    settings = dataclasses.replace(
        Settings(), ftp=dataclasses.replace(Settings().ftp, hide=("1", "true", "a b", "~", "x"))
    )
    text = describe.dump(settings)
    assert 'hide: ["1", "true", "a b", "~", x]' in text
    assert load_text(text) == settings


# --- JSON Schema


def properties() -> dict[str, Any]:
    """The schema of every key by its path."""
    whole = describe.schema()
    found: dict[str, Any] = {}

    def walk(definition: dict[str, Any], above: str) -> None:
        for name, entry in definition["properties"].items():
            reference = entry.get("$ref") or next((item.get("$ref") for item in entry.get("allOf", [])), None)
            if reference:
                walk(whole["$defs"][reference.rpartition("/")[2]], f"{above}{name}.")
            found[f"{above}{name}"] = entry

    walk(whole, "")
    return found


def test_the_schema_refuses_unknown_keys_in_every_section() -> None:
    whole = describe.schema()
    assert whole["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert all(item["additionalProperties"] is False for item in (whole, *whole["$defs"].values()))


def test_the_schema_describes_every_key() -> None:
    keys = [key for key, entry in properties().items() if not entry.get("description")]
    assert keys == []
    assert set(properties()) >= {"state_dir", "tftp.limits.memory", "ftp.incoming.deny_names", "observe.log"}


def test_the_schema_knows_ranges_units_choices_and_defaults() -> None:
    found = properties()
    assert found["ftp.limits.sessions"] == {
        "default": 4096,
        "description": "sessions at once, in all workers together",
        "maximum": 100000,
        "minimum": 1,
        "type": "integer",
    }
    assert found["tftp.limits.memory"]["default"] == "512MiB"
    assert {"maximum": 64 << 30, "minimum": 1 << 20, "type": "integer"} in found["tftp.limits.memory"]["anyOf"]
    assert found["observe.log"]["enum"] == ["journal", "json", "text"]
    assert found["tftp.timeout"]["default"] == "1s"
    assert found["ftp.listen"]["minItems"] == 1
    assert {"const": 0} in found["ftp.incoming.retention"]["anyOf"]


def test_the_defaults_fit_the_patterns_of_the_schema() -> None:
    checked = 0
    for entry in properties().values():
        pattern = entry.get("pattern") or entry.get("items", {}).get("pattern")
        default = entry.get("default")
        for text in default if isinstance(default, list) else [default]:
            if pattern:
                assert re.search(pattern, text)
                checked += 1
    assert checked > 15


def test_the_schema_is_json() -> None:
    assert json.loads(json.dumps(describe.schema())) == describe.schema()


def test_the_keys_of_items_are_explained_above_their_list() -> None:
    text = describe.commented(Settings())
    assert "  #   net: the clients; the most specific network counts (a network like 192.0.2.0/24" in text
    assert "#   then: after a hit: stop, continue with the next rule and the new name, or refuse the request\n" in text


def test_the_schema_knows_the_items_of_a_list() -> None:
    found = describe.schema()["$defs"]
    assert found["TftpNetwork"]["required"] == ["net"]
    assert found["TftpNetwork"]["additionalProperties"] is False
    assert all(entry["description"] for entry in found["TftpRemap"]["properties"].values())
    assert found["TftpRemap"]["properties"]["then"]["default"] == "stop"
