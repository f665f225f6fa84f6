"""A stored password: its form, and the costs that one request may have."""

from __future__ import annotations

import pytest

from appliance.settings.password import Stored, parse

_SALT, _HASH = "0" * 32, "a" * 64


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret",
        f"scrypt:9:8:1:{_SALT}:{_HASH}",
        f"scrypt:18:8:1:{_SALT}:{_HASH}",
        f"scrypt:16:8:1:{_SALT}:{_HASH}",
        f"scrypt:14:17:1:{_SALT}:{_HASH}",
        f"scrypt:14:8:5:{_SALT}:{_HASH}",
        f"scrypt:14:0:1:{_SALT}:{_HASH}",
        f"scrypt:14:8:1:{_SALT[1:]}:{_HASH}",
        f"scrypt:14:8:1:{_SALT}:{_HASH}\n",
    ],
)
def test_what_is_no_stored_password_or_costs_too_much(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    "text", [f"scrypt:{n}:{r}:{p}:{_SALT}:{_HASH}" for n, r, p in ((10, 1, 1), (15, 8, 4), (14, 16, 1))]
)
def test_a_stored_password_is_read_and_written_alike(text: str) -> None:
    found = parse(text)
    assert isinstance(found, Stored)
    assert str(found) == text
