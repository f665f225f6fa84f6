"""The `observe.board` section: the web page that shows machines while they boot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le

from appliance.settings.types import Form, Help, HostName, Path

StoredPassword = Annotated[str, Form("stored-password")]


@dataclass(frozen=True, slots=True)
class BoardSettings:
    """Who may look at the page, and how it is protected. Where it listens is `observe.board_listen`."""

    names: Annotated[
        tuple[HostName, ...],
        Help("names by which browsers call it; under any other, but its address, they get nothing (DNS rebinding)"),
    ] = ()
    password: Annotated[
        StoredPassword | None,
        Help("what `appliance board password` prints; browsers ask for it, with any user name; null: nobody is asked"),
    ] = None
    certificate: Annotated[Path | None, Help("PEM file of the certificate, for https; null: http")] = None
    key: Annotated[Path | None, Help("PEM file of its key; null: it is in the certificate's file")] = None
    machines: Annotated[
        int, Ge(10), Le(20_000), Help("machines that are remembered; the one silent longest is forgotten first")
    ] = 2000
