"""Every verb of the command table in every kind of place, over real sockets: nothing but the drop box ever changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.ftp.policy import SYNONYMS, VERBS
from tests.ftp.serving import Server

PLACES = (
    "/",
    "/new",
    "/big",
    "/empty",
    "/pub",
    "/pub/new",
    "/incoming",
    "/incoming/folder/new",
    "/.git/new",
    "../../new",
    "/x y",
)
ENDS = {"QUIT", "REIN"}  # the session is over, and nothing else can be tried in it
FORMS = (
    "{verb} {place}",
    "{verb} 20200101000000 {place}",
    "{verb} 0777 {place}",
    "{verb} CHMOD 0777 {place}",
    "{verb}",
)


def fingerprint(root: Path) -> list[tuple[object, ...]]:
    """All that a verb could change: names, kinds, modes, owners, sizes, times, content of small files."""
    found: list[tuple[object, ...]] = []
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        small = path.is_file() and not path.is_symlink() and status.st_size < 1 << 16
        facts = (status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns, status.st_nlink)
        found.append((str(path), *facts, path.read_bytes() if small else b""))
    return found


@pytest.mark.parametrize("verb", sorted({*VERBS, *SYNONYMS, "SITE"} - ENDS))
def test_no_verb_changes_anything(boxed: Server, verb: str) -> None:
    (boxed.box / "there").write_bytes(b"an upload of somebody")
    before = fingerprint(boxed.root)
    with boxed.raw() as raw:
        raw.ask("TYPE I")
        for place in PLACES if verb == "STOR" else (*PLACES, "/incoming/new", "/incoming/there"):
            for form in FORMS:
                answer = raw.ask(form.format(verb=verb, place=place))
                assert answer[:1] in "12345" and answer, (verb, place)
        if verb == "STOR":
            for place in (*PLACES, "/incoming/there"):  # and with a data connection, so that it could begin
                data = raw.passive()
                assert raw.ask(f"STOR {place}")[:1] == "5", place
                data.close()
    assert fingerprint(boxed.root) == before


def test_the_fingerprint_sees_a_change(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    before = fingerprint(tmp_path)
    os.utime(tmp_path / "a", ns=(0, 0))
    assert fingerprint(tmp_path) != before
