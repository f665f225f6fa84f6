"""docs/upstream: each patch applies to the installed pyftpdlib, and its symptom is there without it only."""

from __future__ import annotations

import compileall
import ftplib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyftpdlib
import pytest

from tests.ftp.serving import Raw, until

pytestmark = pytest.mark.slow

PATCHES = sorted((Path(__file__).parents[2] / "docs/upstream").glob("*.patch"))
INSTALLED = Path(pyftpdlib.__file__).parent
STOCK = """\
import logging, sys
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer
root, host, workers = sys.argv[1:]
logging.basicConfig(level=logging.CRITICAL)
authorizer = DummyAuthorizer()
authorizer.add_anonymous(root, perm="elrw")
FTPHandler.authorizer = authorizer
server = FTPServer((host, 0), FTPHandler)
print(server.address[1], flush=True)
server.serve_forever(worker_processes=int(workers))
"""

needs_patch = pytest.mark.skipif(shutil.which("patch") is None, reason="needs patch")


def copied(folder: Path, *patches: Path) -> Path:
    """A folder with pyftpdlib as it is installed, with these patches."""
    shutil.copytree(INSTALLED, folder / "pyftpdlib", ignore=shutil.ignore_patterns("__pycache__"))
    for patch in patches:
        with patch.open("rb") as text:
            argv = ["patch", "-p1", "--fuzz=0", "--no-backup-if-mismatch"]
            done = subprocess.run(argv, stdin=text, cwd=folder, capture_output=True, text=True, check=False)
        assert (done.returncode == 0 and "offset" not in done.stdout + done.stderr) or len(patches) > 1, done.stdout
    return folder


@contextmanager
def stock(library: Path, root: Path, host: str = "127.0.0.1", workers: int = 1) -> Iterator[tuple[int, int]]:
    """A server of the plain library: its port and its process."""
    root.mkdir(exist_ok=True)
    paths = [str(library), *(path for path in sys.path if path)]
    program = f"import sys; sys.path[:0] = {paths!r}\n{STOCK}"
    argv = [sys.executable, "-I", "-W", "ignore", "-c", program, str(root), host, str(workers)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline()), process.pid
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)  # its own group: workers that outlived their parent, too
            except ProcessLookupError:
                pass


@needs_patch
@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_each_patch_applies_by_itself_says_why_and_compiles(patch: Path, tmp_path: Path) -> None:
    folder = copied(tmp_path, patch)
    assert compileall.compile_dir(folder, quiet=1)
    head = patch.read_text().split("\n--- a/")[0]
    assert all(f"\n{word}: " in head for word in ("Symptom", "Cause", "Fix", "Test"))


@needs_patch
def test_all_of_them_apply_together(tmp_path: Path) -> None:
    assert len(PATCHES) == 11
    assert compileall.compile_dir(copied(tmp_path, *PATCHES), quiet=1)


def fifo(library: Path, root: Path) -> bool:
    root.mkdir()
    os.mkfifo(root / "fifo")
    with stock(library, root) as (port, _pid), Raw("127.0.0.1", port) as one, Raw("127.0.0.1", port) as other:
        one.passive()
        one.say("RETR fifo")
        other.sock.settimeout(5)
        try:
            return not other.ask("NOOP").startswith("200")
        except TimeoutError:
            return True


def answers(command: bytes, right: str) -> Callable[[Path, Path], bool]:
    def symptom(library: Path, root: Path) -> bool:
        with stock(library, root) as (port, _pid), Raw("127.0.0.1", port) as raw:
            raw.ask("TYPE I")
            return not raw.ask(command).startswith(right)

    return symptom


def reset(library: Path, root: Path) -> bool:
    with stock(library, root) as (port, _pid), Raw("127.0.0.1", port) as raw:
        raw.ask("TYPE I")
        data = raw.passive()
        assert raw.ask("NOOP").startswith("200")  # by now the connection has been taken, or the reset would come first
        assert raw.ask("STOR partial").startswith("125")
        data.sendall(b"x" * 100_000)
        data.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        data.close()
        return raw.reply().startswith("226")


