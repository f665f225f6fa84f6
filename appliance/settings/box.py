"""What a custodian is told: the rules of one folder of uploads, whichever service the uploads come by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from appliance.settings.ftp import IncomingSettings
from appliance.settings.tftp import TftpUploads


@dataclass(frozen=True, slots=True)
class Box:
    """Sizes in bytes, `retention` in seconds (0: for ever). The words are those of `TftpUploads`."""

    max_size: int
    quota: int
    per_client_quota: int
    max_files: int
    retention: float
    deny_names: tuple[str, ...]
    mode: Literal["existing", "create", "replace"] = "create"
    keep_versions: int = 0
    readable: Literal["none", "same-client", "networks"] = "none"
    readers: tuple[str, ...] = ()


def of_incoming(incoming: IncomingSettings) -> Box:
    """The drop box of FTP: new names only, and nobody reads them back."""
    return Box(**_shared(incoming))


def of_uploads(uploads: TftpUploads) -> Box:
    """The uploads of TFTP. Raises ValueError where there are none."""
    if uploads.mode == "none":
        raise ValueError("no uploads")
    return Box(
        **_shared(uploads),
        mode=uploads.mode,
        keep_versions=uploads.keep_versions,
        readable=uploads.readable,
        readers=uploads.readers,
    )


def _shared(settings: IncomingSettings | TftpUploads) -> dict[str, Any]:
    names = ("max_size", "quota", "per_client_quota", "max_files", "retention", "deny_names")
    return {name: getattr(settings, name) for name in names}
