"""boot.downloading, fetcher, protocols, part: real downloads by the confined child, from mirrors of every kind."""

from __future__ import annotations

import io
import json
import os
import select
import shutil
import socket
import ssl
import subprocess
import tarfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # asyncore, on Pythons that still have it
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import DTPHandler, FTPHandler
    from pyftpdlib.servers import FTPServer

from appliance.boot import fetcher, model, part, protocols
from appliance.boot.house import House
from appliance.boot.part import Part, TooLarge, TooSlow
from tests.boot.mirror import Mirror, Silent, fetch, house, keys, sha, source, stored
from tests.support import needs_root

BIG = os.urandom(3_000_000)


@pytest.fixture
def rooms(tmp_path: Path) -> House:
    return house(tmp_path)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with Mirror() as found:
        found.files = {"/big": BIG, "/small": b"small", "/other": b"other"}
        yield found


def spool(rooms: House) -> set[str]:
    """The kinds of files that are left there."""
    return {name.rpartition(".")[2] for name in os.listdir(f"{rooms.state_dir}/boot-spool")} - {"etc", "json"}


def test_files_are_fetched_side_by_side_and_verified(rooms: House, mirror: Mirror) -> None:
    report = Silent()
    one = source("big", f"{mirror.base}/big", sha256=sha(BIG))
    found = fetch(rooms, [one, source("small", f"{mirror.base}/small")], report=report)
    assert {name: (out.state, out.fetched.verified if out.fetched else None) for name, out in found.items()} == {
        "big": ("fetched", "sha256"),
        "small": ("fetched", ""),
    }
    assert stored(rooms, found["big"]) == BIG and stored(rooms, found["small"]) == b"small"
    assert spool(rooms) == set()
    assert f"moved big {len(BIG)} {len(BIG)}" in report.said
    again = fetch(rooms, [one])
    assert again["big"].state == "unchanged" and [path for path, _ in mirror.asked].count("/big") == 1


def test_as_many_downloads_as_are_allowed_run_at_once(rooms: House, mirror: Mirror) -> None:
    together = threading.Barrier(4, timeout=20)

    def wait(handler: Any) -> None:
        together.wait()
        handler.plain()

    for n in range(4):
        mirror.files[f"/f{n}"] = b"%d" % n
        mirror.manners[f"/f{n}"] = wait
    found = fetch(rooms, [source(f"f{n}", f"{mirror.base}/f{n}") for n in range(4)], parallel=4)
    assert {one.state for one in found.values()} == {"fetched"}


def test_a_download_that_is_cut_off_goes_on_where_it_stopped(rooms: House, mirror: Mirror) -> None:
    cuts = iter([1_000_000, 1_500_000])

    def manner(handler: Any) -> None:
        handler.plain(next(cuts, None))

    mirror.manners["/big"] = manner
    found = fetch(rooms, [source("big", f"{mirror.base}/big", sha256=sha(BIG))])
    assert stored(rooms, found["big"]) == BIG
    assert [wanted for _, wanted in mirror.asked] == [None, "bytes=1000000-", "bytes=2500000-"]


def test_a_later_call_goes_on_where_an_earlier_one_failed(rooms: House, mirror: Mirror) -> None:
    one = source("big", f"{mirror.base}/big", sha256=sha(BIG))
    mirror.manners["/big"] = lambda handler: handler.plain(0 if handler.headers.get("Range") else 2_000_000)
    found = fetch(rooms, [one])
    assert (found["big"].state == "failed" and "bytes came where" in found["big"].why) or "broke off" in found[
        "big"
    ].why
    assert spool(rooms) == {"part"} and rooms.sources() == {}
    del mirror.manners["/big"]
    assert stored(rooms, fetch(rooms, [one])["big"]) == BIG
    assert mirror.asked[-1] == ("/big", "bytes=2000000-")


def test_a_file_that_changed_meanwhile_begins_anew(rooms: House, mirror: Mirror) -> None:
    def manner(handler: Any) -> None:
        handler.plain(1_000_000)
        mirror.files["/big"] = b"new" * 1000
        del mirror.manners["/big"]

    mirror.manners["/big"] = manner
    found = fetch(rooms, [source("big", f"{mirror.base}/big")])
    assert stored(rooms, found["big"]) == b"new" * 1000


