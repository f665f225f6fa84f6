"""custody.marks: who uploaded a file stands on the file; what is not of our form is nobody."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from appliance.custody import marks


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "a").touch()
    return tmp_path / "a"


def test_a_mark_is_read_from_the_open_file_and_by_its_name(file: Path) -> None:
    with file.open("wb") as out:
        assert marks.write(out.fileno(), "2001:db8:1:2::/64")
    with file.open("rb") as opened:
        assert marks.read(opened.fileno()) == "2001:db8:1:2::/64"
    assert marks.read(os.fsencode(file)) == "2001:db8:1:2::/64"


def test_the_mark_goes_where_the_file_goes(file: Path) -> None:
    with file.open("wb") as out:
        marks.write(out.fileno(), "c")
    os.link(file, file.with_name("b"))
    file.unlink()
    assert marks.read(os.fsencode(file.with_name("b"))) == "c"


@pytest.mark.parametrize(
    "raw", [b"", b"c", b"c" * 63, b"c" * 65, b"\xff" * 64, b"a\nb".ljust(64, b"\0"), b"a\0b".ljust(64, b"\0")]
)
def test_what_is_not_of_our_form_is_nobody(file: Path, raw: bytes) -> None:
    os.setxattr(file, marks.NAME, raw)
    assert marks.read(os.fsencode(file)) == ""


def test_no_mark_no_file_and_a_link_are_nobody(file: Path) -> None:
    assert marks.read(os.fsencode(file)) == ""
    assert marks.read(b"/nonexistent/x") == ""
    with file.open("wb") as out:
        marks.write(out.fileno(), "c")
    file.with_name("link").symlink_to(file)
    assert marks.read(os.fsencode(file.with_name("link"))) == ""


def test_a_file_system_without_attributes_is_told_and_other_errors_are_raised(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(number: int) -> None:
        def setxattr(*_arguments: object) -> None:
            raise OSError(number, "planted")

        monkeypatch.setattr(marks.os, "setxattr", setxattr)

    fail(errno.ENOTSUP)
    assert not marks.write(0, "c")
    fail(errno.ENOSPC)
    with pytest.raises(OSError, match="planted"):
        marks.write(0, "c")
