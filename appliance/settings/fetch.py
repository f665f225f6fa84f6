"""Settings of fetching boot files: how many at once, how patient, and whom to trust besides the manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le

from appliance.settings.types import Help, Path, Unit


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """The `boot.fetch:` section."""

    parallel: Annotated[int, Ge(1), Le(32), Help("downloads at once")] = 4
    tries: Annotated[int, Ge(1), Le(20), Help("how often a download is tried that gets nowhere")] = 4
    stall: Annotated[float, Unit("duration", 0.1, 3600), Help("silence after which a server is given up")] = 30.0
    min_rate: Annotated[
        int, Unit("size", 1, 1 << 40, zero=True), Help("bytes a second that a server has to give, over a minute")
    ] = 1024
    apt: Annotated[Path, Help("folder that stands for /etc/apt: the archives and keys of `deb` sources")] = "/etc/apt"
    authorities: Annotated[
        Path | None, Help("PEM file of the certificate authorities for https; null takes those of this machine")
    ] = None
