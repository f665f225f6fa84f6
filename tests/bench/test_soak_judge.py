"""The judgement of a soak: what excuses a broken attempt, what is growth, and that each bar can be missed."""

from __future__ import annotations

import random
from typing import Any

import pytest

from bench.soak import judge
from bench.soak.judge import Excuse, Sample
from bench.soak.schedule import KINDS, REPLACING, schedule

KILL = Excuse("kill tftp", "tftp", judge.GOOD, 100.0, 100.0)
FULL = Excuse("disk full", "ftp", ("put",), 200.0, 205.0, ("4", "5"))
WHO = ("tftp", 2, 77)


def record(**changes: Any) -> dict[str, Any]:
    return {"p": "tftp", "k": "get", "n": "f", "ok": True, "tries": [], "t0": 99.0, "t1": 101.0, "bytes": 5, **changes}


def found(*records: dict[str, Any]) -> judge.Tally:
    return judge.tally(records, [KILL, FULL], {"a1": 1, "b1": 1, "a2": 2})


def test_an_attempt_that_a_kill_broke_is_a_retry_and_no_failure() -> None:
    told = found(record(tries=[[99.5, 100.5, "silence"]]))
    assert (told.failed, dict(told.retried), dict(told.good)) == ([], {"kill tftp": 1}, {"tftp get": 1})
    assert told.size["tftp"] == 5


@pytest.mark.parametrize(
    "attempt",
    [[97.0, 99.9, "silence"], [100.1, 103.0, "silence"]],
)
def test_an_attempt_that_broke_before_or_after_it_has_failed_though_the_next_one_worked(attempt: list[Any]) -> None:
    assert len(found(record(tries=[attempt])).failed) == 1


def test_only_what_had_begun_before_a_reload_may_be_ended_with_its_drain() -> None:
    over = Excuse("drain over", "tftp", judge.GOOD, 120.0, 125.0, ("refused 0: Server is stopping",), before=103.0)

    def failed(attempt: list[Any]) -> list[str]:
        return judge.tally([record(tries=[attempt])], [over], {}).failed

    assert failed([100.0, 121.0, "refused 0: Server is stopping"]) == []
    assert failed([104.0, 121.0, "refused 0: Server is stopping"]), "it has begun with the new worker"
    assert failed([100.0, 110.0, "refused 0: Server is stopping"]), "it had time left"
    assert failed([100.0, 121.0, "silence"])


def test_a_kill_of_one_service_excuses_nothing_of_the_other() -> None:
    assert found(record(p="ftp", tries=[[99.5, 100.5, "no reply"]])).failed


def test_a_full_disk_excuses_refused_uploads_and_neither_silence_nor_downloads() -> None:
    refused = [[201.0, 201.1, "452 The disk is full. (STOR)"]] * 4
    told = found(record(p="ftp", k="put", ok=False, tries=refused))
    assert (told.failed, told.refused, told.good.total()) == ([], 1, 0)
    assert found(record(p="ftp", k="put", tries=[[201.0, 221.0, "no reply within 20 s"]])).failed
    assert found(record(p="ftp", k="get", tries=[[201.0, 201.1, "452 no"]])).failed


def test_a_transfer_that_never_worked_has_failed_even_if_faults_explain_each_attempt() -> None:
    told = found(record(ok=False, tries=[[99.5, 100.5, "silence"]] * 4))
    assert told.failed == ["tftp get f: given up after 4 attempts"]


def test_wrong_bytes_and_mixed_releases_are_found() -> None:
    told = found(
        record(wrong=True),
        record(k="pair", pair=["a1", "b1"]),
        record(k="pair", pair=["a2", "b1"]),
        record(k="pair", pair=["x", "x"]),
    )
    assert (len(told.wrong), told.pairs, len(told.mixed)) == (1, 3, 2)


def samples(private: float, noise: float, *, fds: float = 0.0, seconds: int = 600) -> list[Sample]:
    """One life, looked at each 5 s: what it grows in a second, and spikes."""
    chance = random.Random(7)
    found = []
    for t in range(0, seconds, 5):
        spike = chance.choice((0, 0, 0, 4000))
        kib = round(15_000 + min(t, 60) * 40 + t * private + chance.uniform(0, noise) + spike)
        found.append(Sample(float(t), WHO, kib, kib, kib, round(30 + chance.randrange(20) + t * fds), 300))
    return found


def test_a_process_that_has_warmed_up_and_only_fluctuates_does_not_grow() -> None:
    (one,) = judge.growth(samples(0.0, 400.0), 120, 180)
    assert abs(one.private) < one.may
    assert one.fds <= one.may_fds


