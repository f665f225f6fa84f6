from __future__ import annotations

import socket
from pathlib import Path

import pytest

from appliance.cli import control
from tests.cli.conftest import act_server, bound, served, status_server


def test_a_status_comes_through_a_path_of_any_length(run_dir: Path) -> None:
    assert len(str(run_dir)) > 108
    with status_server(run_dir, b'{"x": 1}' * 50_000):
        assert control.status(str(run_dir), 10) == b'{"x": 1}' * 50_000


def test_a_missing_run_dir_is_not_running(tmp_path: Path) -> None:
    with pytest.raises(control.NotRunning, match=r"^not running \(no supervisor on .*/nowhere\)$"):
        control.status(str(tmp_path / "nowhere"), 1)


def test_a_file_in_place_of_run_dir_is_not_running(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(control.NotRunning):
        control.status(str(tmp_path / "file"), 1)


def test_a_socket_that_was_left_over_is_not_running(run_dir: Path) -> None:
    bound(run_dir, "status.sock", socket.SOCK_STREAM).close()
    with pytest.raises(control.NotRunning):
        control.status(str(run_dir), 1)


def test_a_supervisor_that_is_silent_is_no_answer(run_dir: Path) -> None:
    with bound(run_dir, "status.sock", socket.SOCK_STREAM), pytest.raises(control.NoAnswer, match=r"within 0\.1 s"):
        control.status(str(run_dir), 0.1)


def test_an_answer_without_end_is_no_answer(run_dir: Path) -> None:
    with status_server(run_dir, bytes(3 << 20)), pytest.raises(control.NoAnswer, match="has no end"):
        control.status(str(run_dir), 10)


def test_a_socket_of_another_kind_is_told(run_dir: Path) -> None:
    with bound(run_dir, "status.sock", socket.SOCK_SEQPACKET), pytest.raises(control.NoAnswer, match="cannot ask"):
        control.status(str(run_dir), 1)


def test_an_order_yields_each_line_and_ends_with_the_outcome(run_dir: Path) -> None:
    with act_server(run_dir, b"reading", b"reloaded: tftp", b"ok", b"never read") as heard:
        assert list(control.order(str(run_dir), "reload", 10)) == ["reading", "reloaded: tftp", "ok"]
    assert heard == [b"reload"]


def test_a_supervisor_that_leaves_without_an_outcome_is_no_answer(run_dir: Path) -> None:
    with act_server(run_dir, b"stopping"), pytest.raises(control.NoAnswer, match="left without saying how it went"):
        list(control.order(str(run_dir), "stop", 10))


def test_an_order_that_takes_too_long_is_no_answer(run_dir: Path) -> None:
    with bound(run_dir, "act.sock", socket.SOCK_SEQPACKET), pytest.raises(control.NoAnswer, match=r"within 0\.1 s"):
        list(control.order(str(run_dir), "reload", 0.1))


def test_no_descriptor_is_left_behind(run_dir: Path) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    for _ in range(3):
        with pytest.raises(control.NotRunning):
            control.status(str(run_dir), 1)
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_a_run_dir_that_cannot_be_looked_into_is_no_answer() -> None:
    with pytest.raises(control.NoAnswer, match=r"cannot look into /xxx.*: File name too long"):
        control.status("/" + "x" * 300, 1)


def test_an_order_that_is_refused_before_it_was_given_still_tells_why(run_dir: Path) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.send(b"only root may do this")
        connection.send(b"failed")

    with served(bound(run_dir, "act.sock", socket.SOCK_SEQPACKET), refuse):
        assert list(control.order(str(run_dir), "stop", 10)) == ["only root may do this", "failed"]
