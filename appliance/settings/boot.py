"""Settings of boot provisioning: where the manifest is, and how long releases and pins last."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le

from appliance.settings.dhcp import DhcpSettings
from appliance.settings.fetch import FetchSettings
from appliance.settings.types import Help, Path, Unit


@dataclass(frozen=True, slots=True)
class BootSettings:
    """The `boot:` section. What is fetched and which machine gets what stands in the manifest, a file of its own."""

    enabled: Annotated[bool, Help("serve the published release and what is rendered for each machine")] = False
    manifest: Annotated[
        Path, Help("what is fetched, how it is verified, and which machine boots what (docs/BOOT.md)")
    ] = "/etc/appliance/boot.yaml"
    pin: Annotated[
        float,
        Unit("duration", 1, 86400),
        Help("a machine that began with one release is served that release until it asks for nothing for so long"),
    ] = 600.0
    keep_releases: Annotated[
        int, Ge(1), Le(1000), Help("newest releases that `boot publish` and `boot gc` keep, besides what is in use")
    ] = 5
    dhcp: Annotated[
        Literal["off", "proxy", "range"],
        Help("proxy: tell machines what to load, beside the DHCP server you have; range: give out addresses as well"),
    ] = "off"
    dhcp_server: Annotated[DhcpSettings, Help("The DHCP server that `dhcp` turns on (docs/DHCP.md).")] = field(
        default_factory=DhcpSettings
    )
    fetch: Annotated[FetchSettings, Help("How boot files are fetched.")] = field(default_factory=FetchSettings)