@pytest.mark.parametrize("leak", [2.0, 5.0])  # KiB a second: what two to five transfers lose, a KiB each
def test_a_kib_lost_with_each_transfer_is_growth_within_ten_minutes(leak: float) -> None:
    (one,) = judge.growth(samples(leak, 400.0), 120, 180)
    assert one.private > one.may


def test_a_cache_that_a_short_run_does_not_fill_is_no_growth_and_more_than_that_is() -> None:
    for leak, grows in ((4.0, False), (16.0, True)):
        (one,) = judge.growth(samples(leak, 0.0), 120, 180, {"tftp": 2560.0})
        assert (one.private > one.may) is grows


def test_a_descriptor_lost_each_ten_seconds_is_found_below_sessions_that_come_and_go() -> None:
    (one,) = judge.growth(samples(0.0, 0.0, fds=0.1), 120, 180)
    assert one.fds > one.may_fds


def test_sockets_kept_for_a_while_are_no_leak_where_no_third_is_longer_than_that() -> None:
    kept = {"tftp": (64, 240.0)}
    (short,) = judge.growth(samples(0.0, 0.0, fds=0.1), 120, 180, {}, kept)
    assert short.fds <= short.may_fds
    (worse,) = judge.growth(samples(0.0, 0.0, fds=0.5), 120, 180, {}, kept)
    assert worse.fds > worse.may_fds
    (long,) = judge.growth(samples(0.0, 0.0, fds=0.06, seconds=1200), 120, 180, {}, kept)
    assert long.fds > long.may_fds


def test_a_leak_smaller_than_the_ebb_and_flow_of_one_life_is_found_in_many_lives_together() -> None:
    lives = judge.growth(samples(0.0, 0.0, fds=0.02), 120, 180) * 6
    assert all(one.fds <= one.may_fds for one in lives)
    assert len(missed({}, found(), lives)) == 1
    assert missed({}, found(), lives[:5]) == [], "too few to tell a leak from chance"
    assert missed({}, found(), judge.growth(samples(0.0, 0.0), 120, 180) * 6) == []


def test_a_descriptor_that_stays_when_all_have_left_is_found() -> None:
    fresh, staying = {"tftp": 24, "ftp": 20}, {"tftp": 64}
    assert judge.above({("tftp", 0, 7): 96, ("ftp", 1, 8): 28, ("gone", 0, 9): 99}, fresh, staying) == []
    assert judge.above({("tftp", 0, 7): 97}, fresh, staying) == ["tftp.0 (7): 97 descriptors, 24 when fresh"]
    assert judge.above({("ftp", 1, 8): 29}, fresh, staying) == ["ftp.1 (8): 29 descriptors, 20 when fresh"]


def test_who_did_not_live_long_enough_is_not_judged() -> None:
    assert judge.growth(samples(0.0, 0.0, seconds=250), 120, 180) == []


GOOD_FACTS: dict[str, Any] = {
    "exceptions": [], "unexpected": [], "zombies": [], "leftovers": [], "at_rest": [], "not_overcome": [],
    "kept_at_rest": [],
    "too_few": [], "exit_code": 0,
}  # fmt: skip


def missed(facts: dict[str, Any], told: judge.Tally, grown: list[judge.Growth]) -> list[str]:
    return [one.bar for one in judge.verdicts({**GOOD_FACTS, **facts}, told, grown) if not one.holds]


def test_a_soak_without_a_finding_holds_every_bar() -> None:
    assert missed({}, found(record(first=0.01)), judge.growth(samples(0.0, 0.0), 120, 180)) == []


@pytest.mark.parametrize("fact", [name for name in GOOD_FACTS if name != "exit_code"])
def test_one_finding_of_any_kind_misses_one_bar(fact: str) -> None:
    assert len(missed({fact: ["something"]}, found(), [])) == 1


def test_the_other_bars_can_be_missed_too() -> None:
    assert len(missed({"exit_code": 1}, found(), [])) == 1
    assert len(missed({}, found(record(first=10.5)), [])) == 1
    assert len(missed({}, found(), judge.growth(samples(5.0, 0.0), 120, 180))) == 1
    assert len(missed({}, found(), judge.growth(samples(0.0, 0.0, fds=0.1), 120, 180))) == 1
    assert len(missed({}, found(record(wrong=True)), [])) == 1


@pytest.mark.parametrize("seconds", [60.0, 600.0, 3600.0, 86_400.0])
def test_each_fault_comes_at_least_once_and_the_end_is_calm(seconds: float) -> None:
    told = schedule(seconds, 3)
    assert {kind for _at, kind in told} == {*KINDS, *REPLACING}
    assert max(at for at, _kind in told) < seconds * 0.97
    assert told == schedule(seconds, 3) == sorted(told)
    assert [kind for _at, kind in told] != [kind for _at, kind in schedule(seconds, 4)] or seconds == 60.0
