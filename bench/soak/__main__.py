"""`python -m bench.soak --minutes 10`: the whole appliance under load and faults; exit code 1 when a bar is missed.

As root; in a network and a mount namespace of its own. See bench/README.md, "What the soak does".
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import results
from bench.soak import crowd, judge, report
from bench.soak.faults import Faults
from bench.soak.house import STAYING_PORTS, House
from bench.soak.schedule import schedule
from bench.soak.watch import Watch

_INSIDE = "BENCH_SOAK_INSIDE"
_HEADING = "Soak"
_PACE_S = 4.0


def main() -> int:
    """Prepare outside, soak inside."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="0.5 to 1440 (24 h)")
    parser.add_argument("--seed", type=int, default=1, help="of files, clients and faults")
    parser.add_argument("--share", type=float, default=0.45, help="of all processors, for server and clients together")
    parser.add_argument("--clients", type=int, default=40)
    parser.add_argument("--json", action="store_true", help="print the facts instead of the table")
    parser.add_argument("--keep", metavar="FILE", help="leave everything that was seen there, as JSON")
    parser.add_argument("--write", action="store_true", help="put the figures into bench/RESULTS.md")
    parser.add_argument("--remark", default="", help="a sentence for the section, about the machine")
    options = parser.parse_args()
    if not 0.5 <= options.minutes <= 1440:
        parser.error("--minutes: from 0.5 to 1440")
    if os.geteuid():
        print("bench.soak needs root: namespaces, chroot, tmpfs", file=sys.stderr)
        return 2
    if _INSIDE not in os.environ:
        with tempfile.TemporaryDirectory(prefix="bench-soak-") as name:
            Path(name).chmod(0o755)
            inside = ["unshare", "--net", "--mount", sys.executable, "-m", "bench.soak", *sys.argv[1:]]
            with subprocess.Popen(inside, env={**os.environ, _INSIDE: name}) as process:
                _leave_tidily(process)
                return process.wait()
    _leave_tidily()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    facts = soak(Path(os.environ[_INSIDE]), options)
    print(json.dumps(facts, indent=1) if options.json else report.text(facts))
    if options.write:
        how = (
            f"--minutes {options.minutes:g} --seed {options.seed} --share {options.share:g} --clients {options.clients}"
        )
        where = f"`python -m bench.soak {how}` on {results.machine()}."
        results.write_section(_HEADING, f"{where} {options.remark}\n\n{report.text(facts)}")
    return 0 if all(one["holds"] for one in facts["bars"]) else 1


def _leave_tidily(inner: subprocess.Popen[bytes] | None = None) -> None:
    """Told to end, end what was started too; also where a shell has us ignore SIGINT, because it put us behind."""

    def leave(*_: object) -> None:
        if inner is not None:
            inner.terminate()  # it ends by itself, and so do we
        else:
            sys.exit(3)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)


def soak(home: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run it; returns the facts."""
    seconds = options.minutes * 60
    house = House(home, options.seed)
    house.prepare()
    house.start()
    watch = Watch(house, min(5.0, max(1.0, seconds / 100)))
    exit_code, clients, bad = -1, [], None
    try:
        house.publish()
        fresh = watch.fresh()
        begun = time.monotonic()
        clients, bad = crowd.start(house, options.seed, 2, options.clients // 2)
        faults = Faults(house, lambda: bad.say("burst"), options.seed, full_s=min(6.0, seconds / 30))
        watch.start()
        used = _during(begun, seconds, options, house, clients, bad, faults)
        ended = [one.stop() for one in (*clients, bad)]
        at_rest = _rest(house)
        kept_at_rest = _let_go(watch, fresh) if seconds >= _LONG_S else []
    except SystemExit:
        for one in (*clients, *([bad] if bad else [])):
            one.kill()
        raise
    finally:
        watch.stop()
        watch.look()
        exit_code = house.stop()
    facts = {
        "exit_code": exit_code,
        "at_rest": at_rest,
        "kept_at_rest": kept_at_rest,
        "used": used,
        "clients_ended": ended,
    }
    return report.facts(facts, seconds, options, house, watch, faults, [r for c in clients for r in c.records])


def _during(
    begun: float,
    seconds: float,
    options: argparse.Namespace,
    house: House,
    clients: list[crowd.Process],
    bad: crowd.Process,
    faults: Faults,
) -> float:
    """Inject the faults in time, and keep load and server to their share; returns the share that they took.

    Where the machine is so busy that the time is over first, each kind still comes once, and what else is late is left.
    """
    coming = schedule(seconds, options.seed)
    first = at = begun
    start = before = _used(house, clients, bad)
    factor, budget = 1.0, options.share * (os.cpu_count() or 1)
    while (now := time.monotonic()) < begun + seconds or coming:
        if now >= begun + seconds:
            seen = {kind for _at, kind, _took in faults.done}
            coming = [(at, kind) for at, kind in coming if kind not in seen]
        if coming and now >= begun + coming[0][0]:
            faults.inject(coming.pop(0)[1])
        elif now - at >= _PACE_S:
            used = _used(house, clients, bad)
            taken, before, at = (used - before) / (now - at) / budget, used, now
            factor = min(50.0, max(0.2, factor * min(1.5, max(0.7, taken))))
            for one in clients:
                one.say(f"pace {factor:.3f}")
        else:
            time.sleep(0.2)
    return (_used(house, clients, bad) - start) / (time.monotonic() - first)


def _used(house: House, clients: list[crowd.Process], bad: crowd.Process) -> float:
    return house.server.cpu_s() + sum(one.cpu_s() for one in (*clients, bad))


_REST_S = 45.0
_LONG_S, _LETS_GO_S = 600.0, 200.0  # a worker looks once a minute at what it has not needed since


def _rest(house: House) -> list[str]:
    """Nobody is there any more: what is still counted as being on, after the longest that a client is waited for."""
    deadline = time.monotonic() + _REST_S
    while True:
        found = [
            f"{name}.{worker['index']}: {worker['active']} active"
            for name, service in house.status().get("services", {}).items()
            for worker in service["workers"]
            if worker["active"] and name in ("tftp", "ftp", "custody", "tftp-custody")
        ]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def _let_go(watch: Watch, fresh: dict[str, int]) -> list[str]:
    """Who still has more descriptors than when nobody had come yet, when there was time to close what was kept."""
    deadline = time.monotonic() + _LETS_GO_S
    while (found := judge.above(watch.levels(), fresh, {"tftp": STAYING_PORTS})) and time.monotonic() < deadline:
        time.sleep(5)
    return found


if __name__ == "__main__":
    sys.exit(main())
