"""ftp.validity: the two times of a certificate, and nothing but ValueError for what is none."""

from __future__ import annotations

import base64
import calendar
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.ftp import validity
from tests.ftp.tlskit import certificate, openssl


def pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


def der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    size = len(body).to_bytes(2, "big")
    return bytes([tag]) + (bytes([len(body)]) if len(body) < 128 else b"\x82" + size) + body


def made(begins: bytes, ends: bytes, *, version: bytes = der(0xA0, b"\x02\x01\x02")) -> bytes:
    """As much of a certificate as is looked at."""
    before = (version, der(2, b"\x07"), der(0x30), der(0x30, b"x" * 200))
    return pem(der(0x30, der(0x30, *before, der(0x30, begins, ends), der(0x30)), der(0x30), der(3)))


UTC, LATER = der(0x17, b"260102030405Z"), der(0x18, b"21001231235959Z")


def test_the_times_of_a_real_certificate_are_those_that_openssl_tells(tmp_path: Path) -> None:
    path, _key = certificate(tmp_path, days=400)
    words = ["openssl", "x509", "-in", str(path), "-noout", "-startdate", "-enddate", "-dateopt", "iso_8601"]
    told = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split("\n")
    times = [line.partition("=")[2] for line in told[:2]]
    found = validity.of(path.read_bytes())
    import time

    assert [time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at)) for at in found] == times


def test_a_certificate_of_rsa_with_text_before_it(tmp_path: Path) -> None:
    openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-days", "20000", "-text",
        "-keyout", "k", "-out", "c", cwd=tmp_path,
    )  # fmt: skip
    found = validity.of((tmp_path / "c").read_bytes())
    assert found.ends - found.begins == 20000 * 86400  # beyond 2050: a GeneralizedTime


def test_both_forms_of_a_time_and_both_centuries() -> None:
    assert validity.of(made(UTC, LATER)) == (
        calendar.timegm((2026, 1, 2, 3, 4, 5)),
        calendar.timegm((2100, 12, 31, 23, 59, 59)),
    )
    assert validity.of(made(der(0x17, b"991231235959Z"), UTC)).begins == calendar.timegm((1999, 12, 31, 23, 59, 59))


def test_a_certificate_of_version_1_has_no_version(tmp_path: Path) -> None:
    assert validity.of(made(UTC, LATER, version=b"")) == validity.of(made(UTC, LATER))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        pem(b""),
        pem(b"\x30"),
        pem(b"\x31\x00"),
        pem(b"\x30\x05\x00"),
        pem(b"\x30\x84\xff\xff\xff\xff"),
        pem(der(0x30, der(0x30))),
        pem(der(0x30, der(0x30, der(2, b"\x07")))),
        made(UTC, b""),
        made(UTC, der(0x17, b"20260102030405Z")),
        made(UTC, der(0x18, b"260102030405Z")),
        made(UTC, der(0x17, b"260102030405+0100")),
        made(UTC, der(0x04, b"260102030405Z")),
        pem(der(0x30, der(0x30, der(2), der(0x30), der(0x30), der(2, b"no validity")))),
        b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n",
    ],
)
def test_what_is_no_certificate_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"certificate|base64|padding|number of data"):
        validity.of(text)


@given(st.binary(max_size=80), st.integers(0, 400), st.integers(0, 255))
def test_any_bytes_are_times_or_a_value_error(noise: bytes, at: int, value: int) -> None:
    whole = bytearray(base64.b64decode(made(UTC, LATER).split(b"-----")[2]))
    if at < len(whole):
        whole[at] = value
    for data in (noise, bytes(whole)):
        try:
            validity.of(pem(data))
        except ValueError:
            continue
