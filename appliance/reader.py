"""The settings reader: a confined child that turns configuration files into service values and ends.

It is the only process of a running appliance that parses YAML. Descriptors in, one JSON document out; `problems` is
empty exactly when the rest can be used.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import resource
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from appliance import wiring
from appliance.child.context import Context
from appliance.errors import ConfigError, Problem
from appliance.settings import load
from appliance.settings.main import Settings
from appliance.supervise import service

_LARGEST = 2 << 20


@dataclass(slots=True)
class _Reader:
    context: Context
    host: wiring.Host

    def run(self) -> None:
        """Read, judge, answer."""
        text = json.dumps(self._answer()).encode()
        with os.fdopen(self.context.documents["answer"], "wb") as out:
            out.write(text)

    def _answer(self) -> dict[str, Any]:
        names = self.context.settings["names"]
        documents: list[tuple[str, bytes]] = []
        try:
            documents = [(name, _read(self.context.documents[name])) for name in names]
            settings, warnings = load.load(documents)
            services = wiring.services(settings, self.host)
            groups = wiring.groups(settings, self.host)
        except ConfigError as error:
            found = load.located(documents, list(error.problems))
            return {"problems": [str(problem) for problem in found]}
        except OSError as error:
            return {"problems": [f"{names[0]}: {error.strerror} (name a file: -c FILE)"]}
        return {
            "problems": [],
            "warnings": [str(problem) for problem in (*warnings, *_shortages(settings, self.host))],
            "run_dir": settings.run_dir,
            "state_dir": settings.state_dir,
            "drain_s": settings.drain_timeout,
            "log": wiring.log_form(settings, "supervisor"),
            "required": settings.confinement == "required",
            "groups": groups,
            "services": service.encode(services),
        }


def prepare(context: Context) -> _Reader:
    """Load the validators and the account database while they can still be loaded."""
    accounts = {entry.pw_name: (entry.pw_uid, entry.pw_gid) for entry in pwd.getpwall()}
    load.load([("warm", b"drain_timeout: 30s\n")])  # builds every validator and imports what they need
    host = wiring.Host(
        root=bool(context.settings["root"]),
        uid=int(context.settings["uid"]),
        gid=int(context.settings["gid"]),
        cpus=len(os.sched_getaffinity(0)),
        nofile=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        log_to_file=stat.S_ISREG(os.fstat(2).st_mode),
        account=accounts.get,
        group={entry.gr_name: entry.gr_gid for entry in grp.getgrall()}.get,
    )
    return _Reader(context, host)


def _shortages(settings: Settings, host: wiring.Host) -> Iterator[Problem]:
    """Caps that this process tree could not keep: only who starts it knows how many descriptors it may have."""
    ftp, tftp = settings.ftp, settings.tftp
    for key, cap, needed in (
        ("tftp.limits.transfers", tftp.limits.transfers if tftp.enabled else 0, 1),
        ("ftp.limits.sessions", ftp.limits.sessions if ftp.enabled else 0, 2),  # control and data connection
    ):
        if cap * needed > host.nofile:
            what = f"{cap} may need {cap * needed} descriptors in one worker, which is allowed {host.nofile}"
            yield Problem("warning", what, f"ulimit -Hn, LimitNOFILE= of the unit, or {key}: {host.nofile // 4}", key)


def _read(descriptor: int) -> bytes:
    data = bytearray()
    while len(data) <= _LARGEST and (part := os.read(descriptor, 1 << 16)):
        data += part
    return bytes(data)