@pytest.mark.parametrize("told", [{}, {"ETag": '"1"'}, {"ETag": 'W/"1"'}])
def test_from_a_server_without_ranges_it_is_fetched_anew(rooms: House, mirror: Mirror, told: dict[str, str]) -> None:
    """It names no version that one could continue, or it does and sends everything all the same."""
    cuts = iter([1_000_000])

    def manner(handler: Any) -> None:
        handler.send_response(200)
        for name, value in told.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(BIG)))
        handler.end_headers()
        handler.wfile.write(BIG[: next(cuts, len(BIG))])
        handler.close_connection = True

    mirror.manners["/big"] = manner
    assert stored(rooms, fetch(rooms, [source("big", f"{mirror.base}/big", sha256=sha(BIG))])["big"]) == BIG
    assert [wanted for _, wanted in mirror.asked] == [None, "bytes=1000000-" if told.get("ETag") == '"1"' else None]


def test_what_the_server_says_is_unchanged_is_not_fetched_again(rooms: House, mirror: Mirror) -> None:
    one = source("small", f"{mirror.base}/small")
    assert fetch(rooms, [one])["small"].state == "fetched"
    assert fetch(rooms, [one])["small"].state == "unchanged"
    assert "If-None-Match" in mirror.headers[-1]
    mirror.files["/small"] = b"newer"
    changed = fetch(rooms, [one])["small"]
    assert changed.state == "fetched" and stored(rooms, changed) == b"newer"


def test_another_digest_is_refused_and_what_was_fetched_before_stays(rooms: House, mirror: Mirror) -> None:
    fetch(rooms, [source("small", f"{mirror.base}/small", sha256=sha(b"small"))])
    mirror.files["/small"] = b"evil!"
    found = fetch(rooms, [source("small", f"{mirror.base}/small", sha256=sha(b"other"))])["small"]
    assert found.state == "failed" and f"its SHA-256 is {sha(b'evil!')}, not {sha(b'other')}" in found.why
    assert rooms.sources()["small"].sha256 == sha(b"small")
    assert spool(rooms) == set()
    assert not os.path.exists(rooms.content(sha(b"evil!")))


@pytest.mark.parametrize("code", [500, 503, 429])
def test_a_server_that_is_busy_is_asked_again(rooms: House, mirror: Mirror, code: int) -> None:
    def busy(handler: Any) -> None:
        del mirror.manners["/small"]
        handler.answer(code, b"later", Retry_After="0")

    mirror.manners["/small"] = busy
    report = Silent()
    assert fetch(rooms, [source("small", f"{mirror.base}/small")], report=report)["small"].state == "fetched"
    assert f"again small the server answered {code}" in report.said


def test_a_server_that_stays_busy_is_given_up(rooms: House, mirror: Mirror) -> None:
    mirror.manners["/small"] = lambda handler: handler.answer(503, b"later")
    found = fetch(rooms, [source("small", f"{mirror.base}/small")], tries=2)["small"]
    assert found.state == "failed" and found.why == "the server answered 503" and len(mirror.asked) == 2


def test_what_is_not_there_fails_at_once_and_hinders_no_other(rooms: House, mirror: Mirror) -> None:
    found = fetch(rooms, [source("no", f"{mirror.base}/no"), source("small", f"{mirror.base}/small")])
    assert found["no"].why == "the server answered 404 'Not Found'" and found["small"].state == "fetched"


def test_a_server_that_falls_silent_is_given_up_in_bounded_time(rooms: House, mirror: Mirror) -> None:
    release = threading.Event()

    def silent(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"x")
        release.wait(120)

    mirror.manners["/small"] = silent
    begun = time.monotonic()
    found = fetch(rooms, [source("small", f"{mirror.base}/small")], stall=0.3, tries=2)["small"]
    release.set()
    assert found.state == "failed" and time.monotonic() - begun < 60


def test_nothing_listens_there(rooms: House) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        found = fetch(rooms, [source("x", f"http://127.0.0.1:{taken.getsockname()[1]}/x")], tries=1)["x"]
    assert found.state == "failed" and "the server cannot be reached" in found.why


def test_a_server_that_speaks_no_http_is_told(rooms: House) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        for _ in range(2):
            peer, _address = listener.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(b"\x00\xff nonsense\r\n\r\n")

    threading.Thread(target=answer, daemon=True).start()
    found = fetch(rooms, [source("x", f"http://127.0.0.1:{listener.getsockname()[1]}/x")], tries=2)["x"]
    listener.close()
    assert found.state == "failed" and "cannot be reached" in found.why


