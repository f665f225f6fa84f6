"""The validator is the dataclasses, and the dataclasses need no validator."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import typing
from typing import Any

import pydantic
import pytest

from appliance.settings import model, words
from appliance.settings.ftp import FtpSettings
from appliance.settings.main import Settings
from appliance.settings.plain import decode, encode
from appliance.settings.tftp import TftpSettings


def _is_section(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind)


def test_the_model_has_the_keys_of_the_dataclasses() -> None:
    def compare(kind: Any, found: type[pydantic.BaseModel]) -> int:
        assert list(found.model_fields) == [field.name for field in dataclasses.fields(kind)]
        below = [(name, model.bare(hint)) for name, hint in model.hints(kind).items()]
        nested = [
            (found.model_fields[name].annotation, inner) for name, inner in below if dataclasses.is_dataclass(inner)
        ]
        return 1 + sum(compare(inner, typing.cast("type[pydantic.BaseModel]", kind)) for kind, inner in nested)

    assert compare(Settings, model.whole()) >= 16  # sections, each with its own keys


def test_nothing_is_the_defaults() -> None:
    assert model.validate({}) == Settings()
    assert model.validate({"ftp": {"limits": {}}}) == Settings()


def test_validated_values_cross_to_a_worker_and_stay_equal() -> None:
    settings = model.validate({"ftp": {"passive_address": "192.0.2.1", "allow": ["10.0.0.0/8"]}})
    assert decode(FtpSettings, encode(settings.ftp)) == settings.ftp
    assert decode(TftpSettings, encode(settings.tftp)) == settings.tftp


def test_no_value_is_bent_into_another_kind() -> None:
    for plain in (
        {"ftp": {"workers": "4"}},
        {"ftp": {"enabled": "true"}},
        {"state_dir": 7},
        {"tftp": {"workers": 4.0}},
    ):
        with pytest.raises(pydantic.ValidationError):
            model.validate(plain)


def test_workers_need_neither_validator_nor_yaml() -> None:
    code = "import sys, appliance.settings.main, appliance.settings.plain; print({'pydantic', 'yaml'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("section", "key", "phrase", "kind"),
    [
        ("tftp", "enabled", "true or false", "true or false"),
        ("tftp", "workers", "auto, or a whole number from 1 to 64", "one of the choices"),
        ("tftp", "timeout", "a duration from 10ms to 255s", "a duration"),
        ("tftp", "limits", "a section", "a section"),
        ("ftp", "listen", "a list, each item ADDRESS:PORT, like 0.0.0.0:69 or [::]:69", "a list"),
        (
            "ftp",
            "passive_address",
            "an IPv4 address like 192.0.2.7 or a host name like ftp.example.org, or a list, each item "
            "{networks, address}, or null",
            "one of the choices",
        ),
        ("incoming", "scan", "a section, or null", "a section"),
        ("ftp", "message_file", "the name of a file, or null", "a text"),
        ("ftp", "banner", "a text of 1 to 200 characters", "a text"),
        ("ftp", "passive_ports", "FIRST-LAST, like 61000-65535", "a text"),
    ],
)
def test_what_a_key_may_hold_is_said_in_words(section: str, key: str, phrase: str, kind: str) -> None:
    of = Settings().ftp.incoming if section == "incoming" else getattr(Settings(), section)
    hint = model.hints(type(of))[key]
    assert (words.expectation(hint), words.kind_of(hint)) == (phrase, kind)
