from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.cli.urls import Target, UrlError, parse


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("tftp://192.0.2.1/pxelinux.0", Target("tftp", "192.0.2.1", 69, b"pxelinux.0")),
        ("TFTP://Lab.Example:6969/a/b", Target("tftp", "lab.example", 6969, b"a/b")),
        ("ftp://[::1]:2121/a%20b", Target("ftp", "::1", 2121, b"a b")),
        ("ftp://h/%ff", Target("ftp", "h", 21, b"\xff")),
        ("ftp://h", Target("ftp", "h", 21, b"")),
        ("ftp://h//abs", Target("ftp", "h", 21, b"/abs")),
        ("ftp://h/a?b#c", Target("ftp", "h", 21, b"a?b#c")),
        ("tftp:///hello.txt", Target("tftp", "", 69, b"hello.txt")),
        ("tftp://h/ü", Target("tftp", "h", 69, "ü".encode())),
    ],
)
def test_an_address_becomes_its_parts(url: str, target: Target) -> None:
    assert parse(url) == target


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("hello.txt", "begins with none of tftp://, ftp:// and ftps://"),
        ("http://h/x", "begins with none of tftp://, ftp:// and ftps://"),
        ("ftp://me:secret@h/x", "take the user out"),
        ("ftp://h:port/x", "is no address"),
        ("ftp://h:70000/x", "is no address"),
        ("ftp://[::1/x", "is no address"),
        ("tftp://:69/x", "names a port but no host"),
        ("ftp://h/x%0d%0aDELE y", "control characters"),
        ("tftp://h/x%00octet", "control characters"),
    ],
)
def test_an_address_that_cannot_be_used_says_why(url: str, why: str) -> None:
    with pytest.raises(UrlError, match=why):
        parse(url)


@pytest.mark.parametrize(
    ("path", "name"), [(b"a/b.txt", "b.txt"), (b"a/", ""), (b"", ""), (b"a/..", ""), (b".", ""), (b"\xff", "\udcff")]
)
def test_the_basename_is_a_plain_file_name_or_nothing(path: bytes, name: str) -> None:
    assert Target("ftp", "h", 21, path).basename == name


@given(st.text(max_size=60))
def test_any_text_parses_or_raises_url_error(text: str) -> None:
    for url in (text, f"ftp://{text}", f"tftp://h/{text}"):
        try:
            assert isinstance(parse(url).path, bytes)
        except UrlError:
            pass
