"""The metrics of the whole program: over a Unix socket and the network, from confined children, whatever is asked."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.support import until
from tests.system.running import Appliance, tftp_read


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    folder = tmp_path_factory.mktemp("metrics")
    for place in (folder, folder.parent, folder.parent.parent):
        place.chmod(0o755)
    made = Appliance(folder)
    made.write(made.config.read_text().replace("log: text", 'log: text, metrics_listen: "127.0.0.1:0"'))
    try:
        yield made.start()
    finally:
        made.stop()


def page(running: Appliance) -> str:
    client = http.client.HTTPConnection(*running.address("metrics"), timeout=20)
    client.request("GET", "/metrics")
    answer = client.getresponse()
    text = answer.read().decode()
    client.close()
    assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (200, "application/openmetrics-text")
    return text


def value(text: str, name: str, **labels: str) -> float:
    found = [sample.value for family in text_string_to_metric_families(text) for sample in family.samples
             if sample.name == name and labels.items() <= sample.labels.items()]  # fmt: skip
    return sum(found)


def test_what_was_served_is_counted_also_after_its_worker_died(running: Appliance) -> None:
    address = running.address("tftp")
    for _ in range(5):
        tftp_read(address, b"hello.txt")
    with pytest.raises(OSError, match="File not found"):
        tftp_read(address, b"absent")
    until(lambda: value(page(running), "appliance_transfers_total", service="tftp") == 5, 10, "all are counted")
    text = page(running)
    assert value(text, "appliance_bytes_total", service="tftp") == 75
    assert value(text, "appliance_refused_total", service="tftp", reason="missing") == 1
    assert value(text, "appliance_transfer_duration_seconds_count", service="tftp") == 5
    assert value(text, "appliance_uploads_quota_bytes", service="custody") == 128 << 20
    for pid in running.pids("tftp"):
        os.kill(pid, signal.SIGKILL)
    until(lambda: value(page(running), "appliance_worker_restarts_total", service="tftp") == 2, 20, "both died")
    until(lambda: len(running.workers("tftp")) == 2, 20, "both are back")
    assert value(page(running), "appliance_transfers_total", service="tftp") == 5


def test_a_reload_makes_no_number_fall(running: Appliance) -> None:
    tftp_read(running.address("tftp"), b"hello.txt")
    before = until(lambda: value(page(running), "appliance_transfers_total", service="tftp"), 10)
    running.write(running.config.read_text().replace("workers: 2", "workers: 1"))
    assert running.verb("reload").returncode == 0
    until(lambda: len(running.status()["services"]["tftp"]["workers"]) == 1, 30, "the old ones have gone")
    assert value(page(running), "appliance_transfers_total", service="tftp") >= before


def test_the_unix_socket_tells_the_same(running: Appliance) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        folder = os.open(running.home / "run", os.O_PATH)
        sock.connect(f"/proc/self/fd/{folder}/metrics.sock")
        os.close(folder)
        sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        text = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
    assert value(text.partition("\r\n\r\n")[2], "appliance_ready") == 1


def test_half_a_request_is_dropped_after_ten_seconds_and_others_are_answered_meanwhile(running: Appliance) -> None:
    with socket.create_connection(running.address("metrics"), timeout=60) as half:
        half.sendall(b"GET /metrics HT")
        assert "appliance_ready 1" in page(running)
        with contextlib.suppress(ConnectionResetError):
            assert half.recv(100) == b""  # nothing was sent, and it is closed
    assert "appliance_ready 1" in page(running)


def test_garbage_half_requests_and_hundreds_of_them_change_nothing(running: Appliance) -> None:
    (child,) = running.pids("metrics")
    address = running.address("metrics")
    socks = []
    for number in range(300):
        sock = socket.create_connection(address, timeout=10)
        try:
            sock.sendall((b"GET /metr", os.urandom(200), b"\0" * 9000, b"POST / HTTP/1.1\r\n\r\n")[number % 4])
        except OSError:
            pass
        socks.append(sock)
    assert "appliance_ready 1" in page(running)
    for sock in socks:
        sock.close()
    assert running.pids("metrics") == {child}
    assert value(page(running), "appliance_crashes_total") == 0


def test_a_port_that_is_taken_is_told_by_check(tmp_path: Path) -> None:
    made = Appliance(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = f'log: text, metrics_listen: "127.0.0.1:{server.getsockname()[1]}"'
        made.write(made.config.read_text().replace("log: text", taken))
        done = made.verb("check")
    assert "observe.metrics_listen" in done.stdout + done.stderr
