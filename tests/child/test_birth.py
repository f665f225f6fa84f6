"""How a child is born, and the traps that a jail sets for Python."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from appliance import wire
from appliance.supervise.spawn import spawn
from tests.child.traps import TRAPS
from tests.support import ROOT, born, spec, until

EXPECTED = {
    "codecs_for_host_names": "xétda",
    "numeric_addresses": "127.0.0.1",
    "local_time_is_utc": "0 UTC0",
    "parsing_a_time": "2026",
    "a_traceback_has_its_lines": "RuntimeError: trap",
    "logging_still_works": "ok",
    "random_bytes": "8",
    "error_texts": "No such file or directory",
    "the_environment_names_no_home": "none",
    "the_working_directory_is_the_root": "/",
    "a_name_that_is_not_utf8": "66ff",
    "a_host_name_is_refused_without_a_crash": "gaierror",
}


@pytest.fixture(scope="module")
def trapped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    jail = tmp_path_factory.mktemp("jail")
    jail.chmod(0o755)
    (jail / os.fsdecode(b"f\xff")).write_text("")
    with born("tests.child.traps:prepare", spec(str(jail), "ftp"), {}) as made:
        found: dict[str, str] = made.answer
        return found


@pytest.mark.parametrize("name", [trap.__name__ for trap in TRAPS])
def test_the_trap_does_not_spring(trapped: dict[str, str], name: str) -> None:
    expected = EXPECTED[name]
    assert trapped[name] == expected or (name == "local_time_is_utc" and trapped[name] in ("0 UTC", "0 UTC0"))


def test_a_child_is_born_with_three_standard_descriptors_and_its_channel(tmp_path: Path) -> None:
    extra = os.dup(0)
    child = spawn("test", 0)
    try:

        def held() -> set[int]:
            return {int(name) for name in os.listdir(f"/proc/{child.pid}/fd")}

        # the parent goes on a moment before the kernel closes what is closed on exec
        until(lambda: extra not in held(), 5, "the extra descriptor is closed")
        assert held() >= {0, 1, 2, 3}
        assert os.readlink(f"/proc/{child.pid}/fd/0") == "/dev/null"
        assert os.getsid(child.pid) == child.pid
    finally:
        os.close(extra)
        child.channel.close()
        os.waitpid(child.pid, 0)


def test_a_child_whose_first_message_is_no_start_ends_with_an_error() -> None:
    child = spawn("test", 0)
    child.channel.send(wire.pack(wire.Drain(1)))
    assert os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]) != 0
    child.channel.close()


def test_a_child_whose_jail_is_missing_does_not_serve(tmp_path: Path) -> None:
    with born("tests.child.traps:prepare", spec(str(tmp_path / "missing"), "ftp"), {}) as made:
        assert made.ready is None
        assert made.answer is None


def test_a_child_whose_parent_is_not_the_supervisor_does_not_serve(tmp_path: Path) -> None:
    with born("tests.child.traps:prepare", spec(str(tmp_path), "ftp", parent=1), {}) as made:
        assert made.ready is None


def test_a_udp_listener_that_a_predecessor_connected_hears_everybody_again(tmp_path: Path) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as listener, socket.socket(type=socket.SOCK_DGRAM) as client:
        with socket.socket(type=socket.SOCK_DGRAM) as first:  # a real listener is bound to a port by its number
            first.bind(("127.0.0.1", 0))
            address = first.getsockname()
        listener.bind(address)
        listener.connect(("127.0.0.1", 9))
        with born("tests.child.traps:prepare", spec(str(tmp_path), "tftp"), {}, (listener,)) as made:
            assert made.ready is not None
        client.sendto(b"hello", address)
        listener.settimeout(60)
        assert listener.recv(10) == b"hello"


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="needs root")
def test_what_a_child_reports_is_what_the_kernel_says(tmp_path: Path) -> None:
    from dataclasses import asdict

    from appliance.observe import tables

    child = spawn("test", 0)
    table = tables.create("test")
    listener = socket.socket()
    start = wire.Start(
        "test",
        0,
        "appliance.observe.control:prepare",
        {"log": "text"},
        asdict(spec(str(tmp_path), "status")),
        ("table", "listener:0"),
    )
    listener.bind(("127.0.0.1", 0))
    socket.send_fds(child.channel, [wire.pack(start)], [table, listener.fileno()])
    child.channel.setblocking(True)
    ready = wire.parse(child.channel.recv(1000), from_child=True)
    assert isinstance(ready, wire.Ready)
    said = dict(line.split(":", 1) for line in Path(f"/proc/{child.pid}/status").read_text().splitlines())
    assert said["Uid"].split() == ["64610"] * 4
    assert said["Gid"].split() == ["64610"] * 4
    assert said["Groups"].strip() == ""
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(said[kind], 16) == 0
    assert (said["NoNewPrivs"].strip(), said["Seccomp"].strip()) == ("1", "2")
    assert os.path.samefile(f"/proc/{child.pid}/root", tmp_path)
    kinds = [os.readlink(f"/proc/{child.pid}/fd/{name}") for name in os.listdir(f"/proc/{child.pid}/fd")]
    assert not [kind for kind in kinds if kind.startswith("/") and os.path.isdir(kind)]
    listener.close()
    os.close(table)
    child.channel.close()
    os.waitpid(child.pid, 0)
