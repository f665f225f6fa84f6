"""Uploads by TFTP from inside the jail: every system call is in the promise, nothing is imported for them."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.settings.plain import encode
from appliance.settings.tftp import TftpSettings, TftpUploads
from tests.support import until
from tests.system.test_no_late_imports import watched
from tests.tftp.client import RefusedError, fetch, put
from tests.tftp.custodian import Custodian


def test_uploads_import_nothing_and_pass_the_filter(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    listener = socket.socket(type=socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", 0))
    address = listener.getsockname()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    uploads = TftpUploads(mode="create", bare_names="into_path", readable="networks")
    settings = {"tftp": encode(replace(TftpSettings(), uploads=uploads)), "workers": 1}
    (tmp_path / "uploads").mkdir(mode=0o700)
    roles = (("listener:0", listener), ("link:tftp-custody", theirs))
    with watched("appliance.tftp.worker:prepare", "tftp", settings, tmp_path, *roles, fsize=5_000_000) as (late, _):
        theirs.close()
        custodian = Custodian(ours, tmp_path / "uploads")
        content = os.urandom(4_500_000)
        put(address, "uploads/large", content, {"blksize": 1428, "windowsize": 32, "tsize": len(content)})
        put(address, "text", b"one\r\ntwo\r\0", mode="netascii")
        assert (tmp_path / "uploads/large").read_bytes() == content
        assert fetch(address, "uploads/text") == b"one\ntwo\r"
        for name in ("uploads/large", "boot/x", "uploads/a/b"):
            with pytest.raises(RefusedError):
                put(address, name, b"x")
        with pytest.raises(RefusedError, match="3 File is too large"):  # the kernel's limit, if all else failed
            put(address, "too-large", bytes(5_100_000), {"blksize": 1428, "windowsize": 32})
        with pytest.raises(RefusedError, match="1 File not found"):
            fetch(address, "missing")
        until(lambda: not custodian.open, what="the aborts")
        custodian.stop()
        with pytest.raises(RefusedError, match="0 Uploads are not possible"):
            put(address, "f", b"x")
    listener.close()
    assert late == [[]]
