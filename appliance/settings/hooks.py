"""The `observe.hooks` section: programs of the operator that are run when something happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le, MaxLen, MinLen

from appliance.settings.types import Help, Line, Unit

HookEvent = Literal[
    "upload-complete",
    "machine-booted",
    "machine-stalled",
    "machine-failed",
    "one-shot",
    "published",
    "reload",
    "worker-died",
    "worker-restarted",
    "client-banned",
    "fault",
]


@dataclass(frozen=True, slots=True)
class Hook:
    """One program, and what it is run for. It gets the event as one JSON object on standard input, and nothing else."""

    on: Annotated[tuple[HookEvent, ...], MinLen(1), MaxLen(11), Help("what it is run for; docs/HOOKS.md tells more")]
    run: Annotated[
        tuple[Annotated[Line, MinLen(1), MaxLen(1000)], ...],
        MinLen(1),
        MaxLen(64),
        Help("absolute path of the program, and its arguments; no shell, and no word of the event is put in"),
    ]
    timeout: Annotated[
        float, Unit("duration", 1, 3600), Help("after which it is ended, with everything that it started")
    ] = 30.0
    network: Annotated[bool, Help("it may use the network; false: only what is on this machine's disk")] = False
    parallel: Annotated[int, Ge(1), Le(16), Help("how often it may run at the same time")] = 1
    queue: Annotated[
        int, Ge(1), Le(10_000), Help("events that wait for it; what comes then is dropped and counted")
    ] = 100
