"""ftp.uploads with a real custodian: what arrives whole is kept, everything else leaves nothing."""

from __future__ import annotations

import ftplib
import io
import itertools
import os
import resource
import select
import signal
import socket
import stat
import struct
import threading
from pathlib import Path

import pytest

from appliance import wire as control
from appliance.custody import wire as custody
from tests.ftp.serving import SECONDS, Raw, Server, link, pour, server, settings, store, until
from tests.tftp.custodian import Custodian

RESET = struct.pack("ii", 1, 0)


def names(running: Server) -> list[str]:
    return sorted(os.listdir(running.box))


def used(running: Server) -> int:
    """Bytes in the drop box now, partials included."""
    total = 0
    for name in names(running):
        try:
            total += (running.box / name).stat().st_size
        except FileNotFoundError:
            continue
    return total


def empty(running: Server) -> None:
    """Wait until neither file nor partial is left."""
    until(lambda: names(running) == [])


def begin(raw: Raw, name: str = "incoming/x") -> socket.socket:
    """A STOR that is under way; the data socket."""
    raw.ask("TYPE I")
    data = raw.passive()
    assert raw.ask(f"STOR {name}").startswith("150")
    return data


def test_an_upload_arrives_whole_with_mode_and_time(boxed: Server) -> None:
    content = os.urandom(9_000_001)
    assert store(boxed.ftp(), "incoming/report.pdf", content).startswith("226")
    path = boxed.box / "report.pdf"
    assert path.read_bytes() == content
    assert stat.S_IMODE(path.stat().st_mode) == 0o640 and path.stat().st_nlink == 1
    assert names(boxed) == ["report.pdf"]


def test_an_upload_that_has_ended_before_it_begins(boxed: Server) -> None:
    with boxed.raw() as raw:
        raw.ask("TYPE I")
        raw.passive().close()
        assert raw.ask("STOR incoming/nothing").startswith("150")
        assert raw.reply().startswith("226")
    assert (boxed.box / "nothing").read_bytes() == b""


def test_an_upload_from_inside_the_folder_and_an_empty_one(boxed: Server) -> None:
    client = boxed.ftp()
    client.cwd("incoming")
    assert store(client, "empty", b"").startswith("226")
    assert store(client, "./one", b"1").startswith("226")
    assert {name: (boxed.box / name).read_bytes() for name in names(boxed)} == {"empty": b"", "one": b"1"}


def test_an_upload_in_type_a_gets_the_lines_of_a_file(boxed: Server) -> None:
    client = boxed.ftp()
    text = b"one\r\ntwo\r\rthree\r\n" * 50_000 + b"\r"
    client.sendcmd("TYPE A")
    with client.transfercmd("STOR incoming/t") as data:
        data.sendall(text)
    assert client.voidresp().startswith("226")
    assert (boxed.box / "t").read_bytes() == text.replace(b"\r\n", b"\n")


def test_an_active_upload(boxed: Server) -> None:
    client = boxed.ftp()
    client.set_pasv(False)
    content = os.urandom(700_000)
    assert store(client, "incoming/a", content).startswith("226")
    assert (boxed.box / "a").read_bytes() == content


def test_a_name_that_exists_is_553_and_keeps_its_content(boxed: Server) -> None:
    client = boxed.ftp()
    store(client, "incoming/a", b"first")
    for verb in ("STOR", "APPE"):
        with pytest.raises(ftplib.error_perm, match=r"^55[03]"):
            client.storbinary(f"{verb} incoming/a", io.BytesIO(b"second"))
    assert (boxed.box / "a").read_bytes() == b"first"


def test_a_name_under_way_is_taken_and_free_again_after_it_failed(boxed: Server) -> None:
    with boxed.raw() as one, boxed.raw() as two:
        data = begin(one)
        two.passive()
        assert two.ask("STOR incoming/x") == "553 This name is taken.\r\n"
        one.say("ABOR")
        assert one.reply().startswith("426") and one.reply().startswith("226")
        data.close()
        assert two.ask("STOR incoming/x").startswith("150")


def test_nothing_in_the_drop_box_can_be_seen_or_fetched(boxed: Server) -> None:
    store(boxed.ftp(), "incoming/a", b"secret")
    with boxed.raw() as raw:
        raw.ask("TYPE I")
        for line in ("SIZE incoming/a", "MDTM incoming/a", "MLST incoming/a", "STAT incoming/a", "CWD incoming/a"):
            assert raw.ask(line) == "550 No such file or directory.\r\n", line
        raw.passive()
        assert raw.ask("RETR incoming/a").startswith("550")
        assert raw.ask("NLST incoming/a").startswith("550")
        assert raw.ask("NLST incoming/*").startswith("550")
        assert raw.ask("CWD incoming").startswith("250")
        for listing in ("LIST", "NLST", "MLSD", "LIST -la", "NLST ."):
            assert raw.get(listing) == b"", listing
        assert raw.ask("STAT .").count("\n") == 2
        assert "perm=ec;" in raw.ask("MLST .")


