"""Children that Landlock alone locks in, for an account without rights: they fetch, and do not start without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from appliance.boot import children
from appliance.boot.records import BootError
from appliance.confine import landlock, seccomp
from appliance.confine.report import Layer
from appliance.confine.syscalls import NUMBERS
from tests.boot.mirror import Mirror, fetch, house, sha, source, stored

TOP = Path(__file__).parents[2]
needs_landlock = pytest.mark.skipif(not landlock.abi(), reason="needs Landlock")
# Refused as the unit refuses it: namespaces, a change of root, capset. Then the child of our own is started, and works.
REFUSED = ("unshare", "chroot", "capset")
CODE = """
import errno, sys
from pathlib import Path
from appliance.boot import children
from appliance.boot.house import Accounts, House
from appliance.confine import libc, seccomp
from appliance.confine.syscalls import NUMBERS
import os
if os.geteuid() == 0:
    os.setgroups([]); os.setresgid(64621, 64621, 64621); os.setresuid(64621, 64621, 64621)
me = (os.geteuid(), os.getegid())
libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
program = [(seccomp.LOAD, 0, 0, 0)]
for number in map(int, sys.argv[2].split(",")):
    program += [(seccomp.EQUAL, 0, 1, number), (seccomp.RETURN, 0, 0, seccomp.ERRNO | errno.EPERM)]
seccomp.load([*program, (seccomp.RETURN, 0, 0, seccomp.ALLOW)])
place = sys.argv[1]
rooms = House(f"{place}/state", {}, Accounts(me, me, me), f"{place}/work/empty", True, landlock="L" in sys.argv[3],
              work=f"{place}/work")
with rooms.publisher() as publisher, rooms.unpacker() as (unpacker, _):
    for child in (publisher, unpacker):
        print(child.ready().level, *sorted(layer.name for layer in Layer if layer & child.ready().layers))
""".replace("import os\n", "import os\nfrom appliance.confine.report import Layer\n")


def numbers() -> str:
    table = NUMBERS[seccomp.machine()]
    fixed = {
        "x86_64": {"unshare": 272, "chroot": 161, "capset": 126},
        "aarch64": {"unshare": 97, "chroot": 51, "capset": 91},
    }
    return ",".join(str(table.get(name, fixed[seccomp.machine()][name])) for name in REFUSED)


def started(place: Path, mode: str) -> subprocess.CompletedProcess[str]:
    place.chmod(0o777)
    for above in (place, *place.parents):
        if above.stat().st_mode & 0o005 != 0o005:
            above.chmod(above.stat().st_mode | 0o055)
    (place / "state").mkdir(mode=0o777)
    (place / "state").chmod(0o777 | 0o1000)
    argv = [sys.executable, "-c", CODE, str(place), numbers(), mode]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, cwd=TOP)


@needs_landlock
def test_where_every_other_way_is_closed_children_are_locked_in_all_the_same(tmp_path: Path) -> None:
    done = started(tmp_path, "L")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert {"CAPABILITIES", "DEATH_SIGNAL", "LANDLOCK", "LIMITS", "NO_NEW_PRIVS", "SECCOMP"} == set(
            line.split()[1:]
        )


def test_unasked_nobody_does_with_less(tmp_path: Path) -> None:
    done = started(tmp_path, "-")
    assert done.returncode != 0 and "does not start" in done.stderr


@needs_landlock
def test_names_are_resolved_by_the_machines_own_files(tmp_path: Path) -> None:
    with Mirror() as mirror:
        mirror.files["/kernel"] = b"kernel"
        base = mirror.base.replace("127.0.0.1", "localhost")
        rooms = house(tmp_path, landlock=True, work=str(tmp_path / "work"))
        found = fetch(rooms, [source("kernel", f"{base}/kernel", sha256=sha(b"kernel"))])["kernel"]
        assert found.state == "fetched", found.why
        assert stored(rooms, found) == b"kernel"
    assert (tmp_path / "work/boot-spool").is_dir() and not (tmp_path / "state/boot-spool").exists()


def test_without_landlock_they_do_not_start_and_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_ALONE", Layer.LANDLOCK | Layer(1 << 20))
    with pytest.raises(BootError, match="cannot be locked in by Landlock"), house(tmp_path, landlock=True).publisher():
        pass


def test_a_program_without_sockets_makes_none_and_goes_on() -> None:
    code = (
        "import socket; from appliance.confine import libc, seccomp\n"
        "libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1); seccomp.load(seccomp.without_sockets(seccomp.machine()))\n"
        "try:\n    socket.socket()\nexcept PermissionError:\n    print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=TOP)
    assert done.stdout == "refused\n", done.stderr
