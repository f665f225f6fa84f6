"""observe.look_group and act_group: who may ask and who may act, by the kernel's word, also after a reload."""

from __future__ import annotations

import grp
import os
import socket
from pathlib import Path

from appliance.supervise import folders
from tests.support import needs_root
from tests.system.running import Appliance

pytestmark = needs_root
LOOK, ACT = grp.getgrnam("adm"), grp.getgrnam("staff")
NOBODY = 65534


def ask(run_dir: Path, name: str, kind: socket.SocketKind, word: bytes, groups: list[int]) -> str:
    """What nobody, in these groups, is answered; "refused" when the kernel does not let it connect."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.setgroups(groups)
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            with socket.socket(socket.AF_UNIX, kind) as sock:
                sock.settimeout(10)
                sock.connect(str(run_dir / name))
                if word:
                    sock.send(word)
                os.write(writer, sock.recv(60000)[:200])
        except PermissionError:
            os.write(writer, b"refused")
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with os.fdopen(reader, "rb") as answer:
        return answer.read().decode()


def test_groups_may_look_and_act_as_the_settings_say_and_no_others(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        place.chmod(0o755)
    running = Appliance(tmp_path)
    both = f"log: text, look_group: {LOOK.gr_name}, act_group: {ACT.gr_name}"
    plain = running.config.read_text()
    running.write(plain.replace("log: text", both))
    run_dir = tmp_path / "run"

    def look(groups: list[int]) -> str:
        return ask(run_dir, "status.sock", socket.SOCK_STREAM, b"", groups)

    def act(groups: list[int]) -> str:
        return ask(run_dir, "act.sock", socket.SOCK_SEQPACKET, b"unban 192.0.2.1", groups)

    try:
        running.start()
        assert look([]) == act([]) == "refused"
        assert look([LOOK.gr_gid]).startswith("{")
        assert act([LOOK.gr_gid]) == "refused"
        assert "was not banned" in act([ACT.gr_gid])
        for name in folders.SOCKETS:
            assert (run_dir / name).stat().st_mode & 0o777 == 0o660
        running.write(plain)
        assert running.verb("reload").returncode == 0
        assert look([LOOK.gr_gid]) == act([ACT.gr_gid]) == "refused"
        running.write(plain.replace("log: text", "log: text, act_group: no-such-group"))
        done = running.verb("reload")
        assert (done.returncode, "groupadd --system no-such-group" in done.stdout) == (2, True)
    finally:
        running.stop()
