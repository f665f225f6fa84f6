"""custody.versions: names that sort as the versions followed each other, and that no client can take."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.custody import versions
from appliance.custody.rules import LONGEST, NameRules
from appliance.custody.wire import Reason

MOMENT = 1_795_244_226_123_456_789  # 2026-11-21, 06:57:06.123 UTC, in ns


def test_a_version_is_called_by_the_time_its_content_was_stored() -> None:
    assert versions.name(b"sw1.cfg", MOMENT, b"") == b"sw1.cfg.~20261121T065706.123Z~"
    assert versions.base(b"sw1.cfg.~20261121T065706.123Z~") == b"sw1.cfg"


def test_times_outside_the_calendar_are_the_nearest_inside() -> None:
    assert versions.name(b"a", -1, b"") == b"a.~19700101T000000.000Z~"
    assert versions.name(b"a", 1 << 80, b"") == b"a.~99991231T235959.999Z~"


def test_two_versions_of_one_millisecond_and_a_clock_that_went_back_keep_their_order() -> None:
    first = versions.name(b"a", MOMENT, b"")
    second = versions.name(b"a", MOMENT, first)
    assert (first, second) == (b"a.~20261121T065706.123Z~", b"a.~20261121T065706.124Z~")
    assert versions.name(b"a", 0, second) == b"a.~20261121T065706.125Z~"
    assert versions.name(b"a", MOMENT + 10**9, second) == b"a.~20261121T065707.123Z~"


@given(st.lists(st.integers(-(10**19), 10**21), max_size=30))
def test_versions_sort_as_they_followed_each_other_whatever_the_clock_says(times: list[int]) -> None:
    made = [b""]
    for moment in times:
        made.append(versions.name(b"name", moment, made[-1]))
    assert made == sorted(set(made)) and len(made) == len(times) + 1
    assert all(len(name) == len(b"name") + versions.LENGTH for name in made[1:])
    assert all(versions.base(name) == b"name" for name in made[1:])


def test_other_names_are_no_versions() -> None:
    for name in (b"a", b"a~", b".~20261121T065706.123Z~", b"a.~20261121T065706.123Z~x", b"a.~2026112\xb9T065706.123Z~"):
        assert versions.base(name) == b""


def test_a_client_cannot_take_the_name_of_a_version_but_may_read_it() -> None:
    rules = NameRules(("*.bak",))
    assert rules.judge(b"a.~20261121T065706.123Z~") is Reason.NAME_DENIED
    assert rules.judge_known(b"a.~20261121T065706.123Z~") is None
    assert rules.judge_known(b"a.bak.~20261121T065706.123Z~") is Reason.NAME_DENIED
    assert rules.judge_known(b".up-1.~20261121T065706.123Z~") is Reason.NAME_START
    assert rules.judge_known(b"a") is None


def test_names_leave_room_for_their_versions_where_there_are_any() -> None:
    longest = LONGEST - versions.LENGTH
    assert NameRules(()).judge(b"a" * LONGEST) is None
    assert NameRules((), versioned=True).judge(b"a" * longest) is None
    assert NameRules((), versioned=True).judge(b"a" * (longest + 1)) is Reason.NAME_LENGTH
    assert len(versions.name(b"a" * longest, MOMENT, b"")) == LONGEST