@pytest.mark.parametrize("name", [".hidden", "-rf", "a\u202eb", "caf\xe9", "x" * 256, "a.exe", ".up-0123"])
def test_a_bad_name_is_553_with_its_reason(tree: Path, name: str) -> None:
    with server(tree, settings(incoming={"enabled": True, "deny_names": ("*.EXE",)})) as running, running.raw() as raw:
        raw.passive()
        encoded = name.encode("latin-1") if name == "caf\xe9" else name.encode()
        assert raw.ask(b"STOR incoming/" + encoded).startswith("553")
        assert raw.ask("STOR incoming/good").startswith("150")


def test_uploads_elsewhere_and_resumed_are_refused(boxed: Server) -> None:
    with boxed.raw() as raw:
        raw.ask("TYPE I")
        raw.passive()
        assert raw.ask("STOR x").startswith("550")
        assert raw.ask("STOR incoming/folder/x").startswith("553")
        assert raw.ask("STOR incoming").startswith("550")
        raw.ask("REST 5")
        assert raw.ask("STOR incoming/x").startswith("501")


def test_a_reset_of_the_data_connection_is_never_226_and_leaves_nothing(boxed: Server) -> None:
    for size in (0, 1, 100_000, 5_000_000):
        with boxed.raw() as raw:
            data = begin(raw)
            data.sendall(b"x" * size)
            data.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            data.close()
            assert raw.reply().startswith("426")
    empty(boxed)


def test_a_client_that_dies_leaves_nothing(boxed: Server) -> None:
    """A kernel closes the connections of a killed client in order, the control connection, which is older, first."""
    for _ in range(5):
        raw = boxed.raw()
        data = begin(raw)
        data.sendall(b"x" * 100_000)
        raw.file.close()
        raw.sock.close()
        raw.close()
        empty(boxed)


def test_both_connections_closed_in_order_at_once_is_a_dead_client(boxed: Server) -> None:
    raw = boxed.raw()
    data = begin(raw)
    data.sendall(b"x" * 1000)
    raw.file.close()
    raw.sock.close()
    data.close()
    empty(boxed)


def test_abor_at_every_step_leaves_nothing(boxed: Server) -> None:
    with boxed.raw() as raw:
        raw.ask("TYPE I")
        raw.passive()
        raw.sock.sendall(b"STOR incoming/x\r\nABOR\r\n")  # before the custodian has answered
        assert raw.reply()[:3] in ("426", "150")
        while not raw.reply().startswith("226"):
            pass
        raw.ask("EPSV")
        assert raw.ask("STOR incoming/x").startswith("150")  # before the data connection
        raw.sock.sendall(b"ABOR\r\n")
        assert [raw.reply()[:3], raw.reply()[:3]] == ["426", "226"]
        data = begin(raw)
        data.sendall(b"x" * 300_000)
        raw.sock.sendall(b"ABOR\r\n")
        assert [raw.reply()[:3], raw.reply()[:3]] == ["426", "226"]
        empty(boxed)
        assert raw.ask("NOOP").startswith("200")


def test_a_stalled_upload_is_ended_and_leaves_nothing(tree: Path) -> None:
    config = settings(incoming={"enabled": True}, limits={"stall_timeout": 1.0})
    with server(tree, config) as running, running.raw() as raw:
        begin(raw).sendall(b"x")
        assert raw.reply().startswith("426")
        empty(running)
        assert raw.ask("NOOP").startswith("200")


def test_the_size_declared_with_allo_is_refused_up_front(tree: Path) -> None:
    with server(tree, settings(incoming={"enabled": True, "max_size": 1000})) as running, running.raw() as raw:
        raw.passive()
        assert raw.ask("ALLO 1001").startswith("200")
        assert raw.ask("STOR incoming/x") == "552 The file is too large.\r\n"
        assert raw.ask("ALLO x").startswith("501")
        assert raw.ask("STOR incoming/x").startswith("150")


@pytest.mark.parametrize("size", [999, 1000, 1001])
def test_the_largest_size_is_kept_to_the_byte(tree: Path, size: int) -> None:
    with server(tree, settings(incoming={"enabled": True, "max_size": 1000})) as running:
        client = running.ftp()
        if size <= 1000:
            assert store(client, "incoming/x", b"x" * size).startswith("226")
            assert (running.box / "x").stat().st_size == size
        else:
            with pytest.raises((ftplib.error_perm, ConnectionError)) as caught:
                store(client, "incoming/x", b"x" * size)
            if isinstance(caught.value, ftplib.error_perm):
                assert str(caught.value).startswith("552")
            empty(running)


