"""rates: never more than the rate and one burst, never less than is there, and fair. Time is an argument."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.observe.tally import Tally
from appliance.tftp import rates
from appliance.tftp.rates import PIECE_S, SAVED_S, Bucket, Flow, Pacer
from appliance.tftp.terms import Quota
from tests.observe.test_tally import family

RATE = 1 << 20
LAB = Quota(" 192.0.2.0/24", 0, RATE)


@dataclass
class Sender:
    """A transfer that always has more to send: pieces of `size` bytes, asked for `pause` seconds after the last."""

    pacer: Pacer
    client: str
    size: int
    quota: Quota | None = None
    pause: float = 0.0
    sent: int = 0
    asks_at: float = 0.0

    def __post_init__(self) -> None:
        self.flow: Flow = self.pacer.join(self, self.client, self.quota)
        assert self.size <= self.flow.piece


@dataclass
class Sent:
    at: float
    sender: Sender
    size: int


def simulate(pacers: list[Pacer], senders: list[Sender], seconds: float, start: float = 100.0) -> list[Sent]:
    """Everybody sends for so long; what was sent when."""
    now, trace = start, []
    for sender in senders:
        sender.asks_at = now
    while now < start + seconds:
        for sender in senders:
            if sender.asks_at <= now:
                sender.pacer.ask(sender.flow, sender.size, now)
                sender.asks_at = math.inf
        for pacer in pacers:
            for flow in pacer.release(now):
                sender = flow.owner
                sender.sent += sender.size
                sender.asks_at = now + sender.pause
                trace.append(Sent(now, sender, sender.size))
        coming = [pacer.due(now) for pacer in pacers] + [sender.asks_at for sender in senders]
        now = max(min(coming), now)
    return trace


def spend_what_is_saved(pacers: list[Pacer], senders: list[Sender]) -> None:
    """Until 101.0; as long as a bucket is full nobody waits, and there is nothing to be fair about."""
    simulate(pacers, senders, 1.0)
    for sender in senders:
        sender.sent = 0


def most_over(trace: list[Sent], rate: float) -> float:
    """How many bytes above `rate` went in the worst of all intervals."""
    worst = level = 0.0
    last = trace[0].at if trace else 0.0
    for sent in trace:
        level = max(0.0, level - (sent.at - last) * rate) + sent.size
        worst, last = max(worst, level), sent.at
    return worst


SIZES = st.integers(1500, 30_000)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), SIZES, st.booleans(), st.floats(0, 0.3)), min_size=1, max_size=8),
    st.sampled_from([(0, RATE), (RATE // 2, 0), (RATE // 2, RATE)]),
)
def test_no_interval_has_more_than_its_rate_and_one_burst(
    found: list[tuple[str, int, bool, float]], limits: tuple[int, int]
) -> None:
    per_client, total = limits
    pacer = Pacer(per_client, total, Tally())
    senders = [
        Sender(pacer, client, size, LAB if lab else None, max(pause, 0.001)) for client, size, lab, pause in found
    ]
    trace = simulate([pacer], senders, 3.0)
    if total:
        assert most_over(trace, total) <= total * SAVED_S + max(s.size for s in senders) + 1
    for client in "abc" if per_client else "":
        assert most_over([sent for sent in trace if sent.sender.client == client], per_client) <= (
            per_client * SAVED_S + max(s.size for s in senders) + 1
        )
    lab_trace = [sent for sent in trace if sent.sender.quota]
    assert most_over(lab_trace, RATE) <= RATE * SAVED_S + max(s.size for s in senders) + 1


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.sampled_from("abc"), SIZES, st.booleans()), min_size=1, max_size=10))
def test_nobody_starves_and_clients_that_have_enough_to_send_get_the_same(found: list[tuple[str, int, bool]]) -> None:
    pacer = Pacer(0, RATE, Tally())
    senders = [
        Sender(pacer, client, size, Quota(" 198.51.100.0/24", 0, 8 * RATE) if lab else None)
        for client, size, lab in found
    ]
    spend_what_is_saved([pacer], senders)
    simulate([pacer], senders, 2.0, start=101.0)
    clients: dict[tuple[str, bool], list[Sender]] = {}
    for sender in senders:
        clients.setdefault((sender.client, sender.quota is not None), []).append(sender)
    for group in (
        [sum(s.sent for s in members) for members in clients.values()],
        *([s.sent for s in members] for members in clients.values()),
    ):
        assert max(group) - min(group) <= 2 * 30_000 + 2 * max(s.size for s in senders)
    assert sum(sender.sent for sender in senders) >= RATE * 2.0 - max(s.size for s in senders)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.sampled_from("abcd"), SIZES), min_size=1, max_size=10))
def test_clients_of_a_network_share_its_rate_evenly_and_use_it_up(found: list[tuple[str, int]]) -> None:
    pacer = Pacer(0, 0, Tally())
    senders = [Sender(pacer, client, size, LAB) for client, size in found]
    spend_what_is_saved([pacer], senders)
    simulate([pacer], senders, 2.0, start=101.0)
    clients = [sum(s.sent for s in senders if s.client == client) for client in {s.client for s in senders}]
    assert max(clients) - min(clients) <= 4 * 30_000
    assert sum(clients) >= RATE * 2.0 - 30_000


def test_one_client_with_many_transfers_gets_no_more_of_the_total_than_one_with_a_single_one() -> None:
    pacer = Pacer(0, RATE, Tally())
    crowd = [Sender(pacer, "a", 4000) for _ in range(30)]
    single = Sender(pacer, "b", 4000)
    spend_what_is_saved([pacer], [*crowd, single])
    simulate([pacer], [*crowd, single], 8.0, start=101.0)
    assert single.sent == pytest.approx(sum(s.sent for s in crowd), rel=0.05)
    assert max(s.sent for s in crowd) - min(s.sent for s in crowd) <= 8000


def test_what_a_slow_client_does_not_use_goes_to_the_others() -> None:
    pacer = Pacer(0, RATE, Tally())
    slow, fast = Sender(pacer, "a", 1000, pause=0.1), Sender(pacer, "b", 4000)
    simulate([pacer], [slow, fast], 5.0)
    assert slow.sent >= 1000 * 45
    assert fast.sent + slow.sent >= RATE * 5.0


def test_a_client_that_comes_back_has_saved_no_turns() -> None:
    pacer = Pacer(0, RATE, Tally())
    steady, late = Sender(pacer, "a", 4000), Sender(pacer, "b", 4000)
    simulate([pacer], [steady], 3.0)
    before = steady.sent
    simulate([pacer], [steady, late], 2.0, start=103.0)
    assert steady.sent - before == pytest.approx(late.sent, rel=0.05)


@pytest.mark.parametrize("counts", [(1, 1), (3, 1), (1, 1, 2)])
def test_workers_together_keep_one_rate_and_lend_what_an_idle_one_does_not_use(counts: tuple[int, ...]) -> None:
    tallies = family(len(counts) + 1)  # the last one is idle
    for tally, count in zip(tallies, counts, strict=False):
        for _ in range(count):
            tally.take("a")
    pacers = [Pacer(RATE, RATE, tally) for tally in tallies]
    senders = [Sender(pacer, "a", 2000) for pacer, count in zip(pacers, counts, strict=False) for _ in range(count)]
    trace = simulate(pacers, senders, 5.0)
    total = sum(sender.sent for sender in senders)
    assert RATE * 4.9 <= total <= RATE * (5.0 + SAVED_S) + 2000 * len(senders)
    assert most_over(trace, RATE) <= RATE * SAVED_S + 2000 * len(senders) + 1


def test_a_bucket_follows_its_share_within_a_moment() -> None:
    share = [1.0]
    bucket = Bucket(1000, lambda: share[0])
    assert bucket.ready_at(5.0) == 5.0
    bucket.spend(1250)  # 250 were saved
    assert bucket.ready_at(5.0) == pytest.approx(6.0)
    share[0] = 0.5
    assert bucket.ready_at(5.5) == pytest.approx(6.5)  # 500 are still owed, at half the rate
    assert bucket.ready_at(6.5) == 6.5


def test_two_networks_of_one_client_draw_from_one_bucket() -> None:
    pacer = Pacer(RATE, 0, Tally())
    senders = [Sender(pacer, "a", 2000, quota) for quota in (None, LAB)]
    trace = simulate([pacer], senders, 3.0)
    assert most_over(trace, RATE) <= RATE * SAVED_S + 2000 + 1
    for sender in senders:
        pacer.leave(sender.flow)
    assert not pacer._users and not pacer._buckets


def test_a_next_file_of_a_client_does_not_begin_with_a_full_bucket() -> None:
    pacer, now = Pacer(RATE, 0, Tally()), 100.0
    went = 0
    for _ in range(1000):
        flow = pacer.join(None, "a", None)
        pacer.ask(flow, 2000, now)
        went += 2000 * len(pacer.release(now))
        pacer.leave(flow)
    assert went <= RATE * SAVED_S + 2000


def test_buckets_of_clients_without_transfers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "_IDLE_MAX", 3)
    pacer = Pacer(RATE, 0, Tally())
    for number in range(9):
        pacer.leave(pacer.join(None, str(number), None))
    assert len(pacer._idle) == 3 and not pacer._clients


def test_who_leaves_while_it_waits_is_not_released_and_holds_nobody_up() -> None:
    pacer = Pacer(0, RATE, Tally())
    flows = [pacer.join(number, str(number % 2), LAB if number < 4 else None) for number in range(8)]
    assert pacer.due(100.0) == math.inf
    for flow in flows:
        pacer.ask(flow, 100_000, 100.0)
    for flow in flows[::2]:
        pacer.leave(flow)
    now, released = 100.0, []
    while pacer.due(now) < math.inf:
        now = max(now, pacer.due(now))
        released += [flow.owner for flow in pacer.release(now)]
    assert sorted(released) == [1, 3, 5, 7]


def test_asking_again_while_waiting_keeps_the_turn_and_takes_the_new_amount() -> None:
    pacer = Pacer(0, 1 << 16, Tally())
    first, second = pacer.join("first", "a", None), pacer.join("second", "b", None)
    pacer.ask(first, 1 << 16, 100.0)
    pacer.release(100.0)
    pacer.ask(second, 4000, 100.0)
    pacer.ask(first, 4000, 100.0)
    pacer.ask(second, 1 << 16, 100.0)
    assert pacer.release(100.0) == []
    at = pacer.due(100.0)
    assert [flow.owner for flow in pacer.release(at)] == ["second"]
    assert pacer.due(at) == pytest.approx(at + 1, abs=0.01)


def test_a_pacer_concerns_only_transfers_with_a_rate() -> None:
    assert Pacer(RATE, 0, Tally()).concerns(None) and Pacer(0, RATE, Tally()).concerns(None)
    only_networks = Pacer(0, 0, Tally())
    assert only_networks.concerns(LAB)
    assert not only_networks.concerns(None) and not only_networks.concerns(Quota("x", 5, 0))


def test_a_piece_is_what_the_smallest_rate_gives_in_an_eighth_of_a_second() -> None:
    pacer = Pacer(4 * RATE, 2 * RATE, Tally())
    assert pacer.join(None, "a", LAB).piece == int(RATE * PIECE_S)
    assert pacer.join(None, "a", Quota("x", 5, 0)).piece == int(2 * RATE * PIECE_S)
