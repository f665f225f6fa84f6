"""What tests of uploads share: a server, the scripted custodian behind its link, and an upload that is under way."""

from __future__ import annotations

import os
from dataclasses import dataclass

from appliance.settings.tftp import TftpUploads
from tests.tftp.client import Put, ack
from tests.tftp.custodian import Custodian
from tests.tftp.server import Server

UPLOADS = TftpUploads(mode="create", bare_names="into_path", readable="networks")


@dataclass
class Box:
    """A server that takes uploads, and the custodian behind it."""

    server: Server
    custodian: Custodian
    relinked: int = 0  # how often it got a new one

    def stored(self) -> dict[str, bytes]:
        """What is there under a name of its own."""
        folder = self.custodian.folder
        return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}

    def hidden(self) -> list[str]:
        """What is not finished."""
        return [name for name in os.listdir(self.custodian.folder) if name.startswith(".")]


def under_way(box: Box, name: str = "f", **options: object) -> Put:
    """Block 1 of an upload of 5000 bytes is acknowledged."""
    upload = Put(box.server.address, name, bytes(5000), options or {"timeout": 5})
    upload.begin()
    upload.send(1)
    assert upload._receive(60) == ack(1)
    return upload