@pytest.mark.parametrize("length", [True, False])
def test_more_than_max_size_is_refused(rooms: House, mirror: Mirror, length: bool) -> None:
    def endless(handler: Any) -> None:
        handler.send_response(200)
        if length:
            handler.send_header("Content-Length", "3000000")
        handler.end_headers()
        handler.close_connection = True
        for _ in range(30):
            handler.wfile.write(bytes(100_000))

    mirror.manners["/big"] = endless
    found = fetch(rooms, [source("big", f"{mirror.base}/big", max_size=1_000_000)])["big"]
    assert found.state == "failed" and "max_size" in found.why


def test_redirects_are_followed_within_the_rules(rooms: House, mirror: Mirror) -> None:
    port = mirror.base.rpartition(":")[2]
    targets = {
        "/same": f"{mirror.base}/small",
        "/relative": "small",
        "/private": f"http://localhost:{port}/small",
        "/ftp": f"ftp://127.0.0.1:{port}/small",
        "/file": "file:///etc/passwd",
        "/loop": "/loop",
        "/user": f"http://a:b@127.0.0.1:{port}/small",
    }
    for path, target in targets.items():
        mirror.manners[path] = lambda handler, target=target: handler.answer(302, b"", Location=target)  # type: ignore[misc]
    found = fetch(rooms, [source(path[1:], f"{mirror.base}{path}") for path in targets])
    assert {name for name, out in found.items() if out.state == "fetched"} == {"same", "relative"}
    assert (
        "localhost at" in found["private"].why and "no public address (list it in redirects:)" in found["private"].why
    )
    assert "no web address" in found["ftp"].why and "no web address" in found["file"].why
    assert "no web address" in found["user"].why and "more than 8 redirects" in found["loop"].why
    listed = fetch(rooms, [source("private", f"{mirror.base}/private", redirects=("localhost",))])["private"]
    assert stored(rooms, listed) == b"small"


