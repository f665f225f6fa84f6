"""supervise.records: which file is opened to append to, and which is refused."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import StartError
from appliance.supervise.records import Records
from appliance.supervise.service import Service
from tests.supervise.test_service import make


@pytest.fixture
def service(tmp_path: Path) -> Service:
    (tmp_path / "jail").mkdir()
    return replace(make(), jail=f"{tmp_path}/jail", record=f"{tmp_path}/x.log")


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_the_file_is_made_for_us_and_only_appended_to(service: Service, umask: None) -> None:
    records = Records()
    records.renew((), [service])
    (descriptor,) = records.of(service)
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    assert flags & os.O_APPEND
    assert flags & os.O_ACCMODE == os.O_WRONLY
    assert stat.S_IMODE(os.stat(service.record).st_mode) == 0o640
    records.renew((), ())
    assert records.of(service) == []
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(descriptor)


def test_a_file_that_was_moved_away_is_opened_anew(service: Service) -> None:
    records = Records()
    records.renew([service], [service])
    os.write(*records.of(service), b"1\n")
    os.rename(service.record, f"{service.record}.1")
    records.renew([service], [service])
    os.write(*records.of(service), b"2\n")
    assert Path(service.record).read_bytes() == b"2\n"
    assert Path(f"{service.record}.1").read_bytes() == b"1\n"


def test_a_folder_that_is_gone_does_not_hinder_another_name_for_the_file(service: Service, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir(mode=0o755)
    first, records = replace(service, record=f"{tmp_path}/log/x.log"), Records()
    records.renew((), [first])
    before = records.of(first)
    os.unlink(first.record)
    os.rmdir(tmp_path / "log")
    records.renew([first], [service])
    assert records.of(first) == before  # for its workers, until all of them are gone
    assert records.of(service) != before
    records.renew([service], [service])
    assert records.of(first) == []


def _link(path: Path) -> None:
    path.symlink_to(path.parent / "other")


def _second_name(path: Path) -> None:
    path.write_bytes(b"")
    os.link(path, path.parent / "other")


def _served(path: Path) -> None:
    os.rename(path.parent / "jail", path.parent / "moved")
    (path.parent / "jail").symlink_to(path.parent)


def _open_folder(path: Path) -> None:
    path.parent.chmod(0o757)


@pytest.mark.parametrize("spoil", [_link, _second_name, os.mkfifo, os.mkdir, _served, _open_folder])
def test_what_is_no_file_of_ours_is_refused_and_the_old_one_kept(service: Service, spoil: object) -> None:
    assert callable(spoil)
    records = Records()
    records.renew((), [service])
    before = records.of(service)
    os.unlink(service.record)
    spoil(Path(service.record))
    with pytest.raises(StartError, match=r"observe\.xferlog.*\("):
        records.renew([service], [service])
    assert records.of(service) == before
