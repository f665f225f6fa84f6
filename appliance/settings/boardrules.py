"""What keys about the boot board may not say together. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from appliance.settings.finding import Finding
from appliance.settings.forms import endpoint_parts
from appliance.settings.main import Settings

_LISTEN = ("observe", "board_listen")


def board(settings: Settings) -> Iterator[Finding]:
    """Off loopback the page needs TLS and a password; it lives on events; its key is served to nobody."""
    observe, page = settings.observe, settings.observe.board
    if observe.board_listen is None:
        return
    if not observe.events:
        yield Finding(
            "the boot board lives on events, which are off", "write events: true", (_LISTEN, ("observe", "events"))
        )
    host, _port = endpoint_parts(observe.board_listen)
    if not ip_address(host.partition("%")[0]).is_loopback:
        if page.certificate is None:
            remedy = "name a certificate (appliance tls self-signed makes one), or listen on 127.0.0.1"
            yield Finding(
                f"{host} can be reached by others, and there is no TLS",
                remedy,
                (_LISTEN, ("observe", "board", "certificate")),
            )
        if page.password is None:
            remedy = "write what `appliance board password` prints, or listen on 127.0.0.1"
            yield Finding(
                f"{host} can be reached by others, and no password is asked for",
                remedy,
                (_LISTEN, ("observe", "board", "password")),
            )
    for name, path in (("certificate", page.certificate), ("key", page.key)):
        for service, root in (("tftp", settings.tftp.root), ("ftp", settings.ftp.root)):
            if path and root != "/" and path.startswith(f"{root}/"):
                what = f"{path} lies inside {service}.root, so it would be served"
                yield Finding(what, f"move it out of {root}", (("observe", "board", name), (service, "root")))
