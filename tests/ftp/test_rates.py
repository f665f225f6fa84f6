"""ftp.rates: never more than the rate, equal shares between clients, and nobody waits for ever."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.ftp.rates import TICK_S, Flow, Rates

BURST = 0.25


class Hose:
    """A transfer that moves whatever it may, as fast as it may, in pieces."""

    def __init__(self, rates: Rates, client: str, piece: int = 1 << 20) -> None:
        self.moved, self.piece, self.ready = 0, piece, True
        self.now = 0.0
        self.flow: Flow = rates.join(client, rates.session(0.0), 0.0, self.resume)

    def resume(self) -> None:
        self.ready = True
        self.run(self.now)

    def run(self, now: float) -> None:
        self.now = now
        while self.ready and (allowed := self.flow.may(self.piece, now)):
            self.flow.took(allowed)
            self.moved += allowed
        self.ready = False


def play(rates: Rates, hoses: list[Hose], seconds: float) -> None:
    """Turn the loop of a worker for so long, by a clock of our own."""
    for turn in range(1, int(seconds / TICK_S) + 1):
        now = turn * TICK_S
        for hose in hoses:
            hose.now = now
            hose.run(now)
        rates.tick(now)


def test_without_a_rate_everything_may_be_moved_at_once() -> None:
    rates = Rates(per_session=0, per_client=0, total=0, now=0.0)
    flow = rates.join("a", rates.session(0.0), 0.0, pytest.fail)
    for _ in range(3):
        assert flow.may(1 << 40, 0.0) == 1 << 40
        flow.took(1 << 40)
    assert rates.wait(0.0) == float("inf")
    rates.tick(1.0)
    flow.leave()


def test_a_flow_that_may_move_nothing_waits_for_the_tick() -> None:
    rates = Rates(per_session=0, per_client=0, total=1000, now=0.0)
    hose = Hose(rates, "a")
    hose.run(0.0)
    assert hose.moved == 250
    assert rates.wait(0.01) == 0.0
    rates.tick(0.0)
    assert hose.moved == 250 and rates.wait(0.02) == pytest.approx(TICK_S - 0.02)
    rates.tick(0.02)
    assert hose.moved == 250
    hose.now = 0.1
    rates.tick(0.1)
    assert hose.moved == 350


@pytest.mark.parametrize("kind", ["per_session", "per_client", "total"])
def test_a_rate_holds_for_what_it_is_named_after(kind: str) -> None:
    rates = Rates(**{"per_session": 0, "per_client": 0, "total": 0, "now": 0.0, kind: 100_000})
    hoses = [Hose(rates, client) for client in ("a", "a", "b", "b")]
    play(rates, hoses, 10)
    share = {"per_session": 1_000_000, "per_client": 500_000, "total": 250_000}[kind]
    assert [hose.moved for hose in hoses] == pytest.approx([share] * 4, rel=0.06)


def test_the_common_rate_is_shared_between_clients_and_not_between_transfers() -> None:
    rates = Rates(per_session=0, per_client=0, total=1_000_000, now=0.0)
    greedy = [Hose(rates, "greedy") for _ in range(20)]
    modest = Hose(rates, "modest")
    play(rates, [*greedy, modest], 20)
    assert modest.moved == pytest.approx(10_000_000, rel=0.06)
    assert sum(hose.moved for hose in greedy) == pytest.approx(10_000_000, rel=0.06)


def test_what_a_slow_client_leaves_is_the_others_share() -> None:
    rates = Rates(per_session=50_000, per_client=0, total=1_000_000, now=0.0)
    slow = Hose(rates, "slow")
    wide = [Hose(rates, "wide") for _ in range(30)]
    play(rates, [slow, *wide], 10)
    assert slow.moved == pytest.approx(500_000, rel=0.1)
    assert sum(hose.moved for hose in wide) > 8_500_000


def test_a_client_that_waits_for_its_own_rate_holds_up_nobody_else() -> None:
    rates = Rates(per_session=0, per_client=1000, total=1_000_000, now=0.0)
    spent = Hose(rates, "spent")
    spent.run(0.0)
    other = rates.join("other", rates.session(0.0), 0.0, pytest.fail)
    assert other.may(200, 0.0) == 200


def test_crumbs_are_not_given_and_nobody_starves() -> None:
    rates = Rates(per_session=0, per_client=0, total=40_000, now=0.0)
    hoses = [Hose(rates, f"client {number}") for number in range(100)]
    play(rates, hoses, 60)
    assert [hose.moved for hose in hoses] == pytest.approx([24_000] * 100, rel=0.4)


def test_who_comes_back_still_owes() -> None:
    rates = Rates(per_session=0, per_client=1000, total=0, now=0.0)
    for _ in range(3):
        flow = rates.join("a", rates.session(0.0), 0.0, lambda: None)
        flow.took(flow.may(250, 0.0))
        flow.leave()
    assert rates.join("a", rates.session(0.0), 0.0, lambda: None).may(1, 0.0) == 0
    for number in range(5000):
        rates.join(str(number), rates.session(0.0), 0.0, lambda: None).leave()
    assert len(rates._lately) <= 4096


def test_a_flow_that_leaves_while_it_waits_is_never_resumed() -> None:
    rates = Rates(per_session=0, per_client=0, total=1000, now=0.0)
    first = rates.join("a", rates.session(0.0), 0.0, pytest.fail)
    first.took(first.may(1000, 0.0))
    assert first.may(1, 0.0) == 0
    first.leave()
    rates.tick(10.0)
    assert rates.wait(10.0) == float("inf")


def test_one_transfer_of_a_client_may_leave_while_another_waits() -> None:
    rates = Rates(per_session=0, per_client=0, total=1000, now=0.0)
    first, second = Hose(rates, "a"), Hose(rates, "a")
    first.run(0.0)
    second.run(0.0)
    first.flow.leave()
    second.now = 1.0
    rates.tick(1.0)
    assert (first.moved, second.moved) == (250, 250)


@settings(max_examples=60, deadline=None)
@given(
    per_session=st.sampled_from([0, 7, 5000, 90_000]),
    per_client=st.sampled_from([0, 50, 20_000, 200_000]),
    total=st.sampled_from([0, 300, 64_000, 1_000_000]),
    clients=st.lists(st.sampled_from("abc"), min_size=1, max_size=9),
    seconds=st.floats(0.1, 3.0),
)
def test_nobody_ever_gets_more_than_the_rate_and_one_burst(
    per_session: int, per_client: int, total: int, clients: list[str], seconds: float
) -> None:
    rates = Rates(per_session=per_session, per_client=per_client, total=total, now=0.0)
    if not (per_session or per_client or total):
        return
    hoses = [Hose(rates, client, piece=9000) for client in clients]
    play(rates, hoses, seconds)
    by_client = dict.fromkeys(clients, 0)
    for client, hose in zip(clients, hoses, strict=True):
        by_client[client] += hose.moved
        assert not per_session or hose.moved <= per_session * (seconds + BURST) + 1
    assert not per_client or max(by_client.values()) <= per_client * (seconds + BURST) + 1
    assert not total or sum(by_client.values()) <= total * (seconds + BURST) + 1
