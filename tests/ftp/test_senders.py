"""ftp.senders: when a thread is worth it, and what it does with a socket."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.ftp import senders
from appliance.ftp.pool import Job
from appliance.ftp.senders import FAST, LONG, PAGE, THREADS, Senders, acknowledged, worth
from tests.ftp.serving import SECONDS, read_all

MIB = 1 << 20


@pytest.mark.parametrize(
    ("count", "seconds", "left", "given"),
    [
        (FAST, 1.0, LONG - 1, 0),
        (FAST, 1.0, LONG, LONG),
        (FAST, 1.0, 1 << 40, FAST),
        (FAST - 1, 1.0, 1 << 40, 0),
        (FAST, 0.5, 1 << 40, 2 * FAST),
        (FAST, 0.001, 1 << 40, 1 << 30),
        (FAST, 0.0, 1 << 40, 1 << 30),
        (FAST, 0.0, LONG, LONG),
    ],
)
def test_a_thread_gets_what_a_fast_client_takes_in_a_second(count: int, seconds: float, left: int, given: int) -> None:
    assert worth(count, seconds, left) == given


@pytest.fixture
def threads() -> Iterator[Senders]:
    made = Senders()
    made.pool.start()
    yield made
    made.pool.close()
    os.close(made.pool.fileno())


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection: the server's, the client's."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname(), SECONDS) as client,
        listener.accept()[0] as server,
    ):
        yield server, client


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    """40 MiB of nothing."""
    (tmp_path / "file").touch()
    os.truncate(tmp_path / "file", 40 * MIB)
    fd = os.open(tmp_path / "file", os.O_RDWR)
    yield fd
    os.close(fd)


def no_wall() -> None:
    pytest.fail("the wall was met")


def told(threads: Senders, jobs: list[Job], number: int = 1) -> None:
    while len(jobs) < number:
        assert select.select([threads.pool.fileno()], [], [], SECONDS)[0]
        threads.pool.handle_read_event()


def test_a_thread_sends_what_it_was_given_and_the_socket_stays_ours(
    threads: Senders, pair: tuple[socket.socket, socket.socket], file: int
) -> None:
    server, client = pair
    jobs: list[Job] = []
    os.pwrite(file, b"begin", 10)
    assert threads.send((server, file, 10), MIB, jobs.append, no_wall)
    told(threads, jobs)
    assert (jobs[0].value, jobs[0].error, threads.free) == (MIB, None, THREADS)
    server.sendall(b"end")
    server.close()
    content = read_all(client)
    assert content == b"begin" + bytes(MIB - 5) + b"end"


def test_whole_pages_follow_what_leads_to_the_next_page_and_the_last_segment_is_not_held_back(
    monkeypatch: pytest.MonkeyPatch, threads: Senders, pair: tuple[socket.socket, socket.socket], file: int
) -> None:
    calls: list[tuple[int, int, int]] = []
    sendfile = os.sendfile

    def noted(out: int, source: int, offset: int, count: int) -> int:
        with socket.socket(fileno=os.dup(out)) as sock:
            calls.append((offset, count, sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK)))
        return sendfile(out, source, offset, count)

    monkeypatch.setattr(os, "sendfile", noted)
    server, client = pair
    jobs: list[Job] = []
    for offset, count in ((PAGE + 1, 3 * PAGE), (PAGE, 10), (PAGE - 5, 5), (PAGE - 5, 4)):
        assert threads.send((server, file, offset), count, jobs.append, no_wall)
        assert client.recv(count, socket.MSG_WAITALL) == bytes(count)
        told(threads, jobs, len(jobs) + 1)
        assert server.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK) == 0
    assert [job.value for job in jobs] == [3 * PAGE, 10, 5, 4]
    expected = [(PAGE + 1, PAGE - 1), (2 * PAGE, 2 * PAGE + 1), (PAGE, 10), (PAGE - 5, 5), (PAGE - 5, 4)]
    assert calls == [(offset, count, 1) for offset, count in expected]


@pytest.mark.parametrize("offset", [0, PAGE - 5])
def test_what_went_before_a_failure_counts(
    monkeypatch: pytest.MonkeyPatch,
    threads: Senders,
    pair: tuple[socket.socket, socket.socket],
    file: int,
    offset: int,
) -> None:
    sendfile = os.sendfile

    def pages_fail(out: int, source: int, offset: int, count: int) -> int:
        if offset % PAGE == 0:
            raise BlockingIOError(errno.EAGAIN, "no room")
        return sendfile(out, source, offset, count)

    monkeypatch.setattr(os, "sendfile", pages_fail)
    jobs: list[Job] = []
    assert threads.send((pair[0], file, offset), MIB, jobs.append, no_wall)
    told(threads, jobs)
    if offset:
        assert (jobs[0].value, jobs[0].error) == (5, None)
    else:
        assert jobs[0].error is not None and jobs[0].error.errno == errno.EAGAIN


def test_what_the_client_has_confirmed_is_told_by_the_kernel(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    before = acknowledged(server)
    server.sendall(bytes(MIB // 16))
    received = 0
    while received < MIB // 16:
        received += len(client.recv(MIB))
    client.sendall(b"x")  # carries the last confirmation at the latest
    assert server.recv(1) == b"x"
    assert acknowledged(server) - before == MIB // 16
    here, there = socket.socketpair()
    with here, there:
        assert acknowledged(here) == 0


def test_a_client_that_takes_nothing_more_gives_the_thread_back(
    threads: Senders, pair: tuple[socket.socket, socket.socket], file: int
) -> None:
    jobs: list[Job] = []
    server, _client = pair
    assert threads.send((server, file, 0), 40 * MIB, jobs.append, no_wall)
    told(threads, jobs)
    assert 0 < jobs[0].value < 40 * MIB
    assert threads.send((server, file, 0), 40 * MIB, jobs.append, no_wall)
    told(threads, jobs, 2)
    assert jobs[1].error is not None and jobs[1].error.errno == errno.EAGAIN


def test_a_connection_that_is_shut_down_frees_its_thread_at_once(
    monkeypatch: pytest.MonkeyPatch, threads: Senders, pair: tuple[socket.socket, socket.socket], file: int
) -> None:
    monkeypatch.setattr(senders, "PATIENCE_S", 3600)
    jobs: list[Job] = []
    server, client = pair
    assert threads.send((server, file, 0), 40 * MIB, jobs.append, no_wall)
    select.select([client], [], [], SECONDS)
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    told(threads, jobs)
    assert jobs[0].error is None or jobs[0].error.errno == errno.EPIPE
    assert len(read_all(client)) < 40 * MIB


def test_with_all_threads_at_work_or_no_descriptor_left_the_loop_goes_on(
    monkeypatch: pytest.MonkeyPatch, threads: Senders, pair: tuple[socket.socket, socket.socket], file: int
) -> None:
    server, client = pair
    jobs: list[Job] = []

    def none_left(_fd: int) -> int:
        raise OSError(errno.EMFILE, "no descriptor is left")

    with monkeypatch.context() as patched:
        patched.setattr(os, "dup", none_left)
        assert not threads.send((server, file, 0), MIB, jobs.append, no_wall)
    threads.free = 0
    assert not threads.send((server, file, 0), MIB, jobs.append, no_wall)
    threads.free = 1
    assert threads.send((server, file, 0), 10, jobs.append, no_wall)
    assert client.recv(10, socket.MSG_WAITALL) == bytes(10)
    told(threads, jobs)
    assert threads.free == 1