def certified(place: Path, name: str) -> tuple[ssl.SSLContext, Path]:
    """What a server of this name needs, and the certificate to trust."""
    cert, key = place / "cert.pem", place / "key.pem"
    request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=mirror"
    more = ["-addext", f"subjectAltName={name}", "-keyout", key, "-out", cert]
    subprocess.run([*request.split(), *more], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context, cert


def test_https_is_verified_and_a_redirect_does_not_weaken_it(rooms: House, mirror: Mirror, tmp_path: Path) -> None:
    context, cert = certified(tmp_path, "IP:127.0.0.1")
    with Mirror(context) as secure:
        secure.files["/x"] = b"secret"
        secure.manners["/down"] = lambda handler: handler.answer(302, b"", Location=f"{mirror.base}/small")
        one, down = source("x", f"{secure.base}/x"), source("down", f"{secure.base}/down")
        found = fetch(rooms, [one])["x"]
        assert found.state == "failed" and "the certificate of the server is not good" in found.why
        trusting = fetch(rooms, [one, down], authorities=str(cert))
        assert stored(rooms, trusting["x"]) == b"secret"
        assert "a redirect from https to http, which protects less" in trusting["down"].why


def test_a_proxy_of_the_environment_is_used(rooms: House, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", mirror.base)
    found = fetch(rooms, [source("x", "http://files.example.org/small")])["x"]
    assert stored(rooms, found) == b"small" and mirror.asked[-1][0] == "http://files.example.org/small"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert fetch(rooms, [source("y", f"{mirror.base}/other")])["y"].state == "fetched"
    assert mirror.asked[-1][0] == "/other"


class Tunnel:
    """A web proxy that knows CONNECT alone, and leads every name to one port of this machine."""

    def __init__(self, port: int) -> None:
        self._port, self.asked = port, list[str]()
        self._door = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        client, _peer = self._door.accept()
        with client, socket.create_connection(("127.0.0.1", self._port)) as server:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.recv(4096)
            self.asked.append(head.partition(b"\r\n")[0].decode())
            client.sendall(b"HTTP/1.1 200 fine\r\n\r\n")
            pairs = {client: server, server: client}
            while True:
                for one in select.select(list(pairs), [], [], 60)[0]:
                    if not (data := one.recv(1 << 16)):
                        return
                    pairs[one].sendall(data)

    def close(self) -> None:
        self._thread.join(60)
        self._door.close()


def test_https_goes_through_a_tunnel_of_the_proxy_and_is_verified_at_its_end(
    rooms: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, cert = certified(tmp_path, "DNS:files.example.org")
    with Mirror(context) as secure, closing(Tunnel(secure.server.server_address[1])) as tunnel:
        secure.files["/x"] = b"secret"
        monkeypatch.setenv("https_proxy", tunnel.url)
        found = fetch(rooms, [source("x", "https://files.example.org/x")], authorities=str(cert))["x"]
        assert found.state == "fetched", found.why
        assert stored(rooms, found) == b"secret"
    assert [one.split(" ")[:2] for one in tunnel.asked] == [["CONNECT", "files.example.org:443"]]


def test_a_name_is_looked_up_once_and_what_was_looked_at_is_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads to a public address when it is judged, and inside the next time, gains nothing."""
    answers = iter([["10.0.0.1", "1.1.1.1"], ["127.0.0.1"]])
    made: list[Any] = []

    class Socket:
        def __init__(self, *_: object) -> None:
            self.peer: Any = None
            made.append(self)

        def connect(self, address: Any) -> None:
            self.peer = address

        def settimeout(self, _seconds: float | None) -> None:
            """Not waited for."""

        def setsockopt(self, *_: object) -> None:
            """Not needed."""

        def close(self) -> None:
            """Nothing is open."""

    def look_up(host: str, port: int, **_: object) -> list[Any]:
        assert host == "rebinding.example"
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (one, port)) for one in next(answers)]

    monkeypatch.setattr(protocols.socket, "getaddrinfo", look_up)
    monkeypatch.setattr(protocols.socket, "socket", Socket)
    guard = protocols._Guard("rebinding.example", "mirror.example", ())
    assert guard.connect("rebinding.example", 80, 1.0) is made[0]
    assert [one.peer for one in made] == [("1.1.1.1", 80)]
    with pytest.raises(protocols.Refused, match=r"rebinding\.example at 127\.0\.0\.1, which is no public address"):
        guard.connect("rebinding.example", 80, 1.0)
    assert len(made) == 1


def test_pauses_grow_and_a_server_may_ask_for_longer_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    settings = {
        "log": "text",
        "parallel": 1,
        "tries": 6,
        "stall": 1.0,
        "min_rate": 1,
        "authorities": None,
        "proxies": {},
    }
    context: Any = SimpleNamespace(settings=settings, documents={"talk": theirs.detach()})
    made = fetcher._Fetcher(context)
    said = iter([0.0, 0.0, 7.0, 500.0, 0.0, 0.0])
    pauses: list[float] = []

    def busy(*_: object) -> protocols.Got:
        raise protocols.Again("busy", next(said))

    monkeypatch.setattr(protocols, "get", busy)
    monkeypatch.setattr(fetcher.time, "sleep", pauses.append)
    with ours, closing(made._talk), pytest.raises(protocols.Again):
        made._persist(protocols.Job(1, "http://a/x", "x", 100))
    assert pauses == [1.0, 2.0, 7.0, 60.0, 16.0]


def test_a_list_of_digests_counts_when_it_is_signed(rooms: House, mirror: Mirror, tmp_path: Path) -> None:
    text = f"{sha(BIG)}  ./dir/big\n{sha(b'small')} *small\n".encode()
    with keys(tmp_path / "k") as good, keys(tmp_path / "o", "other") as other:
        # all of one second: of two lists the older one is refused
        at = ("--faked-system-time", time.strftime("%Y%m%dT%H%M%S!", time.gmtime()))
        clear = good.clear(text, *at)
        mirror.files |= {"/dir/big": BIG, "/SUMS": text, "/SUMS.gpg": good.sign(text, *at)}
        mirror.files |= {"/SUMS.asc": clear, "/SUMS.changed": clear.replace(b"small", b"smell")}
        mirror.files["/SUMS.bad"] = other.sign(text, *at)

        def listed(signature: str, at: str = "/SUMS", path: str = "/dir/big", keyring: Path = good.public) -> Any:
            sums = model.Sums(f"{mirror.base}{at}", f"{mirror.base}{signature}" if signature else "", str(keyring))
            one = source("big", f"{mirror.base}{path}", sums=sums)
            return fetch(rooms, [one])["big"]

        found = listed("/SUMS.gpg")
        assert found.state == "fetched", found.why
        assert stored(rooms, found) == BIG
        assert found.fetched.verified.startswith("signed by ") and len(found.fetched.verified) == 50
        before = len(mirror.asked)
        assert listed("/SUMS.gpg").state == "unchanged" and len(mirror.asked) == before + 2
        assert listed("", "/SUMS.asc", keyring=good.armoured).state in ("fetched", "unchanged")
        for why, arguments in {
            "no key of the keyring has signed": ("/SUMS.bad",),
            "the signature is bad": ("", "/SUMS.changed"),
            "does not have": ("/SUMS.gpg", "/SUMS", "/other"),
        }.items():
            failed = listed(*arguments)
            assert failed.state == "failed" and why in failed.why
        mirror.files["/dir/big"] = b"evil"
        refused = fetch(rooms, [source("new", f"{mirror.base}/dir/big", sums=model.Sums(
            f"{mirror.base}/SUMS", f"{mirror.base}/SUMS.gpg", str(good.public)))])["new"]  # fmt: skip
        assert refused.state == "failed" and "its SHA-256 is" in refused.why


def _at(seconds: float) -> tuple[str, str]:
    return "--faked-system-time", time.strftime("%Y%m%dT%H%M%S!", time.gmtime(seconds))


def test_a_list_of_a_key_that_has_expired_is_refused(rooms: House, mirror: Mirror, tmp_path: Path) -> None:
    text = f"{sha(b'small')}  small\n".encode()
    then = time.time() - 30 * 86400
    with keys(tmp_path / "k", "archive", *_at(then)) as archive:  # it was good for one day
        mirror.files |= {"/SUMS": text, "/SUMS.gpg": archive.sign(text, *_at(then + 3600))}
        sums = model.Sums(f"{mirror.base}/SUMS", f"{mirror.base}/SUMS.gpg", str(archive.public))
        found = fetch(rooms, [source("s", f"{mirror.base}/small", sums=sums)])["s"]
    assert found.state == "failed" and "a key that has expired" in found.why


def test_an_older_list_than_the_newest_that_was_seen_is_refused(rooms: House, mirror: Mirror, tmp_path: Path) -> None:
    """Whatever became of that: nothing new was in it, its download failed, its source has another name now."""
    now, older = time.time(), "older than the newest one that was seen"
    with keys(tmp_path / "k", "archive", *_at(now - 43_200)) as archive:

        def offer(ago: int, content: bytes, name: str = "s") -> Any:
            text = f"{sha(content)}  small\n".encode()
            mirror.files |= {"/SUMS": text, "/SUMS.gpg": archive.sign(text, *_at(now - ago))}
            sums = model.Sums(f"{mirror.base}/SUMS", f"{mirror.base}/SUMS.gpg", str(archive.public))
            return fetch(rooms, [source(name, f"{mirror.base}/small", sums=sums)])[name]

        assert offer(5000, b"small").state == "fetched"
        assert offer(3000, b"small").state == "unchanged"
        mirror.files["/small"] = b"withdrawn"
        assert older in offer(4000, b"withdrawn").why
        assert older in offer(4000, b"withdrawn", "another").why
        assert "its SHA-256 is" in offer(1000, b"never there").why
        mirror.files["/small"] = b"small"
        assert older in offer(3000, b"small").why
        assert rooms.sources()["s"].sha256 == sha(b"small")
        assert offer(900, b"small").state == "unchanged"
        seen = Path(rooms.state_dir, "boot", "seen")
        assert json.loads(seen.read_text()) == {f"{mirror.base}/SUMS": int(now - 900)}
        seen.write_text("{")
        assert "the file `seen` in state_dir/boot cannot be read" in offer(800, b"small").why


@pytest.mark.root
@needs_root[1]
@pytest.mark.parametrize("full", ["boot-spool", "boot-unpack", "boot"])
def test_whichever_disk_is_full_it_is_told_and_the_next_call_with_room_goes_through(
    rooms: House, mirror: Mirror, tmp_path: Path, full: str
) -> None:
    """At each step: the download, the members of an archive, the store."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo("member")
        member.size = len(BIG)
        tar.addfile(member, io.BytesIO(BIG))
    mirror.files["/big.tar"] = packed.getvalue()
    one = source("big", f"{mirror.base}/big.tar", unpack="tar")
    assert fetch(rooms, [source("small", f"{mirror.base}/small")])["small"].state == "fetched"
    place = Path(rooms.state_dir, full)
    place.mkdir(exist_ok=True)
    kept = shutil.copytree(place, tmp_path / "kept", dirs_exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=True)
    try:
        for path in kept.iterdir():
            subprocess.run(["cp", "-a", path, place], check=True)
        if full == "boot":
            subprocess.run(["chown", "-R", "64621:64621", place], check=True)
        found = fetch(rooms, [one])["big"]
        assert found.state == "failed" and "No space left on device" in found.why
        assert rooms.sources().keys() == {"small"}
        if full == "boot":
            assert list(place.rglob(".new-*")) == []
        if full == "boot-unpack":
            assert os.listdir(place) == []
    finally:
        subprocess.run(["umount", place], check=True)
    assert stored(rooms, fetch(rooms, [one])["big"]) == BIG


def test_ftp_is_spoken_and_goes_on_where_it_stopped(rooms: House, tmp_path: Path) -> None:
    (tmp_path / "pub").mkdir()
    (tmp_path / "pub" / "big").write_bytes(BIG)
    asked: list[str] = []

    class Data(DTPHandler):  # type: ignore[misc]
        broken = False

        def send(self, data: bytes) -> int:
            sent: int = super().send(data)
            if not Data.broken and self.tot_bytes_sent > 1_000_000:
                Data.broken = True
                self.cmd_channel.close_when_done()
                self.close()
            return sent

    class Handler(FTPHandler):  # type: ignore[misc]
        use_sendfile = False
        dtp_handler = Data

        def pre_process_command(self, line: str, cmd: str, arg: str) -> None:
            asked.append(line)
            super().pre_process_command(line, cmd, arg)

    Handler.authorizer = DummyAuthorizer()
    Handler.authorizer.add_anonymous(str(tmp_path / "pub"))
    server = FTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=lambda: server.serve_forever(timeout=0.05, handle_exit=False), daemon=True)
    thread.start()
    try:
        at = f"ftp://127.0.0.1:{server.address[1]}"
        found = fetch(rooms, [source("big", f"{at}/big", sha256=sha(BIG)), source("no", f"{at}/no")], tries=3)
        assert stored(rooms, found["big"]) == BIG
        assert any(line.startswith("REST 1") for line in asked)
        assert found["no"].state == "failed" and "550" in found["no"].why
        plain = source("again", f"{at}/big")
        assert fetch(rooms, [plain])["again"].state == "fetched"
        assert fetch(rooms, [plain])["again"].state == "unchanged"
    finally:
        server.close_all()


def test_tftp_is_spoken_by_tftpy(rooms: House, tmp_path: Path) -> None:
    import tftpy

    (tmp_path / "pub").mkdir()
    (tmp_path / "pub" / "f").write_bytes(BIG[:100_000])
    server = tftpy.TftpServer(str(tmp_path / "pub"))
    threading.Thread(target=server.listen, args=("127.0.0.1", 0), daemon=True).start()
    server.is_running.wait(10)
    at = f"tftp://127.0.0.1:{server.listenport}"
    found = fetch(rooms, [source("f", f"{at}/f", sha256=sha(BIG[:100_000])), source("no", f"{at}/no")], tries=1)
    server.stop(now=True)
    assert stored(rooms, found["f"]) == BIG[:100_000]
    assert found["no"].state == "failed" and found["no"].why


def test_old_remains_of_downloads_are_swept(rooms: House, mirror: Mirror) -> None:
    fetch(rooms, [source("small", f"{mirror.base}/small")])
    left = Path(rooms.state_dir, "boot-spool", "0" * 32 + ".part")
    left.write_bytes(b"x")
    os.utime(left, (1, 1))
    fetch(rooms, [source("other", f"{mirror.base}/other")])
    assert not left.exists()


def test_a_server_below_the_least_rate_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    clock = [0.0]
    monkeypatch.setattr(part.time, "monotonic", lambda: clock[0])
    one = Part("x", 1_000_000, 1024, lambda _count, _size: None)
    one.expect(None)
    one.write(bytes(70_000))
    clock[0] = 60.0
    one.write(b"x")  # 70,001 bytes in a minute are enough
    clock[0] = 120.0
    with pytest.raises(TooSlow, match="less than 1024 bytes a second"):
        one.write(b"x")
    one.close()


def test_a_part_is_never_larger_than_it_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one = Part("x", 10, 0, lambda _count, _size: None)
    one.begin({"url": "u"})
    one.write(bytes(10))
    with pytest.raises(TooLarge):
        one.write(b"x")
    with pytest.raises(TooLarge):
        one.expect(11)
    one.close()
    assert Part("x", 9, 0, lambda _count, _size: None).size == 0  # the manifest allows less now: it begins anew
    (tmp_path / "y.json").write_text("[1")
    assert Part("y", 9, 0, lambda _count, _size: None).known == {}
