"""The board's web server, over real sockets, with good and bad clients."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.board import guard, server
from tests.board.serving import Running, parsed, running


@pytest.fixture
def board() -> Iterator[Running]:
    with running() as one:
        yield one


def test_the_page_comes_with_headers_that_keep_everything_else_out(board: Running) -> None:
    status, headers, body = board.ask()
    assert (status, body) == (200, b"<!doctype html>hello")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_a_page_that_a_browser_has_already_is_not_sent_again(board: Running) -> None:
    tag = board.ask()[1]["etag"]
    status, _, body = board.ask(If_None_Match=tag)
    assert (status, body) == (304, b"")


def test_head_sends_the_length_and_no_body(board: Running) -> None:
    status, headers, body = board.ask(method="HEAD")
    assert (status, headers["content-length"], body) == (200, "20", b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_the_board_can_only_be_read(board: Running, method: str) -> None:
    assert board.ask(method=method)[0] == 405


def test_a_name_that_somebody_points_at_us_gets_nothing(board: Running) -> None:
    status, _, body = board.ask(host="evil.example")
    assert (status, b"hello" in body) == (421, False)
    assert board.lost == [("127.0.0.1", "a Host that is not ours")]


def test_a_page_from_elsewhere_gets_nothing(board: Running) -> None:
    assert board.ask("/board.json", Origin="http://evil.example")[0] == 403
    assert board.ask("/board.json", Origin=f"http://localhost:{board.port}")[0] == 200


def test_what_is_not_there_is_not_there(board: Running) -> None:
    assert board.ask("/../../etc/passwd")[0] == 404
    assert board.ask("/machine.json")[0] == 404
    assert board.ask("/machine.json?key=unknown")[0] == 404
    assert json.loads(board.ask("/machine.json?key=known")[2]) == {"key": "known"}


def test_several_requests_go_over_one_connection(board: Running) -> None:
    request = f"GET / HTTP/1.1\r\nHost: localhost:{board.port}\r\n\r\n".encode()
    with board.connect() as sock:
        for _ in range(3):
            sock.sendall(request)
            got = b""
            while not got.endswith(b"hello"):
                got += sock.recv(4096)
            assert got.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"USER anonymous\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_what_is_no_request_is_told_so_and_hurts_nobody(board: Running, sent: bytes) -> None:
    status, _, _ = board.raw(sent)
    assert status in (400, 421, 431, 501)
    assert board.ask()[0] == 200


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=300))
def test_no_bytes_end_the_server(board: Running, sent: bytes) -> None:
    with board.connect() as sock:
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(4096):
            pass
    assert board.ask()[0] == 200


def test_a_request_that_trickles_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_S", 0.2)
    with running() as board, board.connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: ")
        sock.settimeout(10)
        assert sock.recv(100) == b""


def test_an_idle_connection_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE_S", 0.2)
    with running() as board, board.connect() as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: localhost:{board.port}\r\n\r\n".encode())
        sock.settimeout(10)
        got = b""
        while piece := sock.recv(4096):
            got += piece
        assert got.endswith(b"hello")


def test_one_address_cannot_take_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PER_CLIENT", 2)
    with running() as board:
        first, second, third = board.connect(), board.connect(), board.connect()
        with first, second, third:
            third.settimeout(10)
            assert third.recv(10) == b""
            assert board.lost == [("127.0.0.1", "too many connections")]


def listening(board: Running) -> socket.socket:
    sock = board.connect()
    sock.settimeout(10)
    sock.sendall(f"GET /events HTTP/1.1\r\nHost: localhost:{board.port}\r\n\r\n".encode())
    return sock


def until(sock: socket.socket, mark: bytes) -> bytes:
    got = b""
    while mark not in got:
        piece = sock.recv(65536)
        assert piece, got
        got += piece
    return got


def test_a_page_that_listens_gets_everything_and_then_what_changes(board: Running) -> None:
    with listening(board) as sock:
        first = until(sock, b'{"rows":[]}')
        assert parsed(first)[1]["content-type"] == "text/event-stream"
        board.call(board.server.broadcast, {"rows": [1]})
        assert b'data: {"rows":[1]}\n\n' in until(sock, b"\n\n")
        board.call(board.server.beat)
        assert b": still here" in until(sock, b"\n\n")
    for _ in range(1000):
        if not board.call(lambda: len(board.server.streams)):
            break
    assert board.call(lambda: len(board.server.streams)) == 0


def test_a_page_that_does_not_read_is_cut_off_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_BACKLOG", 1 << 16)
    with running() as board, listening(board) as slow, listening(board) as good:
        until(slow, b"rows")
        until(good, b"rows")
        for number in range(200):
            board.call(board.server.broadcast, {"number": number, "filler": "x" * 60_000})
            until(good, b"\n\n")
            if board.call(lambda: len(board.server.streams)) == 1:
                break
        assert board.call(lambda: len(board.server.streams)) == 1


def test_two_hundred_pages_listen_at_once_and_one_too_many_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STREAMS", 200)
    with running() as board:
        pages = [listening(board) for _ in range(200)]
        for page in pages:
            until(page, b"rows")
        with listening(board) as late:
            assert b"503" in until(late, b"\r\n\r\n")
        board.call(board.server.broadcast, {"hello": 1})
        for page in pages:
            assert b'{"hello":1}' in until(page, b"hello")
            page.close()


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anyone:{password}".encode()).decode()


def test_a_password_is_asked_for_and_remembered() -> None:
    with running(password=guard.store("secret", b"0" * 16)) as board:
        status, headers, body = board.ask()
        assert (status, "Basic" in headers["www-authenticate"], b"hello" in body) == (401, True, False)
        assert board.ask("/events")[0] == 401
        assert board.ask(Authorization=basic("wrong"))[0] == 401
        for _ in range(6):
            assert board.ask(Authorization=basic("secret"))[0] == 200


def test_guessing_costs_no_more_than_a_few_tries_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bytes] = []
    monkeypatch.setattr(guard, "matches", lambda password, _stored: tried.append(password) or False)
    with running(password="x") as board:
        for number in range(20):
            assert board.ask(Authorization=basic(str(number)))[0] == 401
    assert 0 < len(tried) < 20
