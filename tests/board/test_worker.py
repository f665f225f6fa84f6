"""What the board reads before it is locked in."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.board import worker
from appliance.errors import StartError
from tests.ftp.tlskit import certificate, openssl


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    """OpenSSL would ask the terminal, and wait."""
    one, key = certificate(tmp_path)
    locked = tmp_path / "locked.key"
    openssl("pkey", "-in", str(key), "-aes128", "-passout", "pass:secret", "-out", str(locked), cwd=tmp_path)
    with pytest.raises(StartError, match=r"^observe\.board: .*the key needs a passphrase, and nobody is there"):
        worker._tls(str(one), str(locked))
    assert worker._tls(str(one), str(key)) is not None
    assert worker._tls(None, None) is None
