"""terms: what holds for a client, worked out from networks and sites."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.settings.tftp import TftpLimits, TftpMachine, TftpNetwork, TftpSettings, TftpSite
from appliance.tftp.terms import Quota, TermsBook, endpoint, rated

SETTINGS = replace(
    TftpSettings(),
    blksize_max=8192,
    networks=(
        TftpNetwork("10.0.0.0/8", windowsize_max=4, root="ten"),
        TftpNetwork("10.1.0.0/16", blksize_max=512, refuse_options=("tsize", "blksize2")),
        TftpNetwork("10.1.2.3", blksize_max="mtu", root="one"),
        TftpNetwork("2001:db8::/32", blksize_max=1024),
    ),
    sites=(
        TftpSite("127.0.0.1:6969", root="site", networks=(TftpNetwork("10.0.0.0/8", root="site-ten"),)),
        TftpSite("[fe80::1%eth0]:69"),
    ),
)
BOOK = TermsBook(SETTINGS)


@pytest.mark.parametrize(
    ("host", "network", "blksize", "window", "roots"),
    [
        ("192.0.2.1", "", 8192, 64, (b"",)),
        ("10.9.9.9", "networks[0]", 8192, 4, (b"ten", b"")),
        ("10.1.9.9", "networks[1]", 512, 64, (b"",)),
        ("10.1.2.3", "networks[2]", None, 64, (b"one", b"")),
        ("10.1.2.4", "networks[1]", 512, 64, (b"",)),
        ("2001:db8::7%eth0", "networks[3]", 1024, 64, (b"",)),
        ("::10.1.2.3", "", 8192, 64, (b"",)),
    ],
)
def test_the_most_specific_network_counts_alone(
    host: str, network: str, blksize: int | None, window: int, roots: tuple[bytes, ...]
) -> None:
    terms = BOOK.terms(None, host)
    assert (terms.network, terms.policy.blksize_max, terms.policy.windowsize_max, terms.roots) == (
        network, blksize, window, roots,
    )  # fmt: skip


def test_refused_options_are_kept_by_folded_name() -> None:
    assert BOOK.terms(None, "10.1.0.1").policy.refused == {b"tsize", b"blksize2"}
    assert BOOK.terms(None, "10.2.0.1").policy.refused == frozenset()


@pytest.mark.parametrize(
    ("host", "network", "roots"),
    [
        ("192.0.2.1", "", (b"site", b"")),
        ("10.9.9.9", "sites[0].networks[0]", (b"site-ten", b"site", b"")),
        ("10.1.9.9", "networks[1]", (b"site", b"")),
    ],
)
def test_a_site_has_its_own_folder_and_wins_over_an_equally_specific_network(
    host: str, network: str, roots: tuple[bytes, ...]
) -> None:
    terms = BOOK.terms(("127.0.0.1", 6969), host)
    assert (terms.site, terms.network, terms.roots) == ("sites[0]", network, roots)


def test_a_site_without_a_folder_serves_the_root_and_another_listener_is_no_site() -> None:
    assert BOOK.terms(("fe80::1", 69), "192.0.2.1").roots == (b"",)
    assert BOOK.terms(("fe80::1", 69), "192.0.2.1").site == "sites[1]"
    assert BOOK.terms(("0.0.0.0", 69), "192.0.2.1").site == ""


def test_a_folder_that_is_named_twice_is_looked_at_once() -> None:
    site = TftpSite("127.0.0.1:69", root="a", networks=(TftpNetwork("::/0", root="a"),))
    book = TermsBook(replace(TftpSettings(), sites=(site,)))
    assert book.terms(("127.0.0.1", 69), "::1").roots == (b"a", b"")


def test_without_networks_everybody_has_the_same_terms() -> None:
    book = TermsBook(TftpSettings())
    assert not book.has_sites
    assert book.terms(None, "192.0.2.1") is book.terms(None, "::1")


def test_one_port_without_a_list_of_clients_is_forgeable_and_has_windows_of_one_block_everywhere() -> None:
    book = TermsBook(replace(SETTINGS, single_port=True))
    for listener in (None, ("127.0.0.1", 6969)):
        for host in ("192.0.2.1", "10.1.2.3", "10.9.9.9", "2001:db8::7"):
            terms = book.terms(listener, host)
            assert (terms.forgeable, terms.policy.windowsize_max) == (True, 1)
    listed = TermsBook(replace(SETTINGS, single_port=True, allow=("10.0.0.0/8",)))
    for host, window in (("192.0.2.1", 64), ("10.9.9.9", 4)):
        terms = listed.terms(None, host)
        assert (terms.forgeable, terms.policy.windowsize_max) == (False, window)


def test_a_machine_counts_instead_of_its_network_and_keeps_the_folder_of_the_site() -> None:
    machines = (TftpMachine("52:54:00:00:00:01", root="one"), TftpMachine("52:54:00:00:00:02", windowsize_max=2))
    book = TermsBook(replace(SETTINGS, machines=machines))
    first = book.terms(None, "10.1.2.3", "52:54:00:00:00:01")
    assert (first.machine, first.network, first.roots) == ("machines[0]", "", (b"one", b""))
    assert (first.policy.windowsize_max, first.policy.blksize_max, first.policy.refused) == (64, 8192, frozenset())
    at_site = book.terms(("127.0.0.1", 6969), "10.9.9.9", "52:54:00:00:00:01")
    assert (at_site.site, at_site.roots) == ("sites[0]", (b"one", b"site", b""))
    assert book.terms(None, "192.0.2.1", "52:54:00:00:00:02").policy.windowsize_max == 2
    for mac in ("", "52:54:00:00:00:03"):
        assert book.terms(None, "10.9.9.9", mac).network == "networks[0]"


@pytest.mark.parametrize(
    ("text", "parts"),
    [("0.0.0.0:69", ("0.0.0.0", 69)), ("[::]:6969", ("::", 6969)), ("[fe80::1%eth0]:1", ("fe80::1", 1))],
)
def test_an_endpoint_is_what_getsockname_says(text: str, parts: tuple[str, int]) -> None:
    assert endpoint(text) == parts


def test_a_network_with_a_cap_or_a_rate_has_a_quota_of_its_own_in_each_site() -> None:
    lab = TftpNetwork("10.0.0.0/8", transfers=3, rate=1 << 20)
    site = TftpSite("127.0.0.1:6969", networks=(TftpNetwork("10.0.0.0/8", transfers=5),))
    book = TermsBook(TftpSettings(networks=(lab, TftpNetwork("10.1.0.0/16")), sites=(site,)))
    assert book.terms(None, "10.9.9.9").quota == Quota(" 10.0.0.0/8", 3, 1 << 20)
    assert book.terms(("127.0.0.1", 6969), "10.9.9.9").quota == Quota("sites[0] 10.0.0.0/8", 5, 0)
    assert book.terms(None, "10.1.9.9").quota is None
    assert book.terms(None, "192.0.2.1").quota is None


def test_what_has_no_rate_anywhere_is_not_rated() -> None:
    capped = TftpNetwork("10.0.0.0/8", transfers=3)
    rate = TftpNetwork("10.0.0.0/8", rate=1 << 20)
    assert not rated(TftpSettings()) and not rated(TftpSettings(networks=(capped,)))
    assert rated(TftpSettings(limits=TftpLimits(rate_total=1 << 20)))
    assert rated(TftpSettings(limits=TftpLimits(rate_per_client=1 << 20)))
    assert rated(TftpSettings(networks=(capped, rate)))
    assert rated(TftpSettings(sites=(TftpSite("127.0.0.1:6969", networks=(rate,)),)))
