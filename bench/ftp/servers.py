"""Starting the measured FTP servers, ours as the real program with everything it is confined by."""

from __future__ import annotations

import ftplib
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.peers import Peer, Place, Store
from bench.processes import Server

HOST, PORT = "127.0.0.1", 2121
OURS, PLAIN = "ours", "pyftpdlib"
ACCOUNT, NUMBER = "ftp", 64999  # pure-ftpd and vsftpd serve the home of this account
BOX = {OURS: "incoming-ours"}  # drop boxes; everybody else's is `incoming`
_PASSIVE = (20000, 32000)
_READY_S = 20.0
_ROOT = Path(__file__).parents[2]
_PROGRAM = (
    "import sys; sys.path[:0] = sys.argv.pop(1).split(':'); from appliance.cli.main import main; sys.exit(main())"
)
_CONFIG = f"""\
state_dir: {{scratch}}/state
run_dir: {{scratch}}/run
confinement: required
tftp: {{{{enabled: false}}}}
ftp:
  listen: ["{HOST}:{{port}}"]
  root: {{root}}
  passive_ports: "{_PASSIVE[0]}-{_PASSIVE[1]}"
  incoming: {{{{enabled: true, path: {BOX[OURS]}, quota: 8GiB, per_client_quota: 8GiB}}}}
  limits: {{{{sessions: 24000, sessions_per_client: 24000}}}}
observe: {{{{log: text}}}}
"""
_VSFTPD = f"""\
listen=YES
listen_address={HOST}
listen_port={{port}}
background=NO
anonymous_enable=YES
local_enable=NO
anon_root={{root}}
pasv_min_port={_PASSIVE[0]}
pasv_max_port={_PASSIVE[1]}
write_enable=YES
anon_upload_enable=YES
secure_chroot_dir={{scratch}}/empty
max_clients=0
max_per_ip=0
xferlog_enable=NO
seccomp_sandbox=NO
"""
_PROFTPD = f"""\
ServerType standalone
DefaultAddress {HOST}
Port {{port}}
UseIPv6 off
User nobody
Group nogroup
MaxInstances none
UseReverseDNS off
RequireValidShell off
WtmpLog off
SystemLog none
TransferLog none
ScoreboardFile {{scratch}}/scoreboard
PidFile {{scratch}}/pid
DelayTable none
PassivePorts {_PASSIVE[0]} {_PASSIVE[1]}
<Anonymous {{root}}>
  User {ACCOUNT}
  Group nogroup
  UserAlias anonymous {ACCOUNT}
  MaxClients none
</Anonymous>
"""
_STOCK = f"""\
import logging, sys
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer
logging.basicConfig(level=logging.ERROR)
authorizer = DummyAuthorizer()
authorizer.add_anonymous(sys.argv[1], perm="elrw")
FTPHandler.authorizer, FTPHandler.passive_ports = authorizer, range({_PASSIVE[0]}, {_PASSIVE[1]})
server = FTPServer(({HOST!r}, int(sys.argv[2])), FTPHandler)
server.max_cons = 100000
server.serve_forever()
"""


def _vsftpd(extra: str) -> Callable[[Place], list[str]]:
    def arguments(place: Place) -> list[str]:
        (place.scratch / "empty").mkdir()
        config = place.scratch / "vsftpd.conf"
        config.write_text(_VSFTPD.format(root=place.root, scratch=place.scratch, port=place.port) + extra)
        return [str(config)]

    return arguments


def _proftpd(place: Place) -> list[str]:
    config = place.scratch / "proftpd.conf"
    config.write_text(_PROFTPD.format(root=place.root, scratch=place.scratch, port=place.port))
    return ["--nodaemon", "--quiet", "--config", str(config)]


def _pure(place: Place) -> list[str]:
    ports = f"{_PASSIVE[0]}:{_PASSIVE[1]}"
    caps = ["--maxclientsnumber", "6000", "--maxclientsperip", "6000"]
    return ["--bind", f"{HOST},{place.port}", "--anonymousonly", "--dontresolve", "--passiveportrange", ports, *caps]


PEERS = {
    peer.name: peer
    for peer in (
        Peer("vsftpd", "vsftpd", "usr/sbin/vsftpd", _vsftpd("")),
        Peer("vsftpd-noiso", "vsftpd", "usr/sbin/vsftpd", _vsftpd("isolate=NO\nisolate_network=NO\n")),
        Peer("proftpd", "proftpd-core", "usr/sbin/proftpd", _proftpd),
        Peer("pure-ftpd", "pure-ftpd", "usr/sbin/pure-ftpd", _pure),
    )
}
ALL = (OURS, *PEERS, PLAIN)


def start(name: str, store: Store, root: Path, scratch: Path, port: int = PORT) -> Server:
    """Start a server of `root` on `port` and wait until it serves, and rests. Raises OSError when it does not."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o755)
    place = Place(root, HOST, port, scratch)
    server = _ours(place) if name == OURS else _stock(place) if name == PLAIN else store.start(PEERS[name], place)
    try:
        _wait(server, port)
        server.rest()
    except OSError:
        server.stop()
        raise
    return server


def _ours(place: Place) -> Server:
    config = place.scratch / "appliance.yaml"
    config.write_text(_CONFIG.format(scratch=place.scratch, root=place.root, port=place.port))
    paths = ":".join([str(_ROOT), *[path for path in sys.path if path]])
    argv = [sys.executable, "-I", "-c", _PROGRAM, paths, "run", "-c", str(config)]
    return Server(OURS, argv, place.scratch / "log")


def _stock(place: Place) -> Server:
    return Server(PLAIN, [sys.executable, "-c", _STOCK, str(place.root), str(place.port)], place.scratch / "log")


def _wait(server: Server, port: int) -> None:
    """Fetch the small file until it comes whole."""
    deadline = time.monotonic() + _READY_S
    while not _answers(port):
        if time.monotonic() > deadline or not server.running():
            raise OSError(f"{server.name} does not serve:\n{server.log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)


def _answers(port: int) -> bool:
    pieces: list[bytes] = []
    try:
        with ftplib.FTP(timeout=5) as client:
            client.connect(HOST, port)
            client.login()
            client.retrbinary("RETR ready", pieces.append)
    except (OSError, EOFError, ftplib.Error):
        return False
    return b"".join(pieces) == b"ready\n"