def test_the_largest_size_holds_for_large_files_too(tree: Path) -> None:
    limit = 10 << 20
    with server(tree, settings(incoming={"enabled": True, "max_size": limit})) as running, running.raw() as raw:
        data = begin(raw)
        data.sendall(b"x" * limit)
        data.close()
        assert raw.reply().startswith("226")
        data = begin(raw, "incoming/y")
        with pytest.raises(OSError):  # noqa: PT011  reset or broken pipe
            pour(data, 100)
        assert raw.reply() == "552 The file is too large.\r\n"
        until(lambda: names(running) == ["x"])


def test_parallel_uploads_never_exceed_the_quota(tree: Path) -> None:
    quota = 20 << 20
    config = settings(incoming={"enabled": True, "quota": quota, "per_client_quota": 1 << 40})
    whole, count = 6 << 20, 8
    replies: dict[int, str] = {}

    def upload(number: int) -> None:
        raw = clients[number]
        data = raw.passive()
        first = raw.ask(f"STOR incoming/{number}")
        if not first.startswith("150"):
            replies[number] = first
            return
        try:
            data.sendall(b"x" * whole)
        except OSError:
            replies[number] = raw.reply()

    def settled() -> bool:
        """Every client was refused, or all it sent is in the box; what is refused is gone."""
        for number, raw in enumerate(clients):
            if number not in replies and select.select([raw.sock], [], [], 0)[0]:
                replies[number] = raw.reply()
        return used(running) == (count - len(replies)) * whole

    with server(tree, config) as running:
        clients = [running.raw() for _ in range(count)]
        for raw in clients:
            raw.ask("TYPE I")
        threads = [threading.Thread(target=upload, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        until(settled)
        assert {reply[:3] for reply in replies.values()} == {"552"}
        assert 0 < used(running) <= quota
        for number, raw in enumerate(clients):
            if number not in replies:
                raw.datas[-1].close()
                assert raw.reply().startswith("226")
            raw.close()


def test_uploads_that_filled_the_box_together_were_all_refused_when_each_asked_ahead(tree: Path) -> None:
    """Five are promised 4 MiB each, which is all; those that are refused leave room for others."""
    config = settings(incoming={"enabled": True, "quota": 20 << 20, "per_client_quota": 1 << 40})
    with server(tree, config) as running:
        clients = [running.raw() for _ in range(5)]
        datas = []
        for number, raw in enumerate(clients):
            raw.ask("TYPE I")
            datas.append(raw.passive())
            assert raw.ask(f"STOR incoming/{number}").startswith("150")
        for data in datas:
            data.sendall(b"x" * (3 << 20))
        until(lambda: used(running) == 15 << 20)
        replies = []
        for raw, data in zip(clients, datas, strict=True):
            try:
                data.sendall(b"x" * (3 << 20))
            except OSError:
                pass  # it is refused already
            data.close()
            replies.append(raw.reply()[:3])
            raw.close()
        assert replies == ["552", "226", "226", "552", "226"]
        assert used(running) == 18 << 20


def test_what_is_refused_ahead_is_asked_for_again_each_time_and_not_only_once(tree: Path) -> None:
    """Seen: after a first grant the second refusal was for good, whatever uploads of other workers had left since."""
    asked: list[custody.FromWorker] = []

    def script(message: custody.FromWorker) -> bool:
        if isinstance(message, custody.Extend):
            asked.append(message)
            if len(asked) % 2:
                scripted.say(custody.Refused(message.id, custody.Reason.QUOTA))
                return True
        return False

    with server(tree, settings(incoming={"enabled": True})) as running:
        theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        scripted = Custodian(ours, tree.parent / "scripted")
        scripted.script = script
        try:
            with theirs:
                running.worker.tell(control.Link(0), (theirs.fileno(),))
            client = running.ftp()
            number = itertools.count()

            def attached() -> bool:
                try:
                    store(client, f"incoming/{next(number)}", b"")
                except ftplib.error_temp:
                    pass  # the other custodian was just taken from it
                return "Reserve" in scripted.kinds()

            until(attached)
            assert store(client, "incoming/f", bytes(11_000_000)).startswith("226")
            assert len(asked) >= 4
        finally:
            scripted.stop()


def test_the_share_of_one_client_is_its_own(tree: Path) -> None:
    config = settings(incoming={"enabled": True, "per_client_quota": 1 << 20})
    with server(tree, config) as running:
        one, two = running.ftp(source_address=("127.0.0.1", 0)), running.ftp(source_address=("127.0.0.2", 0))
        assert store(one, "incoming/a", b"x" * (1 << 20)).startswith("226")
        with pytest.raises(ftplib.error_perm, match=r"^552 Your share"):
            store(one, "incoming/b", b"x")
        assert store(two, "incoming/b", b"x" * (1 << 20)).startswith("226")


def test_the_number_of_files_is_kept_and_room_is_seen_at_once(tree: Path) -> None:
    with server(tree, settings(incoming={"enabled": True, "max_files": 2})) as running:
        client = running.ftp()
        store(client, "incoming/a", b"")
        store(client, "incoming/b", b"")
        with pytest.raises(ftplib.error_perm, match=r"^552 The drop box holds too many"):
            store(client, "incoming/c", b"")
        (running.box / "a").unlink()

        def stored() -> bool:
            try:
                return store(client, "incoming/c", b"").startswith("226")
            except ftplib.error_perm:
                return False

        until(stored)
        assert names(running) == ["b", "c"]


def test_the_workers_own_file_limit_ends_an_upload_with_552(tree: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    with server(tree, settings(incoming={"enabled": True}), before=limit) as running, running.raw() as raw:
        data = begin(raw)
        with pytest.raises(OSError):  # noqa: PT011  reset or broken pipe
            pour(data, 100)
        assert raw.reply().startswith("552")
        empty(running)


def test_a_dead_custodian_is_451_then_450_and_a_new_one_serves(tree: Path) -> None:
    with server(tree, settings(incoming={"enabled": True})) as running, running.raw() as raw:
        assert running.custodian is not None
        data = begin(raw)
        data.sendall(b"x" * 100_000)
        os.kill(running.custodian.pid, signal.SIGKILL)
        assert raw.reply().startswith("451")
        raw.passive()
        assert raw.ask("STOR incoming/y").startswith("450")
        assert raw.get("RETR big")

        from tests.ftp.serving import custodian

        with custodian(running.box, settings(incoming={"enabled": True}).incoming, tree.parent / "second.log") as new:
            running.worker.tell(control.Link(0), (link(new).detach(),))
            client = running.ftp()

            def stored() -> bool:
                try:
                    return store(client, "incoming/z", b"z").startswith("226")
                except ftplib.error_temp:
                    return False

            until(stored)
            assert names(running) == ["z"]


def test_a_worker_that_dies_leaves_nothing(tree: Path) -> None:
    with server(tree, settings(incoming={"enabled": True})) as running:
        raw = running.raw()
        begin(raw).sendall(b"x" * 100_000)
        until(lambda: any((running.box / name).stat().st_size for name in names(running)))
        os.kill(running.worker.pid, signal.SIGKILL)
        empty(running)
        raw.close()


def test_other_sessions_are_served_while_the_custodian_is_busy(tree: Path) -> None:
    from appliance.custody import store as disk

    def slow() -> None:
        disk.os = SlowDisk()  # type: ignore[assignment]

    go, stop = os.pipe()
    slowed, begin_to_be_slow = os.pipe()

    class SlowDisk:
        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

        def fsync(self, fd: int) -> None:
            if select.select([slowed], [], [], 0)[0]:  # the rehearsal of the custodian's first turn is not waited for
                select.select([go], [], [], SECONDS)
            os.fsync(fd)

    slowly = server(tree, settings(incoming={"enabled": True}), custody_before=slow)
    with slowly as running, running.raw() as raw, running.raw() as other:
        data = begin(raw)
        os.write(begin_to_be_slow, b"x")
        data.sendall(b"x")
        data.close()
        raw.sock.setblocking(False)
        for _ in range(30):
            assert other.ask("NOOP").startswith("200")
        with pytest.raises(BlockingIOError):
            raw.sock.recv(1)
        os.write(stop, b"x")
        raw.sock.settimeout(SECONDS)
        assert raw.reply().startswith("226")
    for end in (go, stop, slowed, begin_to_be_slow):
        os.close(end)


def test_an_upload_is_two_lines_one_of_each_side(boxed: Server) -> None:
    store(boxed.ftp(), "incoming/a", b"12345")
    assert boxed.custodian is not None
    until(lambda: "verb=STOR path=/incoming/a bytes=5" in boxed.worker.log_text())
    keeper = boxed.custodian
    until(lambda: "stored client=127.0.0.1 name=a bytes=5" in keeper.log_text())


def test_a_custodian_gone_bad_cannot_stop_the_worker_with_a_pipe(tree: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(10)
    with server(tree, settings(incoming={"enabled": True})) as running, running.raw() as raw, running.raw() as other:
        running.worker.tell(control.Link(0), (theirs.fileno(),))
        theirs.close()
        raw.passive()
        raw.say("STOR incoming/x")
        asked = custody.parse_from_worker(ours.recv(8192))
        reading, writing = os.pipe()
        socket.send_fds(ours, [custody.pack(custody.Granted(asked.id, 1 << 20))], [writing])
        assert raw.reply().startswith("421")
        assert other.ask("NOOP").startswith("200")
        os.close(reading)
        os.close(writing)
    ours.close()
