"""A short run of the FTP part of `make fuzz`, and that it finds what is there to be found."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.ftp import handlers
from appliance.ftp.policy import FOREIGN
from tests.ftp.serving import server, settings
from tests.ftp.tlskit import certificate, secured
from tests.fuzz import ftp
from tests.fuzz.pure import FoundError

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_sessions_that_say_anything_in_any_order_leave_nothing_behind(tmp_path: Path, tls: bool) -> None:
    box = {"enabled": True}
    config = secured(certificate(tmp_path), incoming=box) if tls else settings(incoming=box)
    with server(ftp.tree(tmp_path / "root"), config) as running:
        ftp.Bench(running, 959).run(2500)


def test_no_word_of_the_fuzz_is_a_verb_of_http() -> None:
    assert not FOREIGN & set(ftp.WORDS)


def planted() -> None:
    """A defect in the worker's process."""

    def crash(*_: object) -> None:
        raise KeyError("planted")

    handlers.Handler.ftp_CDUP = crash


def test_a_planted_defect_is_found_and_told_with_the_seed(tmp_path: Path) -> None:
    with server(ftp.tree(tmp_path / "root"), settings(incoming={"enabled": True}), before=planted) as running:
        bench = ftp.Bench(running, 7)
        with pytest.raises(FoundError, match="of seed 7: an exception") as caught:
            bench.run(1000)
    assert "planted" in caught.value.test
