"""ftp.tlsfiles: what can be wrong with a certificate and its key, in the words and with the remedies of `check`."""

from __future__ import annotations

import os
import ssl
import time
from pathlib import Path

import pytest

from appliance.ftp import tlsfiles, validity
from appliance.settings.ftp import TlsSettings
from tests.ftp.tlskit import certificate, openssl


def load(certificate: Path, key: Path | None = None) -> tlsfiles.Loaded:
    return tlsfiles.load(TlsSettings("optional", str(certificate), str(key) if key else None))


def wrong(certificate: Path, key: Path | None = None) -> tuple[str, str, str]:
    with pytest.raises(tlsfiles.Unusable) as caught:
        load(certificate, key)
    return caught.value.key, caught.value.what, caught.value.remedy


def test_a_pair_makes_a_context_of_today(tmp_path: Path) -> None:
    loaded = load(*certificate(tmp_path))
    context = loaded.context
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    for option in (ssl.OP_NO_RENEGOTIATION, ssl.OP_NO_COMPRESSION):
        assert context.options & option
    assert not context.options & getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    names = {cipher["name"] for cipher in context.get_ciphers()}
    assert names
    assert all(("ECDHE" in name or name.startswith("TLS_")) and "CBC" not in name for name in names)
    assert all("GCM" in name or "POLY1305" in name for name in names)
    assert loaded.outdated() == "" and tlsfiles.days_left(loaded.valid) == 29


def test_both_may_be_in_one_file(tmp_path: Path) -> None:
    one, key = certificate(tmp_path)
    (tmp_path / "both").write_bytes(key.read_bytes() + one.read_bytes())
    load(tmp_path / "both")
    assert wrong(one)[:2] == ("ftp.tls.certificate", f"{one}: there is no private key in it")


def test_a_key_of_another_certificate(tmp_path: Path) -> None:
    (one, _), (_, key) = certificate(tmp_path), certificate(tmp_path, "two")
    assert wrong(one, key) == (
        "ftp.tls.key",
        f"{key} is not the key of {one}",
        "name the two files that were made together",
    )


def test_files_that_are_missing_or_something_else(tmp_path: Path) -> None:
    one, key = certificate(tmp_path)
    missing = tmp_path / "missing"
    assert wrong(missing, key)[:2] == ("ftp.tls.certificate", f"there is no file {missing}")
    assert wrong(one, missing)[:2] == ("ftp.tls.key", f"there is no file {missing}")
    assert wrong(tmp_path, key)[1] == f"{tmp_path} cannot be read: Is a directory"
    os.mkfifo(tmp_path / "fifo")
    assert wrong(one, tmp_path / "fifo")[1] == f"{tmp_path}/fifo is no regular file"
    assert wrong(key, key)[1] == f"{key}: there is no certificate in it"
    assert wrong(one, one)[1] == f"{one}: there is no private key in it"


def test_a_key_with_a_passphrase_is_refused_without_asking_for_it(tmp_path: Path) -> None:
    one, key = certificate(tmp_path)
    openssl("pkey", "-in", str(key), "-aes256", "-passout", "pass:secret", "-out", "locked", cwd=tmp_path)
    assert wrong(one, tmp_path / "locked")[1].endswith("locked needs a passphrase, and nobody is there to type it")


def test_a_damaged_certificate_and_one_with_too_small_a_key(tmp_path: Path) -> None:
    one, key = certificate(tmp_path)
    lines = one.read_text().splitlines()
    (tmp_path / "damaged").write_text("\n".join([*lines[:4], lines[-1]]) + "\n")
    assert wrong(tmp_path / "damaged", key)[1] == f"{tmp_path}/damaged: the certificate is damaged"
    words = ["-newkey", "rsa:1024", "-nodes", "-subj", "/CN=x", "-keyout", "small.key", "-out", "small.crt"]
    openssl("req", "-x509", *words, cwd=tmp_path)
    assert wrong(tmp_path / "small.crt", tmp_path / "small.key")[1].endswith("cannot be used: ee key too small")


def test_a_key_that_no_client_can_use(tmp_path: Path) -> None:
    words = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1", "-nodes", "-subj", "/CN=x"]
    openssl("req", "-x509", *words, "-keyout", "odd.key", "-out", "odd.crt", cwd=tmp_path)
    told = wrong(tmp_path / "odd.crt", tmp_path / "odd.key")
    assert told[0] == "ftp.tls.key" and "no client can use it" in told[1]


def test_a_certificate_out_of_its_time_is_told(tmp_path: Path) -> None:
    loaded = load(*certificate(tmp_path))
    now = time.time()
    past = tlsfiles.Loaded(loaded.context, validity.Validity(0, 86400))
    assert past.outdated() == "the certificate expired on 1970-01-02"
    future = tlsfiles.Loaded(loaded.context, validity.Validity(now + 86400, now + 10 * 86400))
    assert future.outdated().startswith("the certificate holds from 20")


def test_a_key_that_others_can_read_or_write_is_told(tmp_path: Path) -> None:
    one, key = certificate(tmp_path)
    settings = TlsSettings("optional", str(one), str(key))
    for mode, told in ((0o600, ""), (0o640, ""), (0o644, str(key)), (0o602, str(key))):
        key.chmod(mode)
        assert tlsfiles.key_is_open(settings) == told
