"""Starting the measured TFTP servers, ours as the real program with everything it is confined by."""

from __future__ import annotations

import shutil
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench.peers import Peer, Place, Store
from bench.processes import Server
from bench.tftp.workloads import UPLOADS

HOST, PORT = "127.0.0.1", 69  # dnsmasq knows no other port; the network namespace is the benchmark's own
OURS = "ours"
_READY_S = 20.0
_ASKS = 16
_PROGRAM = (
    "import sys; sys.path[:0] = sys.argv.pop(1).split(':'); from appliance.cli.main import main; sys.exit(main())"
)
_ROOT = Path(__file__).parents[2]
_CONFIG = """\
state_dir: {scratch}/state
run_dir: {scratch}/run
confinement: required
tftp:
  listen: ["{host}:{port}"]
  root: {root}
  workers: {workers}
  limits: {{transfers: {transfers}}}
  uploads: {{mode: {uploads}, path: {path}, max_size: 1GiB, quota: 8GiB, per_client_quota: 8GiB}}
ftp: {{enabled: false}}
observe: {{log: text}}
"""


def _hpa(place: Place) -> list[str]:
    return ["-L", "-c", "-u", "nobody", "-a", f"{place.host}:{place.port}", "-s", str(place.root)]


def _atftpd(place: Place) -> list[str]:
    address = ["--bind-address", place.host, "--port", str(place.port)]
    who = ["--user", "nobody", "--group", "nogroup"]
    return ["--daemon", "--no-fork", *who, *address, "--maxthread", "2000", str(place.root)]


def _dnsmasq(place: Place) -> list[str]:
    quiet = ["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file", f"--log-facility={place.scratch}/dnsmasq"]
    who = ["--user=nobody", "--group=nogroup"]
    tftp = ["--enable-tftp", f"--tftp-root={place.root}", "--tftp-max=2000"]
    return [*quiet, *who, "--port=0", f"--listen-address={place.host}", "--bind-interfaces", *tftp]


PEERS = {
    peer.name: peer
    for peer in (
        Peer("tftpd-hpa", "tftpd-hpa", "usr/sbin/in.tftpd", _hpa),
        Peer("atftpd", "atftpd", "usr/sbin/atftpd", _atftpd),
        Peer("dnsmasq", "dnsmasq-base", "usr/sbin/dnsmasq", _dnsmasq),
    )
}


@dataclass(frozen=True, slots=True)
class Form:
    """How a server is started for one run; `workers`, `transfers` (its cap) and `uploads` are for ours."""

    cpus: set[int] | None = None
    workers: str | int = "auto"
    transfers: int = 4096
    uploads: bool = False


def start(name: str, store: Store, root: Path, scratch: Path, form: Form) -> Server:
    """Start a server on `root` and wait until it serves. Raises OSError when it does not."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o755)
    place = Place(root, HOST, PORT, scratch)
    server = _ours(place, form) if name == OURS else store.start(PEERS[name], place, form.cpus)
    try:
        _wait(server)
        server.rest()
    except OSError:
        server.stop()
        raise
    return server


def _ours(place: Place, form: Form) -> Server:
    config = place.scratch / "appliance.yaml"
    fields = {"scratch": place.scratch, "host": place.host, "port": place.port, "root": place.root}
    mode = {"uploads": "create" if form.uploads else "none", "path": UPLOADS}
    config.write_text(_CONFIG.format(**fields, **mode, workers=form.workers, transfers=form.transfers))
    paths = ":".join([str(_ROOT), *[path for path in sys.path if path]])
    argv = [sys.executable, "-I", "-c", _PROGRAM, paths, "run", "-c", str(config)]
    return Server(OURS, argv, place.scratch / "log", cpus=form.cpus)


def _wait(server: Server) -> None:
    """Ask for the empty file `ready` until it comes, often enough to meet every worker behind the port."""
    deadline = time.monotonic() + _READY_S
    answered = 0
    while answered < _ASKS:
        if time.monotonic() > deadline or not server.running():
            raise OSError(f"{server.name} does not serve:\n{server.log.read_text(errors='replace')[-2000:]}")
        answered += _answers()


def _answers() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        sock.sendto(b"\0\1ready\0octet\0", (HOST, PORT))
        try:
            packet, peer = sock.recvfrom(600)
        except TimeoutError:
            return False
        sock.sendto(b"\0\4\0\1", peer)
        return packet == b"\0\3\0\1"
