"""How long it takes to read, render and check the files of many machines.

`python -m bench.boot_render [MACHINES] [--write]`
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from appliance.boot import folder, lint, plan
from appliance.boot.hosts import file_name, written
from appliance.boot.model import Machine
from bench import results

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


def timed(rows: list[str], what: str, work: Callable[[], T]) -> T:
    before, cpu = time.perf_counter(), time.process_time()
    done = work()
    rows.append(f"| {what} | {time.perf_counter() - before:.2f} | {time.process_time() - cpu:.2f} |")
    print(rows[-1], flush=True)
    return done


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.boot_render")
    parser.add_argument("machines", nargs="?", type=int, default=10_000)
    parser.add_argument("--write", action="store_true")
    wanted = parser.parse_args()
    count = wanted.machines
    rows = list[str]()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / "boot.yaml").write_text(MANIFEST)
        (root / "hosts.d").mkdir()
        for i in range(count):
            (root / "hosts.d" / file_name(machine(i))).write_bytes(written(machine(i)))
        loaded = timed(
            rows, "read hosts.d and the manifest, resolve", lambda: folder.load(str(root / "boot.yaml"), place)
        )
        manifest, hosts = loaded.resolved.manifest, loaded.resolved.hosts
        done = timed(rows, "render", lambda: plan.plan(manifest, hosts, {}, 0))
        everyone = plan.everyone(manifest, hosts)
        timed(rows, "lint by names", lambda: lint.lint(lint.Tree(done, everyone, None, lambda _file, _length: b"")))
        files = sum(len(one.files) for one in done.overlay.machines)
    table = "\n".join(
        (
            f"`python -m bench.boot_render {count}` on {results.machine()}.",
            "",
            f"{count:,} machines, half of them of a known architecture, an answer file each: {files:,} files.",
            "",
            "| step | seconds | of processor |",
            "|---|---|---|",
            *rows,
        )
    )
    print(table)
    if wanted.write:
        results.write_section("Boot files: rendering for many machines", table)


if __name__ == "__main__":
    main()
