"""settings.box: what a custodian is told."""

from __future__ import annotations

import pytest

from appliance.settings.box import of_incoming, of_uploads
from appliance.settings.ftp import IncomingSettings
from appliance.settings.tftp import TftpUploads


def test_the_drop_box_takes_new_names_only_and_gives_nothing_back() -> None:
    box = of_incoming(IncomingSettings(max_size=5, deny_names=("*.exe",)))
    assert (box.mode, box.keep_versions, box.readable, box.max_size) == ("create", 0, "none", 5)
    assert box.deny_names == ("*.exe",)


def test_uploads_by_tftp_say_how_names_are_replaced_and_who_reads() -> None:
    box = of_uploads(TftpUploads(mode="replace", keep_versions=3, readable="networks", readers=("192.0.2.0/24",)))
    assert (box.mode, box.keep_versions, box.readable, box.readers) == ("replace", 3, "networks", ("192.0.2.0/24",))


def test_without_uploads_there_is_nothing_to_tell_a_custodian() -> None:
    with pytest.raises(ValueError, match="no uploads"):
        of_uploads(TftpUploads())