def connector(library: Path, root: Path) -> bool:
    """The PORT of one session takes the data connection of another out of the loop: its number was the first one's."""
    root.mkdir()
    (root / "small").write_bytes(b"a" * 1000)
    (root / "big").write_bytes(b"b" * (32 << 20))
    with stock(library, root) as (port, _pid):
        clients = [ftplib.FTP(timeout=3) for _ in range(2)]
        try:
            for client in clients:
                client.connect("127.0.0.1", port)
                client.login()
                client.set_pasv(False)
                client.voidcmd("TYPE I")
            one, other = clients
            one.retrbinary("RETR small", lambda _piece: None)
            with other.transfercmd("RETR big") as data:  # begun, and far from over when the other session sends PORT
                one.retrbinary("RETR small", lambda _piece: None)
                while data.recv(1 << 20):
                    pass
            other.voidresp()
        except TimeoutError:
            return True
        finally:
            for client in clients:
                client.close()
    return False


def slow_text(library: Path, root: Path) -> bool:
    """Lines of one letter: the time must not grow with the square of their number."""
    del root
    program = (
        f"import sys; sys.path[:0] = {[str(library), *(path for path in sys.path if path)]!r}\n"
        "import io, time\nfrom pyftpdlib.handlers.ftp.producers import FileProducer\n"
        "def cost(size):\n"
        "    FileProducer.buffer_size = size\n"
        "    producer = FileProducer(io.BytesIO(b'a\\n' * (1 << 20)), 'a')\n"
        "    began = time.process_time()\n"
        "    while piece := producer.more(): pass\n"
        "    return time.process_time() - began\n"
        "print(cost(1 << 18) > 3 * cost(1 << 14))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip() == "True"


def orphans(library: Path, root: Path) -> bool:
    with stock(library, root, workers=2) as (port, pid):
        socket.create_connection(("127.0.0.1", port), 5).close()
        children = Path(f"/proc/{pid}/task/{pid}/children")
        workers = until(lambda: len(children.read_text().split()) == 2 and children.read_text().split())
        os.kill(pid, signal.SIGTERM)
        try:
            until(lambda: not any(alive(worker) for worker in workers), 15)
        except AssertionError:
            return True
    return False


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def family(library: Path, root: Path) -> bool:
    with stock(library, root, "::") as (port, _pid), Raw("127.0.0.1", port) as raw:
        return not raw.ask("EPSV 1").startswith("229")


SYMPTOMS = {
    "0001": fifo,
    "0003": answers(b"TYPE A N", "200"),
    "0004": answers(b"REST 1_0", "501"),
    "0005": reset,
    "0006": connector,
    "0007": slow_text,
    "0009": orphans,
    "0010": family,
    "0011": answers(b"RETR a\x00b", "501"),
}


@needs_patch
@pytest.mark.parametrize("number", SYMPTOMS)
def test_the_symptom_is_there_without_the_patch_and_gone_with_it(number: str, tmp_path: Path) -> None:
    (patch,) = [patch for patch in PATCHES if patch.name.startswith(number)]
    (tmp_path / "plain").mkdir()
    (tmp_path / "cured").mkdir()
    assert SYMPTOMS[number](copied(tmp_path / "plain"), tmp_path / "root")
    assert not SYMPTOMS[number](copied(tmp_path / "cured", patch), tmp_path / "root2")


def test_text_is_the_same_however_it_is_cut(tmp_path: Path) -> None:
    """The one patch that changes an algorithm, against what it replaces."""
    library = copied(tmp_path, *(patch for patch in PATCHES if patch.name.startswith("0007")))
    argv = [sys.executable, "-I", "-c", CUTS, str(library), *sys.path]
    made = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert made.returncode == 0, made.stderr


CUTS = """\
import itertools, sys
sys.path[:0] = sys.argv[1:]
from pyftpdlib.handlers.ftp.producers import FileProducer
def through(pieces):
    producer = FileProducer(None, "a")
    return b"".join(bytes(producer._data_wrapper(piece)) for piece in pieces)
for length in range(7):
    for letters in itertools.product(b"\\r\\na", repeat=length):
        text = bytes(letters)
        whole = through([text])
        assert whole.replace(b"\\r\\n", b"\\n") == text.replace(b"\\r\\n", b"\\n"), text
        for cut in range(length):
            assert through([text[:cut], text[cut:]]) == whole, (text, cut)
"""
