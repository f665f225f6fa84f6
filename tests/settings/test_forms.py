"""Text forms: one canonical spelling, and a remedy for everything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from appliance.settings.forms import CHECKS, Unfit, endpoint_parts, port_range_parts


@pytest.mark.parametrize(
    ("kind", "text", "canonical"),
    [
        ("endpoint", "0.0.0.0:69", "0.0.0.0:69"),
        ("endpoint", "127.0.0.1:0", "127.0.0.1:0"),
        ("endpoint", "127.0.0.1:00069", "127.0.0.1:69"),
        ("endpoint", "[::]:65535", "[::]:65535"),
        ("endpoint", "[0:0::1]:69", "[::1]:69"),
        ("endpoint", "[fe80::1%eth0]:69", "[fe80::1%eth0]:69"),
        ("network", "192.0.2.0/24", "192.0.2.0/24"),
        ("network", "192.0.2.0/255.255.255.0", "192.0.2.0/24"),
        ("network", "192.0.2.7", "192.0.2.7"),
        ("network", "2001:DB8::/32", "2001:db8::/32"),
        ("network", "::/0", "::/0"),
        ("port-range", "1024-65535", "1024-65535"),
        ("port-range", "61000 - 61000", "61000-61000"),
        ("path", "/srv//tftp/", "/srv/tftp"),
        ("path", "//srv/./x", "/srv/x"),
        ("path", "/", "/"),
        ("relative-path", "pub//incoming/", "pub/incoming"),
        ("user", "_apt", "_apt"),
        ("user", "machine$", "machine$"),
        ("pattern", ".ht*", ".ht*"),
        ("ipv4", "192.0.2.7", "192.0.2.7"),
        ("public-address", "192.0.2.7", "192.0.2.7"),
        ("public-address", "FTP.example.org.", "ftp.example.org"),
        ("mac", "52-54-00-AB-cd-0f", "52:54:00:ab:cd:0f"),
        ("interface", "br0.100", "br0.100"),
        ("address-range", "192.0.2.50 - 192.0.2.99", "192.0.2.50-192.0.2.99"),
        ("address-range", "192.0.2.50-192.0.2.50", "192.0.2.50-192.0.2.50"),
        ("loader-path", "efi//snponly.efi", "efi/snponly.efi"),
        ("line", "Grüß Gott.", "Grüß Gott."),
        ("line", "", ""),
    ],
)
def test_a_good_text_gets_its_canonical_spelling(kind: str, text: str, canonical: str) -> None:
    assert CHECKS[kind](text) == canonical
    assert CHECKS[kind](canonical) == canonical


_ENDPOINT = "write ADDRESS:PORT, like 0.0.0.0:69 or [::]:69"
_NETWORK = "write a network like 192.0.2.0/24 or 2001:db8::/32, or an address"


@pytest.mark.parametrize(
    ("kind", "text", "what", "remedy"),
    [
        ("interface", "eth 1", "eth 1 is not the name of an interface", "write a name like eth1; `ip link` lists them"),
        (
            "address-range",
            "192.0.2.50",
            "192.0.2.50 is not a range of addresses",
            "write FIRST-LAST, like 192.0.2.50-192.0.2.99",
        ),
        ("address-range", "192.0.2.9-192.0.2.5", "192.0.2.9-192.0.2.5 runs backwards", "write 192.0.2.5-192.0.2.9"),
        (
            "loader-path",
            "a,b.efi",
            "a,b.efi has characters that not every firmware takes",
            "use letters, digits and _ . / + -",
        ),
        ("endpoint", "0.0.0.0", "0.0.0.0 has no port", "write 0.0.0.0:PORT"),
        ("endpoint", "[::1]", "[::1] has no port", "write [::1]:PORT"),
        ("endpoint", "tftp", "tftp has no port", _ENDPOINT),
        ("endpoint", "a:b]", "a:b] has no port", _ENDPOINT),
        ("endpoint", "2001:db8::1", "2001:db8::1: an IPv6 address stands in brackets", "write [2001:db8::1]:PORT"),
        ("endpoint", "x::y:69", "x::y:69 has no port", _ENDPOINT),
        ("endpoint", "1.2.3.4:", "1.2.3.4:: nothing is not a port", "write a port from 0 to 65535; 0 picks a free one"),
        (
            "endpoint",
            "1.2.3.4:tftp",
            "1.2.3.4:tftp: tftp is not a port",
            "write a port from 0 to 65535; 0 picks a free one",
        ),
        (
            "endpoint",
            "1.2.3.4:65536",
            "1.2.3.4:65536: 65536 is not a port",
            "write a port from 0 to 65535; 0 picks a free one",
        ),
        (
            "endpoint",
            "1.2.3.4:000069",
            "1.2.3.4:000069: 000069 is not a port",
            "write a port from 0 to 65535; 0 picks a free one",
        ),
        ("endpoint", "1.2.3.4:٣", "1.2.3.4:٣: ٣ is not a port", "write a port from 0 to 65535; 0 picks a free one"),
        ("endpoint", "*:69", "*:69: * is not a numeric address", "write 0.0.0.0:69 for IPv4 and [::]:69 for IPv6"),
        ("endpoint", ":69", ":69: nothing is not a numeric address", "write 0.0.0.0:69 for IPv4 and [::]:69 for IPv6"),
        (
            "endpoint",
            "localhost:69",
            "localhost:69: localhost is not a numeric address",
            "write 127.0.0.1:69 for IPv4 and [::1]:69 for IPv6",
        ),
        ("endpoint", "boot.lan:69", "boot.lan:69: boot.lan is not a numeric address", _ENDPOINT),
        ("endpoint", "300.0.0.1:69", "300.0.0.1:69: 300.0.0.1 is not a numeric address", _ENDPOINT),
        ("endpoint", "[1.2.3.4]:69", "[1.2.3.4]:69: [1.2.3.4] is not a numeric address", _ENDPOINT),
        ("endpoint", "[::1:69", "[::1:69: [::1 is not a numeric address", _ENDPOINT),
        ("endpoint", "[fe80::1%a]b]:69", "[fe80::1%a]b]:69: [fe80::1%a]b] is not a numeric address", _ENDPOINT),
        (
            "endpoint",
            "[::ffff:192.0.2.1]:69",
            "[::ffff:192.0.2.1]:69: an IPv4 address in IPv6 form",
            "write 192.0.2.1:PORT",
        ),
        (
            "endpoint",
            "[fe80::1]:69",
            "[fe80::1]:69: a link-local address needs its interface",
            "write [fe80::1%eth0]:PORT",
        ),
        ("network", "10.0.0.1/8", "10.0.0.1/8 has bits set beyond its prefix", "write 10.0.0.0/8"),
        ("network", "2001:db8::1/64", "2001:db8::1/64 has bits set beyond its prefix", "write 2001:db8::/64"),
        (
            "network",
            "::ffff:10.0.0.0/104",
            "::ffff:10.0.0.0/104: an IPv4 network in IPv6 form matches no client",
            "write 10.0.0.0/8",
        ),
        ("network", "lan", "lan is not a network", _NETWORK),
        ("network", "10.0.0.0/33", "10.0.0.0/33 is not a network", _NETWORK),
        ("port-range", "65535-61000", "65535-61000 runs backwards", "write 61000-65535"),
        ("port-range", "61000", "61000 is not a range of ports", "write FIRST-LAST, like 61000-65535"),
        (
            "port-range",
            "1023-2000",
            "1023-2000 is out of range",
            "write ports from 1024 to 65535, like 61000-65535",
        ),
        (
            "port-range",
            "61000-65536",
            "61000-65536 is out of range",
            "write ports from 1024 to 65535, like 61000-65535",
        ),
        ("path", "srv/tftp", "srv/tftp is not an absolute path", "write it in full, like /srv/srv/tftp"),
        ("path", "~/tftp", "~/tftp is not an absolute path", "write it in full, like /srv/tftp"),
        ("path", ".", ". is not an absolute path", "write it in full, like /srv/tree"),
        ("path", "/srv/../etc", '/srv/../etc contains ".."', "write /etc"),
        ("path", "", "an empty text", "write a path"),
        ("path", "/a\nb", "'/a\\nb' contains characters that cannot be printed", "write a path without them"),
        ("path", "/" + "a" * 4000, f"/{'a' * 39}... is too long", "write a path of at most 4000 bytes"),
        ("relative-path", "/incoming", "/incoming is not relative to the root", "write incoming"),
        ("relative-path", "/", "/ is not relative to the root", "write a name"),
        (
            "relative-path",
            "../incoming",
            "../incoming leaves the root",
            'write a path inside the root, without ".."',
        ),
        ("relative-path", "a/../b", "a/../b leaves the root", 'write a path inside the root, without ".."'),
        ("relative-path", ".", ". is the root itself", "write the name of a folder inside the root"),
        ("relative-path", "./", "./ is the root itself", "write the name of a folder inside the root"),
        ("user", "root", "workers never run as root", "write another account, or take the key out"),
        ("user", "Bad Name", "Bad Name is not the name of an account", "write a name like appliance-tftp"),
        ("user", "", "an empty text", "write the name of an account"),
        ("pattern", "a/*", "a/* is a pattern of a path", "write a pattern of a single name, like *.tmp"),
        ("pattern", "", "an empty text", "write a pattern like *.tmp"),
        ("mac", "52:54:00", "52:54:00 is not a MAC address", "write six pairs of digits, like 52:54:00:12:34:56"),
        (
            "mac",
            "5254.0012.3456",
            "5254.0012.3456 is not a MAC address",
            "write six pairs of digits, like 52:54:00:12:34:56",
        ),
        (
            "mac",
            "01:00:5e:00:00:01",
            "01:00:5e:00:00:01 is the address of no single machine",
            "write the MAC address of the machine's network card",
        ),
        (
            "mac",
            "00:00:00:00:00:00",
            "00:00:00:00:00:00 is the address of no single machine",
            "write the MAC address of the machine's network card",
        ),
        (
            "public-address",
            "::1",
            "::1 is neither an IPv4 address nor a host name",
            "write an address like 192.0.2.7, or ftp.example.org",
        ),
        (
            "public-address",
            "1.2.3",
            "1.2.3 is neither an IPv4 address nor a host name",
            "write an address like 192.0.2.7, or ftp.example.org",
        ),
        ("ipv4", "::1", "::1 is not an IPv4 address", "write an address like 192.0.2.7"),
        ("line", "a\r\n230 ok", "characters that cannot be printed", "write one line of printable characters"),
    ],
)
def test_an_unfit_text_is_refused_with_its_remedy(kind: str, text: str, what: str, remedy: str) -> None:
    with pytest.raises(Unfit) as caught:
        CHECKS[kind](text)
    assert (caught.value.what, caught.value.remedy) == (what, remedy)


def canonical_or_unfit(kind: str, text: str) -> str | Unfit:
    try:
        return CHECKS[kind](text)
    except Unfit as error:
        return error


@profile(deadline=None)
@given(st.sampled_from(sorted(CHECKS)), st.text() | st.text("0123456789abcdef.:/[]%-*"))
def test_any_text_is_canonical_or_unfit(kind: str, text: str) -> None:
    canonical = canonical_or_unfit(kind, text)
    if isinstance(canonical, Unfit):
        assert canonical.what and canonical.remedy
    else:
        assert CHECKS[kind](canonical) == canonical


@profile(deadline=None)
@given(st.ip_addresses(), st.integers(0, 65535))
def test_an_endpoint_comes_apart_into_what_it_was_made_of(address: object, port: int) -> None:
    text = f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}"
    canonical = canonical_or_unfit("endpoint", text)
    if isinstance(canonical, Unfit):
        assert "link-local" in canonical.what or "IPv6 form" in canonical.what
    else:
        assert endpoint_parts(canonical) == (str(address), port)


def test_a_range_holds_both_its_ends() -> None:
    ports = port_range_parts("61000-61002")
    assert list(ports) == [61000, 61001, 61002]
