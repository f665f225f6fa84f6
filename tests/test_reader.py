"""reader: what the settings reader says of settings that the machine cannot keep."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance import reader
from tests.judged import changed
from tests.test_wiring import HOST


@pytest.mark.parametrize(
    ("nofile", "keys"), [(8192, []), (8191, ["ftp.limits.sessions"]), (4096, ["ftp.limits.sessions"])]
)
def test_caps_that_need_more_descriptors_than_there_are_are_told(nofile: int, keys: list[str]) -> None:
    """Seen: with 256 descriptors and 900 sessions, clients waited without a word, and nothing was told before."""
    told = list(reader._shortages(changed(), replace(HOST, nofile=nofile)))
    assert [problem.key for problem in told] == keys


def test_the_remedy_names_a_cap_that_fits_and_a_service_that_is_off_needs_nothing() -> None:
    (transfers,) = reader._shortages(changed(ftp={"enabled": False}), replace(HOST, nofile=4095))
    assert str(transfers) == (
        "warning: tftp.limits.transfers: 4096 may need 4096 descriptors in one worker, which is allowed 4095 "
        "(ulimit -Hn, LimitNOFILE= of the unit, or tftp.limits.transfers: 1023)"
    )
    fits = changed(ftp={"limits": {"sessions": 1023}}, tftp={"enabled": False})
    assert list(reader._shortages(fits, replace(HOST, nofile=4095))) == []
