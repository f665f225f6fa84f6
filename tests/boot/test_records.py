"""boot.records: what is read back is what was written, and nothing that leads out of a tree gets through."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.boot import records
from appliance.boot.records import BootError, Fetched, File

SHA = "a" * 64
BOTH = ("tftp", "ftp")


def release(*paths: str, **more: Any) -> records.Release:
    return records.make(86400, "note", [File(path, 1, SHA, "o", "v", BOTH) for path in paths], None, **more)


def test_a_release_is_read_back_as_it_was_written() -> None:
    one = release("b", "a/c")
    assert records.decode(records.encode(one)) == one
    assert [file.path for file in one.files] == ["a/c", "b"] and one.size == 2
    assert one.id.startswith("19700102-000000-")


def test_the_id_tells_when_it_was_made() -> None:
    assert records.created(release("a").id) == 86400
    for name in ("20261301-000000-00000000", "x"):
        with pytest.raises(BootError, match="not the id of a release"):
            records.created(name)


def test_the_id_tells_every_part_of_the_content() -> None:
    files = [File("a", 1, SHA, "o", "v", BOTH)]
    ids = {
        records.make(1, "", files, None).id,
        records.make(1, "x", files, None).id,
        records.make(1, "", files, {"p": 1}).id,
        records.make(1, "", [replace(files[0], sha256="b" * 64)], None).id,
        records.make(1, "", [replace(files[0], verified="")], None).id,
    }
    assert len(ids) == 5


def change(text: bytes, **fields: Any) -> bytes:
    return json.dumps({**json.loads(text), **fields}).encode()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"[" * 100_000,
        change(records.encode(release("a")), files=[{"path": "a"}]),
        change(
            records.encode(release("a")), files=[{**json.loads(records.encode(release("a")))["files"][0], "size": -1}]
        ),
        change(
            records.encode(release("a")),
            files=[{**json.loads(records.encode(release("a")))["files"][0], "sha256": "x"}],
        ),
        change(records.encode(release("a")), created=10**30),
    ],
)
def test_a_record_that_is_damaged_is_told(text: bytes) -> None:
    with pytest.raises(BootError, match="cannot be read"):
        records.decode(text)
    with pytest.raises(BootError):
        records.decode_fetched(text)


def test_a_record_that_was_changed_is_not_what_its_name_says() -> None:
    with pytest.raises(BootError, match="is not what its name says"):
        records.decode(change(records.encode(release("a")), note="other"))


def test_another_format_is_refused() -> None:
    with pytest.raises(BootError, match="has format 2, this build knows 1"):
        records.decode(change(records.encode(release("a")), format=2))


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "empty"),
        ("../a", "leads out"),
        ("a/../../b", "leads out"),
        ("/etc/passwd", "leads out"),
        ("a//b", "empty parts"),
        ("a/", "empty parts"),
        ("./a", "leads out"),
        ("a\0b", "cannot be printed"),
        ("a\nb", "cannot be printed"),
        ("a\udc80", "cannot be printed"),
        ("x" * 1025, "longer than 1024"),
        ("x" * 256, "longer than 255"),
        ("/".join("x" * 33), "more than 32 parts"),
        (".releases/x", "ours"),
        (".releases", "ours"),
    ],
)
def test_a_path_that_leads_out_of_the_tree_is_refused(path: str, why: str) -> None:
    assert why in records.unfit(path)
    with pytest.raises(BootError):
        release(path)


@pytest.mark.parametrize("path", ["a", "a/.releases", "x" * 255, "/".join("x" * 32), "ü/ö", "a b", ".disk/info"])
def test_a_path_that_stays_inside_is_taken(path: str) -> None:
    assert records.unfit(path) == "" and release(path).files[0].path == path


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.text(max_size=50))
def test_no_path_that_is_taken_leads_out(path: str) -> None:
    if not records.unfit(path):
        assert not path.startswith("/") and ".." not in path.split("/") and "\0" not in path and "\n" not in path


def test_one_path_has_one_file_in_a_root() -> None:
    with pytest.raises(BootError, match="two files of the release have the path a in the root of tftp"):
        release("a", "a")
    with pytest.raises(BootError, match="a is a file of the release, and a/b/c lies beneath it"):
        release("a", "a/b/c")
    records.make(1, "", [File("a", 1, SHA, roots=("tftp",)), File("a", 1, SHA, roots=("ftp",))], None)


def test_a_file_is_in_a_root_that_is_served() -> None:
    for roots in ((), ("http",)):
        with pytest.raises(BootError, match="no root"):
            records.make(1, "", [File("a", 1, SHA, roots=roots)], None)


def test_there_is_a_most_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MOST_FILES", 2)
    release("a", "b")
    with pytest.raises(BootError, match="has 3 files; 2 is the most"):
        release("a", "b", "c")


def fetched(**more: Any) -> Fetched:
    fields: dict[str, Any] = {
        "name": "debian-12", "spec": "s", "location": "deb:x", "sha256": SHA, "size": 1, "fetched": 2,
        "verified": "apt", "signed": 3, "files": (File("a", 1, SHA),), "left_out": ("x: a device",),
        "validators": {"etag": "x"},
    }  # fmt: skip
    return Fetched(**{**fields, **more})


def test_a_source_is_read_back_as_it_was_written() -> None:
    assert records.decode_fetched(records.encode_fetched(fetched())) == fetched()


@pytest.mark.parametrize("more", [{"name": "../x"}, {"sha256": "x"}, {"size": -1}, {"signed": 1.5}, {"fetched": True}])
def test_a_source_that_is_none_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(BootError, match="no proper"):
        records.decode_fetched(records.encode_fetched(fetched(**more)))


def test_names_of_sources_can_be_files() -> None:
    assert records.source_name("a.b-c_1") == "a.b-c_1"
    for name in ("", ".x", "a/b", "-a", "x" * 101, "a\n"):
        with pytest.raises(BootError, match="is no name for a source"):
            records.source_name(name)


def test_current_is_one_line() -> None:
    one = release("a").id
    assert records.decode_current(records.encode_current(one, 7)) == (one, 7)
    for text in (b"", b"x 1\n", f"{one} 1".encode(), f"{one} -1\n".encode(), f"{one} 1\n\n".encode()):
        with pytest.raises(BootError, match="`current`"):
            records.decode_current(text)


def test_ids_are_typed_by_people() -> None:
    assert records.release_id("20260101-000000-0123abcd") == "20260101-000000-0123abcd"
    for text in ("", "../x", "20260101-000000-0123abcd\n", None):
        with pytest.raises(BootError, match="not the id of a release"):
            records.release_id(text)


def test_what_differs_is_told_by_path() -> None:
    old = [File("a", 1, SHA), File("b", 1, SHA), File("c", 1, SHA)]
    new = [File("b", 2, "b" * 64), File("c", 1, SHA, "other origin"), File("d", 1, SHA)]
    found = records.diff(old, new)
    assert [file.path for file in found.added] == ["d"] and [file.path for file in found.removed] == ["a"]
    assert [(one.path, two.size) for one, two in found.changed] == [("b", 2)]
