"""What keys of FTP may not say together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.settings.ftp import FtpNetwork, FtpSite
from tests.settings.judging import DEFAULTS, changed, found


def test_passive_ports_do_not_contain_a_listener() -> None:
    settings = changed(ftp={"listen": ("0.0.0.0:61000",)}, tftp={"listen": ("0.0.0.0:62000",)})
    assert found(settings) == [
        (
            "error",
            "61000-65535 contains port 61000, which ftp.listen[0] listens on",
            "write a range without it, or change that port",
        )
    ]


def test_a_site_of_ftp_is_reachable_and_can_be_told_from_others() -> None:
    sites = (
        FtpSite(root="a"),
        FtpSite(listen=("127.0.0.1:0",), hosts=("a.example.org",)),
        FtpSite(hosts=("b.example.org", "a.example.org")),
        FtpSite(listen=("127.0.0.1:2120", "127.0.0.1:2121")),
        FtpSite(listen=("127.0.0.1:2120",)),
    )
    assert [what for _severity, what, _remedy in found(changed(ftp={"sites": sites}))] == [
        "127.0.0.1:2120 is taken by ftp.sites[3].listen[0], 127.0.0.1:2120",
        "no client can reach this site",
        "127.0.0.1:0 is no fixed port, so the site could not be told from others",
        "a.example.org is a name of ftp.sites[1] already",
    ]


# --- uploads by TFTP


TLS = {"mode": "required", "certificate": "/etc/x.crt", "key": "/etc/x.key"}


def test_tls_as_it_should_be_is_told_nothing() -> None:
    assert found(changed(ftp={"tls": {**TLS, "implicit_listen": ("0.0.0.0:990",)}})) == []
    assert found(changed(ftp={"tls": {**TLS, "key": None}})) == []
    assert found(changed(ftp={"enabled": False, "tls": {"mode": "required"}})) == []


def test_tls_without_a_certificate() -> None:
    assert found(changed(ftp={"tls": {"mode": "optional"}})) == [
        (
            "error",
            "mode is optional, and there is no certificate",
            "name the PEM file of the certificate, or make one: appliance tls self-signed --name HOST",
        )
    ]


def test_listeners_for_ftps_that_never_listen_or_speak_two_languages() -> None:
    assert found(changed(ftp={"tls": {"implicit_listen": ("0.0.0.0:990",)}})) == [
        ("warning", "nothing listens there while mode is off", "write mode: optional")
    ]
    assert found(changed(ftp={"tls": {**TLS, "implicit_listen": ("192.0.2.7:21",)}})) == [
        ("error", "192.0.2.7:21 is taken by ftp.listen[0], 0.0.0.0:21", "remove one of the two, or change its port"),
        (
            "error",
            "port 21 is also in ftp.listen, where connections begin in the clear",
            "write another port, usually 990",
        ),
    ]
    twice = found(changed(ftp={"tls": {**TLS, "implicit_listen": ("[::]:990", "[::1]:990")}}))
    assert [what for _, what, _ in twice] == ["[::1]:990 is taken by ftp.tls.implicit_listen[0], [::]:990"]
    ephemeral = found(changed(ftp={"listen": ("127.0.0.1:0",), "tls": {**TLS, "implicit_listen": ("127.0.0.1:0",)}}))
    assert ephemeral == []


@pytest.mark.parametrize(("key", "name"), [("/srv/appliance/ftp/x.pem", "ftp"), ("/srv/appliance/tftp/x.pem", "tftp")])
def test_a_private_key_that_would_be_served(key: str, name: str) -> None:
    expected = (
        "error",
        f"{key} holds the private key and lies inside {name}.root, so it would be served",
        f"move it out of /srv/appliance/{name}",
    )
    assert found(changed(ftp={"tls": {**TLS, "key": key}})) == [expected]
    assert found(changed(ftp={"tls": {**TLS, "certificate": key, "key": None}})) == [expected]
    assert found(changed(ftp={"tls": {**TLS, "certificate": key}})) == []  # a certificate is no secret


def test_certificates_of_sites() -> None:
    site = FtpSite(
        listen=("192.0.2.7:2121",), implicit_listen=("192.0.2.7:990",), certificate="/etc/y.crt", key="/etc/y"
    )
    assert found(changed(ftp={"tls": TLS, "sites": (site,)})) == []
    nowhere = replace(site, listen=(), implicit_listen=(), hosts=("a.example",))
    (told,) = found(changed(ftp={"tls": TLS, "sites": (nowhere,)}))
    assert told[1:] == (
        "a certificate is chosen by the address that a client comes in by, and this site has none of its own",
        "write listen, or remove certificate",
    )
    assert found(changed(ftp={"tls": TLS, "sites": (replace(site, certificate=None),)})) == [
        ("error", "there is a key and no certificate", "write certificate, or remove key")
    ]
    (told,) = found(changed(ftp={"tls": TLS, "sites": (replace(site, key="/srv/appliance/ftp/y"),)}))
    assert "/srv/appliance/ftp/y holds the private key" in told[1]
    assert found(changed(ftp={"sites": (site,)})) == [
        ("warning", "nothing listens there while mode is off", "write mode: optional")
    ]
    told_all = found(changed(ftp={"tls": TLS, "sites": (replace(site, implicit_listen=("192.0.2.8:2121",)),)}))
    assert told_all == [
        (
            "error",
            "port 2121 is also in ftp.sites[0].listen, where connections begin in the clear",
            "write another port, usually 990",
        )
    ]
    (told,) = found(changed(ftp={"tls": TLS, "sites": (replace(site, implicit_listen=("192.0.2.7:0",)),)}))
    assert told[1] == "192.0.2.7:0 is no fixed port, so the site could not be told from others"


def test_networks_of_ftp_limits_are_told_apart_and_limit_somebody() -> None:
    networks = (FtpNetwork("192.0.2.0/24", sessions=10), FtpNetwork("192.0.2.0/24", sessions_per_client=11))
    settings = changed(ftp={"limits": replace(DEFAULTS.ftp.limits, sessions=10, networks=networks)})
    assert found(settings) == [
        ("error", "192.0.2.0/24 stands in the list twice; this one never counts", "remove one of the two"),
        (
            "warning",
            "11 is more than the 10 sessions of limits, so it limits nobody",
            "write at most 10, or raise limits.sessions",
        ),
    ]
