"""ftp.terms: whose limits count for whom, and how often a client may come."""

from __future__ import annotations

from appliance.ftp import terms
from appliance.ftp.terms import Arrivals, Tariff, Terms
from appliance.settings.ftp import FtpLimits, FtpNetwork

EVERYBODY = Terms(8, 600)


def tariff(*networks: FtpNetwork) -> Tariff:
    return Tariff(FtpLimits(sessions_per_client=8, connections_per_minute=600, networks=networks))


def test_without_networks_everybody_has_the_same_terms() -> None:
    assert tariff().of("192.0.2.1") == tariff().of("2001:db8::1") == EVERYBODY


def test_the_most_specific_network_counts_alone() -> None:
    made = tariff(
        FtpNetwork("192.0.2.0/24", sessions=50, ban=False),
        FtpNetwork("192.0.2.7", sessions_per_client=200, connections_per_minute=0),
        FtpNetwork("2001:db8::/32", sessions_per_client=1),
    )
    assert made.of("192.0.2.1") == Terms(8, 600, False, "network 192.0.2.0/24", 50)
    assert made.of("192.0.2.7") == Terms(200, 0)
    assert made.of("2001:db8::1") == Terms(1, 600)
    assert made.of("198.51.100.1") == EVERYBODY


def test_so_many_connections_come_at_once_and_then_no_more_until_time_has_passed() -> None:
    arrivals = Arrivals(1)
    assert [arrivals.come("a", 3, 0.0) for _ in range(5)] == [True, True, True, False, False]
    assert arrivals.come("b", 3, 0.0)
    assert not arrivals.come("a", 3, 19.0)
    assert arrivals.come("a", 3, 20.5)
    assert not arrivals.come("a", 3, 21.0)


def test_no_limit_counts_nothing() -> None:
    arrivals = Arrivals(1)
    assert all(arrivals.come("a", 0, 0.0) for _ in range(1000))
    assert not arrivals._left


def test_permits_are_saved_up_for_a_minute_and_not_longer() -> None:
    arrivals = Arrivals(1)
    arrivals.come("a", 2, 0.0)
    assert [arrivals.come("a", 2, 86400.0) for _ in range(3)] == [True, True, False]


def test_each_worker_has_its_part_and_at_least_one() -> None:
    arrivals = Arrivals(4)
    assert [arrivals.come("a", 10, 0.0) for _ in range(4)] == [True, True, True, False]
    assert [arrivals.come("b", 1, 0.0) for _ in range(2)] == [True, False]


def test_the_table_of_clients_is_bounded() -> None:
    arrivals = Arrivals(1)
    for number in range(terms._MOST + 10):
        arrivals.come(str(number), 1, 0.0)
    assert len(arrivals._left) == terms._MOST
    assert arrivals.come("0", 1, 0.0)  # forgotten, so fresh
    assert not arrivals.come(str(terms._MOST), 1, 0.0)
