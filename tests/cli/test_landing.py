from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from appliance.cli.landing import landing


def test_a_whole_file_gets_its_name_and_nothing_else_is_left(tmp_path: Path) -> None:
    with landing(str(tmp_path / "x")) as sink:
        sink.write(b"whole")
        assert not (tmp_path / "x").exists()
    assert (tmp_path / "x").read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("error", [OSError("disk"), KeyboardInterrupt()])
def test_a_transfer_that_fails_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "x").write_bytes(b"old")

    def fail() -> None:
        with landing(str(tmp_path / "x")) as sink:
            sink.write(b"half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert (tmp_path / "x").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_a_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    with landing(str(tmp_path / "link")) as sink:
        sink.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_a_fifo_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    heard: list[bytes] = []
    reader = threading.Thread(target=lambda: heard.append(fifo.read_bytes()))
    reader.start()
    with landing(str(fifo)) as sink:
        sink.write(b"through")
    reader.join(10)
    assert heard == [b"through"]
    assert fifo.is_fifo()


def test_a_new_file_gets_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with landing(str(tmp_path / "x")):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


def test_a_dash_is_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with landing("-") as sink:
        sink.write(b"\x00\xff")
    assert capfdbinary.readouterr().out == b"\x00\xff"


def test_a_name_of_the_longest_length_can_be_landed(tmp_path: Path) -> None:
    with landing(str(tmp_path / ("n" * 255))) as sink:
        sink.write(b"x")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"x"
