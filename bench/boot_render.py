"""How long it takes to read, render and check the files of many machines: python -m bench.boot_render [MACHINES]."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from appliance.boot import folder, lint, plan
from appliance.boot.hosts import file_name, written
from appliance.boot.model import Machine

T = TypeVar("T")
MANIFEST = """\
server: 192.0.2.1
recipes: [pxelinux, grub, debian-12, local-disk]
default: local-disk
profiles:
  auto:
    inherit: debian-12
    more_args: "hostname={{ machine.name }}"
    answers: {"answers/{{ machine.name }}/preseed.cfg": {template: preseed, in: ftp}}
templates:
  preseed: {text: "d-i netcfg/get_hostname string {{ machine.name }}\\nd-i time/zone string {{ zone }}\\n"}
vars: {zone: Etc/UTC}
"""


def machine(i: int) -> Machine:
    mac = f"52:54:00:{i >> 16:02x}:{i >> 8 & 255:02x}:{i & 255:02x}"
    arch = "x64-efi" if i % 2 else ""  # every second one may come by any loader
    return Machine(f"m{i}", (mac,), ip=f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", arch=arch, profile="auto")


def timed(what: str, work: Callable[[], T]) -> T:
    before, cpu = time.perf_counter(), time.process_time()
    done = work()
    print(f"{what:28} {time.perf_counter() - before:7.2f} s, {time.process_time() - cpu:7.2f} s of processor")
    return done


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / "boot.yaml").write_text(MANIFEST)
        (root / "hosts.d").mkdir()
        for i in range(count):
            (root / "hosts.d" / file_name(machine(i))).write_bytes(written(machine(i)))
        loaded = timed("read and resolve", lambda: folder.load(str(root / "boot.yaml"), place))
        manifest, hosts = loaded.resolved.manifest, loaded.resolved.hosts
        done = timed("render", lambda: plan.plan(manifest, hosts, {}, 0))
        everyone = plan.everyone(manifest, hosts)
        timed("lint by names", lambda: lint.lint(lint.Tree(done, everyone, None, lambda _file, _length: b"")))
        print(f"{count} machines, {sum(len(one.files) for one in done.overlay.machines)} files")


if __name__ == "__main__":
    main()
